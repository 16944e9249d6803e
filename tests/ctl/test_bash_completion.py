"""The completions for bash are made from the tables of options, and bash takes them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from oneshotd.ctl.command import subparsers
from oneshotd.emit.cli.help import HELP
from tools.bash_completion import completion

FOLDER = Path(__file__).resolve().parents[2] / "etc" / "bash-completion"

#: Sources the file, and completes the last of the words, as bash does after a Tab; `compopt` works during
#: a real completion only.
SCRIPT = """
compopt() { echo FILES; }
source "$1"; function=$2; shift 2
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$function
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(name: str, *words: str) -> set[str]:
    """Return what a Tab offers for the last word; FILES stands for names of files."""
    done = subprocess.run(
        (*("bash", "-c", SCRIPT, "bash", str(FOLDER / name), "_" + name.replace("-", "_"), name), *words),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["oneshotctl", "oneshot-emit"])
def test_the_file_is_made_from_the_table(name: str) -> None:
    """A Tab would offer an option that does not exist, or lack one."""
    hint = f"python -m tools.bash_completion {name} > etc/bash-completion/{name}"
    assert (FOLDER / name).read_text(encoding="utf-8") == completion(name), hint


def test_subcommands_and_their_options_are_offered() -> None:
    """The operator would have to know them by heart."""
    assert completed("oneshotctl", "") == {*subparsers(), "--help", "--version"}
    for name, parser in subparsers().items():
        options = {each for action in parser._actions for each in action.option_strings}
        assert completed("oneshotctl", name, "--") == options - {"-h"}
    assert completed("oneshotctl", "ba") == {"backup"}
    assert completed("oneshotctl", "nonsense", "") == set()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("new-token", "--role", ""), {"emit", "scrape", "look", "admin"}),
        (("new-token", "--role", "s"), {"scrape"}),
        (("new-token", "--role", "="), {"emit", "scrape", "look", "admin"}),
        (("new-token", "--role", "=", "a"), {"admin"}),
        (("new-token", "--out", ""), {"FILES"}),
        (("new-token", "--out", "=", "a"), {"FILES"}),
        (("try-hook", ""), {"FILES"}),
        (("try-hook", "ci.toml", "pay"), {"FILES"}),
        (("try-hook", "--header", ""), set()),
        (("check-config", "--hooks", ""), {"FILES"}),
        (("backup", "--timeout", ""), set()),
        (("backup", "--socket", "/run/"), {"FILES"}),
    ],
)
def test_values_are_offered_where_they_are_known(words: tuple[str, ...], offered: set[str]) -> None:
    """A Tab would offer an option in the place of a value."""
    assert completed("oneshotctl", *words) == offered


def test_every_option_of_oneshot_emit_is_offered() -> None:
    """Its --help is its table; an option could be missing in the completion."""
    options = set(re.findall(r"(?m)^    (?:--[a-z-]+, )?(--[a-z-]+)", HELP.partition("Options\n")[2]))
    assert len(options) > 5
    assert options | {"--exec", "--help", "--version"} == completed("oneshot-emit", "--")
    assert completed("oneshot-emit", "--exec", "--", "/bin/") == {"FILES"}
    assert completed("oneshot-emit", "--value", "") == set()

"""Print the completion of a command for bash, from its table of options.

    python -m tools.bash_completion oneshotctl > etc/bash-completion/oneshotctl
    python -m tools.bash_completion oneshot-emit > etc/bash-completion/oneshot-emit

tests/ctl/test_bash_completion.py compares the files with the tables.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from oneshotd.ctl.command import subparsers
from oneshotd.emit.cli.help import HELP

HEAD = """\
# Completion of {name} for bash; made by `python -m tools.bash_completion {name}`.

{function}() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} words=
    # bash splits --option=value into three words.
    if [[ $current == = ]]; then current=; fi
    if [[ $previous == = ]]; then previous=${{COMP_WORDS[COMP_CWORD - 2]}}; fi
    COMPREPLY=()
"""

TAIL = """\
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -F {function} {name}
"""

#: What stands for a file in the usage of a command.
FILES = ("FILE", "PATH", "DIR")

#: Words to choose from, as the daemon's options have them.
WORDS = re.compile(r"[a-z]+(\|[a-z]+)+")


def ctl() -> Iterator[str]:
    """Yield the lines that set `words` for ``oneshotctl``."""
    parsers = subparsers()
    yield "if ((COMP_CWORD == 1)); then"
    yield f'    words="{" ".join(parsers)} --help --version"'
    yield "else"
    yield "    case ${COMP_WORDS[1]} in"
    for name, parser in parsers.items():
        actions = [action for action in parser._actions if action.option_strings]  # no public way leads there
        yield f"    {name})"
        takes_files = any(a.metavar in FILES for a in parser._actions if not a.option_strings)
        values = {each: _value(a) for a in actions for each in a.option_strings}
        yield from indented(options(values, takes_files=takes_files), 8)
        yield "        ;;"
    yield "    esac"
    yield "fi"


def emit() -> Iterator[str]:
    """Yield the lines that set `words` for ``oneshot-emit``, whose --help is its table."""
    values: dict[str, str | None] = {"--exec": None}
    for line in HELP.partition("Options\n")[2].partition("\n\nThe daemon's")[0].splitlines():
        for option, value in re.findall(r"(?<![\w-])(--[a-z-]+)(?: ([A-Z:]+))?", line[:24]):
            values[option] = value or None
    # What comes after -- is another command.
    yield 'if [[ " ${COMP_WORDS[*]:0:COMP_CWORD} " == *" -- "* ]]; then compopt -o default; return; fi'
    yield from options(values)


def _value(action: argparse.Action) -> str | None:
    """Return the form of an option's value: ``a|b``, FILE, another text, or None for a switch."""
    if action.nargs == 0:
        return None
    return "|".join(action.choices) if action.choices else str(action.metavar)


def options(values: Mapping[str, str | None], *, takes_files: bool = False) -> Iterator[str]:
    """Yield the lines that set `words` for options.

    :param values: dashed option -> the form of its value, as of `_value`.
    :param takes_files: whether words that are no options are names of files.
    """
    yield "case $previous in"
    files = [option for option, value in values.items() if value in FILES]
    if files:
        yield f"{' | '.join(files)}) compopt -o default; return ;;"
    chosen = {option: value for option, value in values.items() if value and WORDS.fullmatch(value)}
    for option, value in chosen.items():
        yield f'{option}) words="{value.replace("|", " ")}" ;;'
    if free := [option for option, value in values.items() if value and option not in (*files, *chosen)]:
        yield f"{' | '.join(free)}) ;;"
    names = " ".join(sorted(option for option in values if option.startswith("--")))
    file = "if [[ $current != -* ]]; then compopt -o default; return; fi; " if takes_files else ""
    yield f'*) {file}words="{names}" ;;'
    yield "esac"


def indented(lines: Iterable[str], columns: int) -> Iterator[str]:
    return (" " * columns + line for line in lines)


def completion(name: str) -> str:
    """Return the file for a command."""
    function = "_" + name.replace("-", "_")
    body = indented({"oneshotctl": ctl, "oneshot-emit": emit}[name](), 4)
    head, tail = HEAD.format(name=name, function=function), TAIL.format(name=name, function=function)
    return head + "".join(f"{line}\n" for line in body) + tail


if __name__ == "__main__":
    print(completion(sys.argv[1]), end="")

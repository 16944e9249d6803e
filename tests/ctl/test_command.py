"""`oneshotctl` itself: its help, its errors, and what it does when nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oneshotd import __version__
from oneshotd.ctl.command import SUBCOMMANDS, run

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "the following arguments are required: SUBCOMMAND"),
        ("nonsense", "argument SUBCOMMAND: invalid choice: 'nonsense'"),
        ("--loud new-token", "unrecognized arguments: --loud"),
        ("new-token --loud", "unrecognized arguments: --loud"),
    ],
)
def test_a_slip_is_one_line_and_status_2(words: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell a typing error from a failure."""
    assert run(words.split(), {}) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl: {why}") and err.count("\n") == 1


def test_help_has_every_subcommand_and_every_status(capsys: pytest.CaptureFixture[str]) -> None:
    """A subcommand could not be found."""
    assert run(["--help"], {}) == 0
    whole = capsys.readouterr().out
    for name, module in SUBCOMMANDS.items():
        assert name in whole and module.HELP in " ".join(whole.split())
        assert run([name, "--help"], {}) == 0
        text = capsys.readouterr().out
        assert module.DESCRIPTION in text
        for status, meaning in module.STATUSES.items():
            assert f"{status:<4}{meaning}" in text
        assert all(len(line) <= 110 for line in text.splitlines())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """A report of an error would not say which program it is about."""
    assert run(["--version"], {}) == 0
    assert capsys.readouterr().out == f"oneshotctl {__version__}\n"


def process(words: str, *, stdout: int, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    """Run the command as a process of its own; return its exit status and its standard error."""
    command = (sys.executable, "-m", "oneshotd.ctl", *words.split())
    done = subprocess.run(command, cwd=REPOSITORY, stdout=stdout, stderr=stderr, text=True, timeout=60)
    return done.returncode, done.stderr or ""


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    """`oneshotctl … | head` would print one."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert process("new-token", stdout=writing) == (1, "")
    finally:
        os.close(writing)


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    """A block of the access file would be cut off, and the status be 0."""
    with open("/dev/full", "wb") as full:
        said = process("new-token", stdout=full.fileno())
        assert said == (1, "oneshotctl new-token: No space left on device\n")
        assert process("nonsense", stdout=full.fileno(), stderr=full.fileno())[0] == 2

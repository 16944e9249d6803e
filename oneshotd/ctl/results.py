"""Exit statuses of ``oneshotctl``, errors that end it, and what it prints on standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

OK = 0
#: What was to be done has failed, or what was checked is wrong.
FAILED = 1
#: The command line is wrong, or the settings that the command needs are missing.
USAGE = 2
#: EX_TEMPFAIL of sysexits.h: a later attempt may succeed.
UNAVAILABLE = 75
#: EX_PROTOCOL of sysexits.h: the other side does not speak as expected.
PROTOCOL = 76
#: EX_NOPERM of sysexits.h: another user may do it.
NOT_ALLOWED = 77
#: As a shell: Ctrl-C.
INTERRUPTED = 130


class Failed(Exception):
    """A subcommand has failed; one line of text says why.

    :param status: the exit status.
    """

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


class UsageError(Exception):
    """A command line is wrong; the text says where."""


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError`, instead of a usage text of many lines and an exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parsed_by(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a ``type=`` for argparse that keeps the text of a ValueError."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def complain(text: str) -> None:
    """Print one line on standard error; do nothing if it is closed."""
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
    except OSError:
        # Otherwise Python flushes it again at the end, fails, and exits with status 120.
        sys.stderr = None

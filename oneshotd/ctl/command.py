"""The command line of ``oneshotctl``: a table of subcommands, and the run of one of them.

A subcommand is a module with `HELP` (one line), `DESCRIPTION` (paragraphs), `STATUSES` (exit status ->
meaning), `add_arguments(parser)` and `run(arguments, environ)`, which returns the exit status or raises
`Failed`. --help, the manual (debian/manpages.py) and the shell completion (tools/bash_completion.py) are
made from these.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from oneshotd import __version__
from oneshotd.ctl import audit, backup, check_config, health, move, new_token, try_hook
from oneshotd.ctl.results import FAILED, INTERRUPTED, USAGE, Failed, Parser, UsageError, complain

SUMMARY = "oneshotctl does the operator's work with oneshotd."


class Subcommand(Protocol):
    """The contents of a subcommand's module."""

    HELP: str
    DESCRIPTION: str
    STATUSES: dict[int, str]

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None: ...

    def run(self, arguments: argparse.Namespace, environ: Mapping[str, str], /) -> int: ...


#: Subcommand -> its module, in the order of --help.
SUBCOMMANDS: dict[str, Subcommand] = {
    "check-config": check_config,
    "new-token": new_token,
    "try-hook": try_hook,
    "health": health,
    "audit": audit,
    "backup": backup,
    "move": move,
}


def subparsers() -> Mapping[str, Parser]:
    """Return the parser of each subcommand, by its name."""
    return _parsers()[1]


def _parsers() -> tuple[Parser, Mapping[str, Parser]]:
    whole = Parser(prog="oneshotctl", description=SUMMARY)
    whole.add_argument("--version", action="version", version=f"oneshotctl {__version__}")
    group = whole.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", title="subcommands", required=True)
    parts = {}
    for name, module in SUBCOMMANDS.items():
        parts[name] = group.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog="exit status:\n" + "".join(f"  {n:<4}{text}\n" for n, text in module.STATUSES.items()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parts[name])
    return whole, parts


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line; return the exit status.

    :param environ: the environment; subcommands read it as the daemon would.
    """
    try:
        arguments = _parsers()[0].parse_args(words)
    except UsageError as error:
        complain(f"oneshotctl: {error} (--help lists subcommands and options)")
        return USAGE
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    name = arguments.subcommand
    try:
        status = SUBCOMMANDS[name].run(arguments, environ)
        sys.stdout.flush()
    except Failed as error:
        complain(f"oneshotctl {name}: {error}")
        return error.status
    except OSError as error:  # of standard output; the subcommands handle their own
        if not isinstance(error, BrokenPipeError):
            complain(f"oneshotctl {name}: {error.strerror}")
        # Python would flush it again at the exit, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status

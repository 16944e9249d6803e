"""``oneshotctl move``: copy a store into an empty one, of the same kind or another."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

from oneshotd.ctl.results import FAILED, OK, UNAVAILABLE, USAGE, Failed, complain, parsed_by
from oneshotd.daemon.option_values import StoreAddress
from oneshotd.errors import OneshotError, OutcomeUnknown, StoreInUse, StoreUnavailable
from oneshotd.store.transfer import IExport, copy
from oneshotd.store.transfer_factory import open_export, open_import
from oneshotd.store.transfer_records import NAMES, Record, StateRecord

T = TypeVar("T")

HELP = "copy a store into an empty one, SQLite or PostgreSQL"

DESCRIPTION = """\
Copies everything in the store SOURCE into the empty store TARGET: events with their seqs and times, the
cursor of each scraper and what it is owed, idempotency keys, losses. Both are written as for the daemon's
option store, sqlite:PATH or postgresql:DSN; files, and tables in an empty database, are created.

No daemon may run on either of them. A file is locked by its daemon; a database is refused until 10 s after
its last daemon was stopped. Before the copy is committed, it is read back and compared. If the command
fails or is interrupted, TARGET is empty as before. SOURCE is left as it is; start no daemon on it any
more, or events are delivered twice. Everything keeps its age; no time passes in a store without a daemon.

    systemctl stop oneshotd.socket oneshotd
    runuser -u oneshotd -- oneshotctl move \\
        sqlite:/var/lib/oneshotd/oneshotd.sqlite 'postgresql:host=db dbname=oneshotd'"""

STATUSES = {
    0: "everything is in TARGET, and was compared",
    1: "SOURCE is no store or damaged, TARGET is not empty, or one of them failed: TARGET is empty as before",
    2: "the command line is wrong",
    75: "a daemon works on one of them, or the database cannot be reached: try again later",
}

#: Seconds between two progress lines, on a terminal and elsewhere.
ON_TERMINAL = 0.2
ELSEWHERE = 10.0

_CLEAR = "\r\x1b[K"


class Progress:
    """One line on a terminal, which is rewritten; elsewhere a line for each table, and every 10 s.

    :param on: whether anything is printed.
    """

    def __init__(self, on: bool) -> None:
        self._on = on and sys.stderr is not None
        self._terminal = self._on and sys.stderr.isatty()
        self._interval = ON_TERMINAL if self._terminal else ELSEWHERE
        self._due = time.monotonic() + self._interval

    def report(self, what: str, table: type[Record], done: int, total: int) -> None:
        """Print what is done; see `transfer.copy`."""
        if not self._on or table is StateRecord:
            return
        ends = done == total and not self._terminal and total > 0
        if ends or time.monotonic() >= self._due:
            self._due = time.monotonic() + self._interval
            text = f"{what} {done} of {total} {NAMES[table]}"
            if self._terminal:
                print(_CLEAR + text, end="", file=sys.stderr, flush=True)
            else:
                complain(text)

    def clear(self) -> None:
        """Clear the line, so that another text can be printed."""
        if self._terminal:
            print(_CLEAR, end="", file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    address = parsed_by(StoreAddress.parse)
    parser.add_argument("source", metavar="SOURCE", type=address, help="the store that is read")
    parser.add_argument("target", metavar="TARGET", type=address, help="the store that is filled")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Copy the store.

    :raises Failed: the text says why; the status, whether a later attempt may succeed.
    """
    source, target = arguments.source, arguments.target
    if _is_same(source, target):
        raise Failed("SOURCE and TARGET are the same", USAGE)
    started = time.monotonic()
    progress = Progress(not arguments.quiet)
    try:
        with ExitStack() as stack:
            export = stack.enter_context(closing(_opened(open_export, source)))
            into = stack.enter_context(closing(_opened(open_import, target)))
            figures = copy(export, into, progress.report)
            with _uninterrupted():
                into.commit()
                note = _ended(export)
    except OutcomeUnknown as error:
        raise Failed(
            f"the connection was lost at COMMIT: TARGET has everything, or is empty ({error}); the same"
            " command again refuses a TARGET that is not empty"
        ) from None
    except OneshotError as error:
        raise Failed(f"{error}; TARGET is empty as before", FAILED) from None
    finally:
        progress.clear()
    if note is not None:
        complain(f"oneshotctl move: {note}")
    if not arguments.quiet:
        texts = [f"{figures[table]} {name}" for table, name in NAMES.items() if table is not StateRecord]
        print(f"copied and compared: {', '.join(texts)}, in {time.monotonic() - started:.1f} s")
    return OK


def _opened(open_store: Callable[[str, str], T], address: StoreAddress) -> T:
    try:
        return open_store(address.kind, address.path)
    except (StoreInUse, StoreUnavailable) as error:
        raise Failed(str(error), UNAVAILABLE) from None
    except OneshotError as error:
        raise Failed(str(error)) from None


def _ended(source: IExport) -> str | None:
    """End the transaction of the source; return what is wrong. The copy is complete."""
    try:
        source.end()
    except OneshotError as error:
        return f"everything was copied, but daemons of before were not shut out of SOURCE: {error}"
    return None


def _is_same(source: StoreAddress, target: StoreAddress) -> bool:
    if source.kind == target.kind == "sqlite":
        return os.path.realpath(source.path) == os.path.realpath(target.path)
    return source == target


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: psycopg would cancel the COMMIT, whose outcome were then unknown."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt

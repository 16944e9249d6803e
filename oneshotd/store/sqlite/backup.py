"""An online copy of the SQLite file: some pages at a time, and everything else goes on in between.

SQLite's backup follows what the same connection commits meanwhile, so the copy is the store as it is
at the end. The copy is on disk, under its own name, or it is not there at all.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from oneshotd.errors import CopyFailed
from oneshotd.store.sqlite.connection import primary_code, reason_of

#: Pages (4 KiB each) that are copied at a time: an append waits for so many at most.
STEP_PAGES = 64

#: Behind the name of a copy that is not whole yet.
PART = ".part"


def copy_pages(connection: sqlite3.Connection, path: str, between: Callable[[], object]) -> None:
    """Copy the database into the new file `path` + `PART`; what is in it is not synced yet.

    :param between: called between two steps; the connection may be used in it. What it raises ends
        the copy.
    :raises CopyFailed: there is such a file, or it cannot be written.
    """
    part = path + PART

    def step(status: int, remaining: int, total: int) -> None:
        if remaining:
            between()

    try:
        _check_free(path)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
    except OSError as error:
        raise _failed(path, error) from error
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as target:
            # A copy that is not whole is thrown away, so it needs no journal; it is synced at its end,
            # and not by this thread.
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            connection.backup(target, pages=STEP_PAGES, progress=step)
    except sqlite3.Error as error:
        _drop(part)
        full = primary_code(error) == sqlite3.SQLITE_FULL
        raise CopyFailed(f"cannot write the backup {path}: {reason_of(error)}", full=full) from error
    except BaseException:
        _drop(part)
        raise


def put_in_place(path: str) -> None:
    """Bring a copy to disk and give it its name.

    :raises CopyFailed: that cannot be done; then the copy is gone.
    """
    part = path + PART
    try:
        _sync(part)
        _check_free(path)
        os.rename(part, path)
        _sync(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        _drop(part)
        raise _failed(path, error) from error


def aside(reactor: IReactorFromThreads, work: Callable[[], None]) -> Deferred[None]:
    """Have work done in a thread of its own: bringing a large file to disk may take seconds."""
    done: Deferred[None] = Deferred()

    def run() -> None:
        try:
            work()
        except Exception as error:
            reactor.callFromThread(done.errback, error)
        else:
            reactor.callFromThread(done.callback, None)

    threading.Thread(target=run, name="oneshotd-copy", daemon=True).start()
    return done


def _check_free(path: str) -> None:
    if os.path.exists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _drop(part: str) -> None:
    with suppress(OSError):  # the disk itself may be gone; why it failed is the news
        os.unlink(part)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: str, error: OSError) -> CopyFailed:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CopyFailed(f"cannot write the backup {path}: {error.strerror}", full=full)

"""An online copy of the SQLite file, some pages at a time; other jobs run between two steps.

SQLite's backup includes what the same connection commits meanwhile, so the copy is the store as it is at
the end. A copy gets its name when it is complete and on disk; one that fails is deleted.
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

#: Pages (4 KiB each) copied in one step: an append waits for one step at most.
STEP_PAGES = 64

#: Suffix of the name of a copy that is not complete.
PART = ".part"


def copy_pages(connection: sqlite3.Connection, path: str, between: Callable[[], object]) -> None:
    """Copy the database into the new file `path` + `PART`, without syncing it.

    :param between: called between two steps; it may use the connection. An exception ends the copy.
    :raises CopyFailed: the file exists, or cannot be written.
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
            # An incomplete copy is deleted, so it needs no journal; `put_in_place` syncs it.
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
    """Sync a copy and give it its name.

    :raises CopyFailed: it cannot be synced or renamed; the copy is deleted.
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
    """Run work in a thread of its own: syncing a large file may take seconds."""
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
    with suppress(OSError):  # the disk may be gone; the error that ended the copy is reported
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

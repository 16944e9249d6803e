"""Read a configuration file again when it, or a file that it names, has changed.

`ReloadedFile` looks at the files once a second. A change is read when the files have been the same for
two looks, so that a file that is being written, or a certificate whose key follows a moment later, is not
read too early. A file that is bad leaves what was read before in force.

| state   | what the last reading found                    | read again                                     |
|---------|------------------------------------------------|------------------------------------------------|
| taken   | a good file, which is in force                 | when a file changes, or on request             |
| refused | a bad file; an earlier one is in force         | likewise, and every `RETRY_SECONDS`: a file    |
|         |                                                | that the bad one names is not always known     |
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.errors import ConfigError

T = TypeVar("T")

#: Seconds between two looks at the files.
LOOK_SECONDS = 1.0

#: Seconds after which a bad file is read again, although nothing seems to have changed.
RETRY_SECONDS = 10.0

#: Readings in one go until all files that the file names have been looked at before they were read.
_PASSES = 3

#: Changes when a file is written, replaced, or its permissions are changed; None: there is no such file.
Signature = tuple[int, ...] | None

#: Runs a function in a thread, as `twisted.internet.threads.deferToThread` does.
InThread = Callable[..., Deferred[Any]]


def signature(path: Path) -> Signature:
    """Return the signature of the file that `path` leads to, through all symbolic links."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@frozen
class Reading(Generic[T]):
    """The result of reading the files once.

    :param value: what was read; None if `error` says why it could not.
    :param seen: the signature of each file, taken before it was read.
    :param moving: a file has changed meanwhile.
    """

    value: T | None
    error: ConfigError | None
    seen: Mapping[Path, Signature]
    moving: bool


def read(
    load: Callable[[], tuple[T, Iterable[Path]]],
    files: Iterable[Path],
    sign: Callable[[Path], Signature] = signature,
) -> Reading[T]:
    """Read a file, and take the signatures of all files that it names.

    :param load: returns what it has read, and the files; raises ConfigError.
    :param files: those of the reading before.
    """
    watched = tuple(files)
    value, error, seen = None, None, {}
    for _ in range(_PASSES):
        seen = {path: sign(path) for path in watched}
        try:
            value, named = load()
        except ConfigError as found:
            value, error = None, found
            break
        watched = tuple(named)
        if seen.keys() >= set(watched):
            seen = {path: seen[path] for path in watched}
            break
    return Reading(value, error, seen, any(sign(path) != before for path, before in seen.items()))


class _Cause(enum.Enum):
    """Why a file is read again."""

    CHANGED = "changed"
    ASKED = "asked"
    RETRY = "retry"  # it was bad before


class ReloadedFile(Generic[T]):
    """A configuration file that is read at the start, and again when it changes.

    :param what: names the file in the log.
    :param load: reads it, in a thread; see `read`.
    :param take: puts a new value in force and returns the changes in words; raises ConfigError, without
        any effect, if the value cannot be put in force.
    :param now: returns Unix seconds.
    :ivar problem: why the last reading was refused; None: it was taken.
    :ivar taken_at: Unix seconds at which the value in force was read.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        what: str,
        path: Path,
        load: Callable[[], tuple[T, Iterable[Path]]],
        take: Callable[[T], str],
        clock: IReactorTime,
        in_thread: InThread,
        now: Callable[[], float],
        sign: Callable[[Path], Signature] = signature,
    ) -> None:
        self.what = what
        self.problem: str | None = None
        self.taken_at = 0.0
        self._load = load
        self._take = take
        self._clock = clock
        self._in_thread = in_thread
        self._now = now
        self._sign = sign
        self._seen: Mapping[Path, Signature] = {path: None}
        self._last: Mapping[Path, Signature] | None = None  # of the look before, if it differed
        self._call: IDelayedCall | None = None
        self._running = False
        self._reading = False
        self._asked = False  # while a reading was under way
        self._read_at = 0.0  # reactor seconds

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are watched."""
        return tuple(self._seen)

    def first(self) -> T:
        """Read the file for the start; the caller puts it in force.

        :raises ConfigError: file, line, key and reason.
        """
        found = read(self._load, self.files, self._sign)
        if found.error is not None or found.value is None:
            raise found.error or ConfigError(f"{self.what}: nothing was read")
        self._seen = found.seen
        self.taken_at = self._now()
        return found.value

    def start(self) -> None:
        """Begin to look at the files."""
        self._running = True
        self._read_at = self._clock.seconds()
        self._schedule()

    def stop(self) -> None:
        """Look no more; a reading that is under way has no effect."""
        self._running = False
        if self._call is not None and self._call.active():
            self._call.cancel()

    def ask(self) -> None:
        """Read the file now, whether it has changed or not."""
        if self._reading:
            self._asked = True
        elif self._running:
            self._read(_Cause.ASKED)

    def _schedule(self) -> None:
        self._call = self._clock.callLater(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._schedule()
        if self._reading:
            return
        now = {path: self._sign(path) for path in self._seen}
        if now == self._seen:
            self._last = None
            if self.problem is not None and self._clock.seconds() - self._read_at >= RETRY_SECONDS:
                self._read(_Cause.RETRY)
        elif now == self._last:
            self._read(_Cause.CHANGED)
        else:
            self._last = now

    def _read(self, cause: _Cause) -> None:
        self._reading = True
        self._last = None
        reading = self._in_thread(read, self._load, self.files, self._sign)
        reading.addCallback(self._judge, cause).addErrback(self._failed, cause).addBoth(self._done)

    def _judge(self, found: Reading[T], cause: _Cause) -> None:
        if not self._running:
            return
        self._seen = found.seen
        if found.moving and cause is not _Cause.ASKED:
            return  # the next look finds the change
        if found.error is not None or found.value is None:
            self._refuse(str(found.error), cause)
            return
        try:
            changes = self._take(found.value)
        except ConfigError as error:
            self._refuse(str(error), cause)
            return
        changes = changes or "nothing has changed"
        if self.problem is not None:
            changes = f"the error is gone; {changes}"
        self.problem = None
        self.taken_at = self._now()
        self._log.info("{what} was read again: {changes}", what=self.what, changes=changes)

    def _refuse(self, why: str, cause: _Cause) -> None:
        known, self.problem = self.problem, why
        if cause is not _Cause.RETRY or why != known:
            self._log.error(
                "{what} was read again and is not used, the one before stays in force: {why}",
                what=self.what,
                why=why,
            )

    def _failed(self, failure: Failure, cause: _Cause) -> None:
        known, self.problem = self.problem, repr(failure.value)
        if cause is not _Cause.RETRY or self.problem != known:
            self._log.failure("reading {what} again", failure, what=self.what)

    def _done(self, _: object) -> None:
        self._reading = False
        self._read_at = self._clock.seconds()
        if self._asked and self._running:
            self._asked = False
            self._read(_Cause.ASKED)

"""Back up the store on request, into one folder, one backup at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.errors import CopyFailed, Refused
from oneshotd.store.abilities import IBackup


@frozen(kw_only=True)
class Backup:
    """A backup that is on disk.

    :param file: its absolute path.
    :param size: bytes.
    :param seconds: the duration.
    """

    file: str
    size: int
    seconds: float


class Backups:
    """Makes backups in a folder.

    :param now: Unix seconds, for the file names, which sort by time.
    :param monotonic: seconds, for the duration.
    """

    _log = Logger()

    def __init__(
        self, store: IBackup, folder: str, now: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._folder = os.path.abspath(folder)
        self._now = now
        self._monotonic = monotonic
        self._running = False

    def make(self) -> Deferred[Backup]:
        """Make a backup; cancelling the Deferred does not stop it.

        :raises Refused: another backup is running (409), the disk is full (507), or the file cannot
            be written (503).
        :raises StoreUnavailable: the store cannot be read, or is being closed.
        """
        answer: Deferred[Backup] = Deferred()
        if self._running:
            answer.errback(Refused("a backup is already running", reason="busy", status=409))
            return answer
        self._running = True
        made = Deferred.fromCoroutine(self._make())
        made.addBoth(self._finished)
        made.chainDeferred(answer)
        return answer

    def _finished(self, result: Backup | Failure) -> Backup | Failure:
        self._running = False
        if isinstance(result, Failure):
            self._log.warn("backup failed: {error}", error=result.getErrorMessage())
        else:
            self._log.info(
                "backup {file}: {size} bytes in {seconds:.1f} s",
                file=result.file,
                size=result.size,
                seconds=result.seconds,
            )
        return result

    async def _make(self) -> Backup:
        began = self._monotonic()
        stamp = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        file = os.path.join(self._folder, f"oneshotd-{stamp}Z.sqlite")
        try:
            await self._store.backup(file)
        except CopyFailed as error:
            why, status = ("disk full: ", 507) if error.full else ("", 503)
            raise Refused(f"{why}{error}", reason="store", status=status) from error
        return Backup(file=file, size=os.path.getsize(file), seconds=self._monotonic() - began)

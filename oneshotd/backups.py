"""Copies of the store on demand, into one folder, one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.errors import CopyFailed, Refused
from oneshotd.store.interface import IStore


@frozen(kw_only=True)
class Backup:
    """A copy that is on disk.

    :param file: its absolute path.
    :param size: bytes.
    :param seconds: how long it took.
    """

    file: str
    size: int
    seconds: float


class Backups:
    """Makes copies in a folder.

    :param now: Unix seconds, for the names; they sort by time.
    :param monotonic: seconds, for how long it took.
    """

    _log = Logger()

    def __init__(
        self, store: IStore, folder: str, now: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._folder = os.path.abspath(folder)
        self._now = now
        self._monotonic = monotonic
        self._under_way = False

    def make(self) -> Deferred[Backup]:
        """Make a copy; it is finished also if the answer is cancelled.

        :raises Refused: one is being made (409), there is no room for it (507), or its file cannot be
            written (503).
        :raises StoreUnavailable: the store cannot be read, or is being closed.
        """
        answer: Deferred[Backup] = Deferred()
        if self._under_way:
            answer.errback(Refused("a backup is being made already", reason="busy", status=409))
            return answer
        self._under_way = True
        made = Deferred.fromCoroutine(self._make())
        made.addBoth(self._over)
        made.chainDeferred(answer)
        return answer

    def _over(self, result: Backup | Failure) -> Backup | Failure:
        self._under_way = False
        if isinstance(result, Failure):
            self._log.warn("no backup: {error}", error=result.getErrorMessage())
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
            why, status = ("no room: ", 507) if error.full else ("", 503)
            raise Refused(f"{why}{error}", reason="store", status=status) from error
        return Backup(file=file, size=os.path.getsize(file), seconds=self._monotonic() - began)

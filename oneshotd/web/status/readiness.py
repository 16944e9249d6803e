"""Checks whether the store can be written, at most once a second.

The check is a write with a sync. All requests of a second share one check, however often load
balancers, orchestrators and people send them.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from oneshotd.errors import OneshotError

#: Seconds for which the result of a probe is used.
MAX_AGE = 1.0

#: Seconds that the store has to answer a probe. After them the problem is that it does not answer;
#: this result stays, without further probes, until the store answers.
STORE_TIMEOUT = 5.0


class StoreProbe:
    """Tells why the store cannot be written, or None if it can.

    ========  ===============================================  ==============================
    state     when                                             a call of `problem`
    ========  ===============================================  ==============================
    unknown   no result, or it is older than `MAX_AGE`         starts a probe and waits for it
    probing   a probe runs, for less than `STORE_TIMEOUT`      waits for it
    overdue   a probe runs for longer                          returns at once
    known     the last result is not older than `MAX_AGE`      returns at once
    ========  ===============================================  ==============================

    :param check: writes something small; fails with `OneshotError` if the store cannot be written.
    """

    def __init__(self, check: Callable[[], Deferred[None]], clock: IReactorTime) -> None:
        self._check = check
        self._clock = clock
        self._probing = False
        self._result: str | None = None
        self._known_at: float | None = None
        self._waiting: list[Deferred[str | None]] = []

    def problem(self) -> Deferred[str | None]:
        """Return the problem in words, or None; fails only by a bug."""
        if self._known_at is not None and (self._probing or self._clock.seconds() - self._known_at < MAX_AGE):
            return succeed(self._result)
        waiting: Deferred[str | None] = Deferred()
        self._waiting.append(waiting)
        if not self._probing:
            self._probe()
        return waiting

    def _probe(self) -> None:
        self._probing, self._known_at = True, None
        overdue = self._clock.callLater(
            STORE_TIMEOUT, self._complete, f"store: no answer in {STORE_TIMEOUT:g} s"
        )

        def answered(result: Failure | None) -> None:
            self._probing = False
            if overdue.active():
                overdue.cancel()
            if not isinstance(result, Failure):
                self._complete(None)
            elif isinstance(result.value, OneshotError):
                self._complete(f"store: {result.value}")
            else:
                self._known_at = None
                self._share(result)

        self._check().addBoth(answered)

    def _complete(self, result: str | None) -> None:
        self._result, self._known_at = result, self._clock.seconds()
        self._share(result)

    def _share(self, result: str | Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(result)  # a Failure calls its errbacks

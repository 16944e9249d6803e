"""Whether the store can be written, found out at most once a second for all who ask.

The probe is a write with a sync. Load balancers, orchestrators and people ask as often as they
like, and all of them get the result of the same one.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from oneshotd.errors import OneshotError

#: Seconds for which the result of a probe is good.
MAX_AGE = 1.0

#: Seconds that the store has to answer a probe. After them the answer is that there is none; it
#: stays so, without further probes, until the store answers.
STORE_PATIENCE = 5.0


class StoreProbe:
    """Answers why the store cannot be written, or None where it can.

    ========  ================================================  ==========================
    state     when                                              asked
    ========  ================================================  ==========================
    unknown   no result, or it is older than `MAX_AGE`          starts a probe, then waits
    probing   a probe is under way, for less than the patience  waits for it
    overdue   a probe is under way for longer                   answered at once
    known     the last result is not older than `MAX_AGE`       answered at once
    ========  ================================================  ==========================

    :param check: writes something small; fails with `OneshotError` where that cannot be done.
    """

    def __init__(self, check: Callable[[], Deferred[None]], clock: IReactorTime) -> None:
        self._check = check
        self._clock = clock
        self._probing = False
        self._result: str | None = None
        self._known_at: float | None = None
        self._waiting: list[Deferred[str | None]] = []

    def problem(self) -> Deferred[str | None]:
        """Return the problem in words, or None; fails only by our own fault."""
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
            STORE_PATIENCE, self._complete, f"store: no answer in {STORE_PATIENCE:g} s"
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
        for one in waiting:
            one.callback(result)  # of a failure: its errback

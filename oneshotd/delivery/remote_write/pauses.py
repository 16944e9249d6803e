"""The pauses between the steps of a receiver, which other parts may end early."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime


class Pauses:
    """Waits, for one coroutine.

    :ivar was_woken: `wake` was called since `begin_step`.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._under_way: Deferred[None] | None = None
        self._is_idle = False
        self.was_woken = False

    def begin_step(self) -> None:
        """Forget the calls of `wake` so far: the step that begins now finds what they told of."""
        self.was_woken = False

    def wait(self, seconds: float, *, is_idle: bool = False) -> Deferred[None]:
        """Fire after so many seconds, or earlier.

        :param is_idle: `wake` ends the pause, also if it was called since `begin_step`.
        """
        if is_idle and self.was_woken:
            return succeed(None)
        done: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, self.end)

        def ended(_: None) -> None:
            if timer.active():
                timer.cancel()

        done.addCallback(ended)
        self._under_way, self._is_idle = done, is_idle
        return done

    def wake(self) -> None:
        """End the pause if it is an idle one."""
        self.was_woken = True
        if self._is_idle:
            self.end()

    def end(self) -> None:
        """End the pause, whichever it is."""
        done, self._under_way = self._under_way, None
        if done is not None:
            done.callback(None)

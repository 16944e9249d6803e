"""Requests of samples that go again after the receiver was away, and what the answers mean."""

from __future__ import annotations

from collections.abc import Sequence

from oneshotd.delivery.remote_write.batch_size import BatchSize
from oneshotd.delivery.remote_write.encoding import Encoder, fitting
from oneshotd.delivery.remote_write.figures import Figures
from oneshotd.delivery.remote_write.replay import Replay
from oneshotd.delivery.remote_write.verdicts import Verdict


class ReplayRequests:
    """Plans the requests of `replay`.

    One that is too large is halved. One that is refused is dropped as a whole: a receiver that takes no
    sample twice has kept them, and to find out which ones would take hundreds of requests, before any new
    event.
    """

    def __init__(self, replay: Replay, encoder: Encoder, figures: Figures) -> None:
        self._replay = replay
        self._encoder = encoder
        self._figures = figures
        self._size = BatchSize()

    def due(self) -> Sequence[bytes]:
        """Return the encoded samples of the next request; none: none has to go again."""
        samples = self._replay.next(self._size.samples)
        encoded = (self._encoder.sample(each.series, each.value, each.at) for each in samples)
        return fitting(encoded, self._size.bytes)

    def answered(
        self, fields: Sequence[bytes], verdict: Verdict, now: float, *, reconnected: bool = False
    ) -> bool:
        """Note the answer to a request; return whether the next one may follow at once.

        :param fields: the samples of the request.
        :param now: steady seconds.
        :param reconnected: it came over another connection than the answer before.
        """
        if verdict in (Verdict.AGAIN, Verdict.DOUBTFUL, Verdict.MISCONFIGURED):
            self._replay.was_away()
            return False
        if verdict is Verdict.TOO_LARGE and not self._size.too_large(len(fields), sum(map(len, fields))):
            return True
        self._replay.sent(len(fields), now, reconnected=reconnected)
        if verdict is Verdict.ACCEPTED:
            self._size.accepted([])
            self._figures.replayed += len(fields)
        return True

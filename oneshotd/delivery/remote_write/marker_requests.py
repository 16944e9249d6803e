"""Requests of stale markers: which are due, and what the answers mean."""

from __future__ import annotations

from collections.abc import Sequence

from oneshotd.delivery.remote_write.batch_size import BatchSize
from oneshotd.delivery.remote_write.figures import Figures
from oneshotd.delivery.remote_write.markers import Markers
from oneshotd.delivery.remote_write.verdicts import SPLIT, Verdict
from oneshotd.store.interface import Reservation


class MarkerRequests:
    """Plans the requests of markers; a marker that is refused is dropped."""

    def __init__(self, markers: Markers, figures: Figures) -> None:
        self._markers = markers
        self._figures = figures
        self._size = BatchSize()

    def due(self, reservation: Reservation) -> list[tuple[str, int]]:
        """Return markers to send now; none if there are pending events that were not read."""
        if reservation.remaining:
            return []
        pending = reservation.pending
        first: dict[str, int] = {}
        for series, at in zip(pending.series, pending.ats, strict=True):
            first[series] = min(at, first.get(series, at))
        return self._markers.due(reservation.now, first, self._size.samples)

    def answered(self, markers: Sequence[tuple[str, int]], verdict: Verdict) -> bool:
        """Note the answer to a request; return whether the next one may follow at once."""
        if verdict in (Verdict.ACCEPTED, Verdict.DISCARDED):
            self._size.accepted([])
            self._end(markers, "accepted" if verdict is Verdict.ACCEPTED else "refused")
            return True
        halves = verdict in SPLIT or (verdict is Verdict.DOUBTFUL and self._size.doubt())
        if halves and not self._size.halve(len(markers)):
            self._end(markers, "refused")
        return verdict in SPLIT

    def _end(self, markers: Sequence[tuple[str, int]], how: str) -> None:
        self._markers.done(markers)
        self._figures.markers[how] += len(markers)

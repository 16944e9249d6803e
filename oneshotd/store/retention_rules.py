"""The rules of retention: expired events, scrapers unseen for the hold, and the bounds of the log.

Pure: a back end reads the figures, asks here, and writes the result in one transaction. The log is only
cut at its old end, at the end of a segment. Owed events are copies, which a cut leaves alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from oneshotd.store.interface import Loss
from oneshotd.store.limits import Limits

#: Reasons of a loss.
AWAY = "away"
LOG_FULL = "log full"


@frozen
class SegmentEnd:
    """The end of a segment of the log.

    :param last: seq of its last event.
    :param total_size: bytes of text that were ever logged up to there.
    :param up: up-time (ms) of its acceptance.
    """

    last: int
    total_size: int
    up: int


@frozen
class Cut:
    """A cut of the log.

    :param horizon: seq up to which events are deleted; 0: none are.
    :param size: `SegmentEnd.total_size` at the horizon.
    :param segments: how many segments are deleted.
    """

    horizon: int = 0
    size: int = 0
    segments: int = 0


def fits(events: int, size: int, limits: Limits) -> bool:
    """Return whether a log of so many events and bytes of text is within its bounds."""
    return events <= limits.max_events and size <= limits.max_bytes


def cut_to_bounds(
    segments: Iterable[SegmentEnd], *, head: int, total_size: int, reserved: int | None, limits: Limits
) -> Cut:
    """Cut a log that exceeds its bounds until it fits.

    Reserved events stay, so that a log may exceed its bounds while a delivery is in flight: by what is
    appended during one lease.

    :param segments: from the oldest on; they are read only as far as the cut needs.
    :param head: seq of the newest event.
    :param total_size: bytes of text that were ever logged.
    :param reserved: lowest cursor that a delivery in flight may fall back to.
    """
    cut = Cut()
    for segment in segments:
        if reserved is not None and segment.last > reserved:
            break
        cut = Cut(segment.last, segment.total_size, cut.segments + 1)
        if fits(head - segment.last, total_size - segment.total_size, limits):
            break
    return cut


def cut_expired(
    segments: Iterable[SegmentEnd], *, cutoff: int, head: int, cursors: Iterable[int], reserved: int | None
) -> Cut:
    """Cut the segments that are older than the hold and that no scraper has yet to read.

    :param segments: from the oldest on.
    :param cutoff: up-time (ms) one hold ago.
    :param cursors: of the live scrapers.
    :param reserved: lowest cursor that a delivery in flight may fall back to.
    """
    bound = min([head, *cursors, *([] if reserved is None else [reserved])])
    cut = Cut()
    for segment in segments:
        if segment.up >= cutoff or segment.last > bound:
            break
        cut = Cut(segment.last, segment.total_size, cut.segments + 1)
    return cut


def losses_of(cut: Cut, cursors: Mapping[str, int]) -> list[Loss]:
    """Return what live scrapers lose by a cut: the events behind the horizon that they had not read.

    :param cursors: name of each live scraper -> its cursor; a loss moves the cursor to the horizon.
    """
    return [
        Loss(scraper=name, reason=LOG_FULL, events=cut.horizon - cursor)
        for name, cursor in cursors.items()
        if cursor < cut.horizon
    ]


def is_expired(seen_up: int, cutoff: int, in_flight: bool) -> bool:
    """Return whether a scraper is removed: unseen for the hold, and no delivery to it is in flight.

    :param seen_up: up-time (ms) of its last scrape.
    :param cutoff: up-time (ms) one hold ago.
    """
    return seen_up < cutoff and not in_flight


def loss_of_removal(name: str, live: bool, pending: int) -> Loss | None:
    """Return what a scraper loses by its removal: its pending events, if events are kept for it."""
    return Loss(scraper=name, reason=AWAY, events=pending) if live and pending else None

"""Find what a receiver has got lately, after a start, or when this daemon takes over from another one."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from oneshotd.core.events import Event
from oneshotd.core.filters import Selection
from oneshotd.store.interface import IStore, Reservation

#: Seconds for which a receiver shows a series after its newest sample: the lookback of Prometheus.
LOOKBACK = 300.0

#: Events of one page, and of all of them; and the characters of the series of those that are returned.
PAGE, MAX_EVENTS, MAX_CHARACTERS = 2000, 200_000, 1 << 25


@frozen
class Recovered:
    """What a receiver has got lately.

    :param latest: series -> its newest delivered event. Series with pending events are left out: whether
        those were sent already is not known.
    :param replay: delivered events that it may have lost, the oldest first.
    """

    latest: dict[str, Event]
    replay: list[Event]


async def recover(
    store: IStore,
    reservation: Reservation,
    visible: float,
    replay: float,
    was_sent: Callable[[str], bool] = lambda series: True,
) -> Recovered:
    """Read the events that were delivered lately.

    :param reservation: of the receiver, with its pending events.
    :param visible: seconds; 0: no markers are needed.
    :param replay: seconds before the newest delivered event; 0: none are needed.
    :param was_sent: returns whether a series is one that the receiver gets.
    :raises StoreUnavailable: the store could not be read.
    """
    pending = reservation.pending
    undelivered, waiting = set(pending.seqs), set(pending.series)
    since = reservation.now - int((LOOKBACK + visible) * 1000) if visible else reservation.now
    latest: dict[str, Event] = {}
    again: list[Event] = []
    newest: int | None = None
    before: int | None = None
    read = characters = 0
    while read < MAX_EVENTS and characters < MAX_CHARACTERS:
        page = await store.recent(Selection(), before, PAGE)
        read += page.looked
        for event in page.events:
            if event.seq > pending.cursor or event.seq in undelivered:
                continue
            newest = event.at if newest is None else max(newest, event.at)
            if not was_sent(event.series):
                continue
            characters += len(event.series)
            if replay and event.at >= newest - int(replay * 1000):
                again.append(event)
            if visible and event.at >= since and event.series not in waiting:
                latest.setdefault(event.series, event)
        last = page.events[-1].at if page.events else reservation.now
        until = since if newest is None or not replay else min(since, newest - int(replay * 1000))
        if page.next is None or last < until or not (visible or replay):
            break
        before = page.next
    return Recovered(latest, again[::-1])

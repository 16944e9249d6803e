"""Find what a receiver has got lately, after a start, or when this daemon takes over from another one."""

from __future__ import annotations

from attrs import frozen

from oneshotd.core.events import Event
from oneshotd.core.filters import Selection
from oneshotd.store.interface import IStore, Reservation

#: Seconds for which a receiver shows a series after its newest sample: the lookback of Prometheus.
LOOKBACK = 300.0

#: Events of one page, and of all of them.
PAGE, MAX_EVENTS = 2000, 200_000


@frozen
class Recovered:
    """What a receiver has got lately.

    :param latest: series -> its newest delivered event. Series with pending events are left out: whether
        those were sent already is not known.
    :param replay: delivered events that it may have lost, the oldest first.
    """

    latest: dict[str, Event]
    replay: list[Event]


async def recover(store: IStore, reservation: Reservation, visible: float, replay: float) -> Recovered:
    """Read the events that were delivered lately.

    :param reservation: of the receiver, with its pending events.
    :param visible: seconds; 0: no markers are needed.
    :param replay: seconds before the newest delivered event; 0: none are needed.
    :raises StoreUnavailable: the store could not be read.
    """
    pending = reservation.pending
    undelivered, waiting = set(pending.seqs), set(pending.series)
    since = reservation.now - int((LOOKBACK + visible) * 1000) if visible else reservation.now
    latest: dict[str, Event] = {}
    again: list[Event] = []
    newest: int | None = None
    before: int | None = None
    read = 0
    while read < MAX_EVENTS:
        page = await store.recent(Selection(), before, PAGE)
        read += page.looked
        for event in page.events:
            if event.seq > pending.cursor or event.seq in undelivered:
                continue
            newest = event.at if newest is None else max(newest, event.at)
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

"""What a receiver has got lately, as the log tells after a start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred, succeed

from oneshotd.core.events import Event, Pending
from oneshotd.core.filters import Selection
from oneshotd.delivery.remote_write import recovery as module
from oneshotd.delivery.remote_write.recovery import LOOKBACK, Recovered, recover
from oneshotd.store.interface import IStore, LogPage, Reservation

NOW = 1_700_000_000_000


class Log:
    """A log of events; counts how often it was read."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self.pages = 0

    def recent(self, selection: Selection, before: int | None, limit: int) -> Deferred[LogPage]:
        """Return a page, as `IStore.recent` does."""
        self.pages += 1
        older = [event for event in self._events[::-1] if before is None or event.seq < before]
        page = older[:limit]
        following = page[-1].seq if len(older) > limit else None
        return succeed(LogPage(events=page, looked=len(page), next=following))


def event(seq: int, seconds: float, series: str) -> Event:
    """An event that was accepted so many seconds ago."""
    return Event(seq, NOW - int(seconds * 1000), series, None)


def found(log: Log, *, visible: float = 15.0, replay: float = 20.0, pending: Pending) -> Recovered:
    reservation = Reservation(token=1, pending=pending, remaining=1, now=NOW)
    return ThreadPump().get(Deferred.fromCoroutine(recover(cast(IStore, log), reservation, visible, replay)))


#: 3 is owed, 6 and 7 were read, 8 was not.
EVENTS = [
    event(1, 9, "a"),
    event(2, 8, "a"),
    event(3, 7, "b"),
    event(4, 6, "c"),
    event(5, 5, "d"),
    event(6, 4, "c"),
    event(7, 3, "e"),
    event(8, 2, "f"),
]
PENDING = Pending(
    seqs=[3, 6, 7],
    series=["b", "c", "e"],
    values=[None] * 3,
    ats=[EVENTS[seq - 1].at for seq in (3, 6, 7)],
    owed=1,
    owed_total=1,
    cursor=5,
    end=7,
)


def seqs(events: Sequence[Event]) -> list[int]:
    return [each.seq for each in events]


@pytest.mark.parametrize("page", [1, 2, 3, 8, 100])
def test_what_was_delivered_lately(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker would go before a pending event of its series, or none at all; or an event would go twice."""
    monkeypatch.setattr(module, "PAGE", page)
    got = found(Log(EVENTS), pending=PENDING)
    assert {series: each.seq for series, each in got.latest.items()} == {"a": 2, "d": 5}
    assert seqs(got.replay) == [1, 2, 4, 5], "in their order, as they are sent again so"


def test_what_is_older_than_a_receiver_shows_needs_no_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    times = (LOOKBACK + 60, LOOKBACK + 15.001, LOOKBACK + 14, 100)
    log = Log([event(seq, seconds, f"s{seq}") for seq, seconds in enumerate(times, 1)])
    got = found(log, replay=0.0, pending=Pending(cursor=4))
    assert sorted(got.latest) == ["s3", "s4"]
    assert got.replay == []
    assert log.pages == 3, "what is older is not read"


def test_what_goes_again_counts_from_the_newest_delivered_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon may have been away for hours: the receiver's last accepted events are meant."""
    monkeypatch.setattr(module, "PAGE", 1)
    times = (8000, 7021, 7020, 7000, 1)
    log = Log([event(seq, seconds, "a") for seq, seconds in enumerate(times, 1)])
    got = found(log, pending=Pending(seqs=[5], series=["a"], values=[None], ats=[NOW], cursor=4, end=5))
    assert (got.latest, seqs(got.replay)) == ({}, [3, 4])


def test_what_was_never_sent_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A series beyond `max-labels` has no marker, and is asked for page by page: there may be 200,000."""
    reservation = Reservation(token=1, pending=PENDING, remaining=1, now=NOW)
    log = cast(IStore, Log(EVENTS))
    got = ThreadPump().get(
        Deferred.fromCoroutine(recover(log, reservation, 15.0, 20.0, lambda series: series != "a"))
    )
    assert (list(got.latest), seqs(got.replay)) == (["d"], [4, 5])


def test_what_is_found_is_bounded_by_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    monkeypatch.setattr(module, "MAX_CHARACTERS", 10)
    got = found(Log([event(seq, 10 - seq, "abcd") for seq in range(1, 9)]), pending=Pending(cursor=8))
    assert seqs(got.replay) == [6, 7, 8]


def test_without_markers_and_replay_nothing_is_found() -> None:
    log = Log(EVENTS)
    assert found(log, visible=0.0, replay=0.0, pending=PENDING) == Recovered({}, [])
    assert log.pages == 1

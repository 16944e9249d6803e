"""Event time over many scrapes, against what Prometheus makes of them.

If these fail, an event is dropped by the scraper as out of order or out of bounds, or is counted
twice, or never.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import Any

from attrs import define, evolve, field
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples

from oneshotd.core.events import Event, Pending, Sample
from oneshotd.core.sampling.event_time import MAX_AHEAD, plan_event_time, shown_after
from oneshotd.core.sampling.plan import Caps, Plan

A, B, C = 'e{x="a"}', 'e{x="b"}', "other"
NOW = 1_700_000_000_000
MINUTE = 60_000


@define
class Tsdb:
    """What Prometheus makes of a response.

    A sample that it has is no trouble if it is the series' newest; an older one it has is out of
    order, and dropped. Either way nothing is counted twice.
    """

    stored: dict[str, dict[int, str]] = field(factory=lambda: defaultdict(dict))

    def scrape(self, response: list[Sample], now_ms: int, *, several: bool, again: bool) -> None:
        runs = [series for series, _ in groupby(sample.series for sample in response)]
        assert len(runs) == len(set(runs)), "the samples of a series do not stand together"
        assert several or len(runs) == len(response), "a series twice"
        latest = {series: max(kept) for series, kept in self.stored.items() if kept}
        for series, value, at in response:
            assert at is not None
            assert at <= now_ms + 10 * MINUTE, "too far ahead"
            assert at >= now_ms - 60 * MINUTE, "out of bounds: it has its own metrics at this time"
            if again and self.stored[series].get(at) == value:
                continue
            assert at > latest.get(series, -1), "out of order"
            self.stored[series][at] = value
            latest[series] = at


@define
class Account:
    """What a store keeps for one scraper, in the simplest form that keeps the contract."""

    log: list[Event] = field(factory=list)
    cursor: int = 0
    owed: list[Event] = field(factory=list)
    clock: int = 0
    latest: dict[str, int] = field(factory=dict)

    def accept(self, series: str, value: str | None, now_ms: int) -> None:
        self.clock = max(self.clock, now_ms)
        at = self.latest[series] = max(self.clock, self.latest.get(series, -1) + 1)
        self.log.append(Event(len(self.log) + 1, at, series, value))

    def read(self) -> Pending:
        rows = [*self.owed, *self.log[self.cursor :]]
        return Pending(
            seqs=[event.seq for event in rows],
            series=[event.series for event in rows],
            values=[event.value for event in rows],
            ats=[event.at for event in rows],
            owed=len(self.owed),
            owed_total=len(self.owed),
            cursor=self.cursor,
            end=len(self.log),
        )

    def settle(self, planned: Plan) -> None:
        self.owed = [event for event in self.owed if event.seq not in set(planned.went_out)]
        self.owed += [self.log[seq - 1] for seq in planned.newly_owed]
        self.cursor = planned.cursor


EVENTS = st.tuples(st.sampled_from([A, B, C]), st.sampled_from([None, None, None, "1", "37.5"]))
PAUSES = st.sampled_from([0, 1, 1000, 15_000, MINUTE, 20 * MINUTE, 29 * MINUTE, 31 * MINUTE, 99 * MINUTE])
SCRAPES = st.tuples(
    st.lists(EVENTS, max_size=12),  # accepted before this scrape
    st.sampled_from([0, 0, 0, 6 * MINUTE, 20 * MINUTE]),  # by a clock that was wrong by so much
    PAUSES,  # ms until it, after that
    st.sampled_from(["delivered", "returned"]),
    st.integers(1, 7),  # ?limit=
)


def count(stored: dict[str, dict[int, str]], log: list[Event], *, several: bool) -> bool:
    """Whether every event is in it exactly once."""
    for series, kept in stored.items():
        events = [event for event in log if event.series == series]
        if several:
            assert [kept[at] for at in sorted(kept)] == [event.value or "1" for event in events]
            continue
        walk = iter(events)
        for at in sorted(kept):
            event = next(walk, None)
            assert event is not None and event.value in (None, kept[at])
            for _ in range(0 if event.value else int(kept[at]) - 1):
                counted = next(walk, None)
                assert counted is not None and counted.value is None
        assert next(walk, None) is None
    return sum(map(len, stored.values())) > 0


@examples(300)
@example(
    scrapes=[
        ([(B, None), (B, None), (A, None)], 6 * MINUTE, MINUTE, "delivered", 1),
        ([], 0, 0, "delivered", 1),
    ],
    several=False,
    owed_cap=0,
)
@example(
    scrapes=[
        ([(A, None)] * 3, 6 * MINUTE, MINUTE, "delivered", 1),
        ([(B, None)], 0, 0, "delivered", 1),
    ],
    several=False,
    owed_cap=1,
)
@given(scrapes=st.lists(SCRAPES, min_size=1, max_size=8), several=st.booleans(), owed_cap=st.integers(0, 4))
def test_every_event_is_stored_once_in_order_and_in_bounds(
    scrapes: list[tuple[list[tuple[str, str | None]], int, int, str, int]], several: bool, owed_cap: int
) -> None:
    """Over many scrapes with small caps, long pauses, clock steps, and responses that never arrived."""
    account, tsdb = Account(), Tsdb()
    now, floor, caps = NOW, 0, Caps(owed=owed_cap)
    calm: list[Any] = [([], 0, 1000, "delivered", 9)] * (2 + sum(len(new) for new, *_ in scrapes))
    for new, wrong, pause, outcome, limit in [*scrapes, ([], 0, 16 * MINUTE, "delivered", 9), *calm]:
        for series, value in new:
            account.accept(series, value, now + wrong)
        now += pause
        was_pending = account.read()
        planned = plan_event_time(
            was_pending, evolve(caps, samples=limit), now_ms=now, several=several, floor=floor
        )
        assert len(planned.samples) <= limit
        due = [at for at in was_pending.ats if at <= now + MAX_AHEAD]
        # One that is ahead of its time and cannot be owed keeps those behind it, until it is due.
        waits = len(was_pending) - len(due) > owed_cap
        assert bool(planned.events) == bool(due) or waits, "no progress"
        assert planned.floor >= floor
        if outcome == "delivered":
            tsdb.scrape(list(planned.samples), now, several=several, again=False)
            account.settle(planned)
            floor = planned.floor
    assert not len(account.read())
    assert count(tsdb.stored, account.log, several=several) == (len(account.log) > 0)


@examples(300)
@given(
    scrapes=st.lists(
        st.tuples(
            st.lists(EVENTS, max_size=8),
            st.sampled_from([0, 1, 1000, 15_000]),
            st.sampled_from(["delivered", "returned", "read and returned"]),
        ),
        min_size=1,
        max_size=6,
    ),
    several=st.booleans(),
    limit=st.integers(1, 7),
)
def test_what_was_read_and_returned_is_not_counted_again(
    scrapes: list[tuple[list[tuple[str, str | None]], int, str]], several: bool, limit: int
) -> None:
    """The acknowledgement was lost: what comes again is the same sample again, time and value."""
    account, tsdb = Account(), Tsdb()
    now, shown = NOW, dict[str, int]()
    calm: list[Any] = [([], 1000, "delivered")] * (2 + sum(len(new) for new, *_ in scrapes))
    for new, pause, outcome in scrapes + calm:
        for series, value in new:
            account.accept(series, value, now)
        now += pause
        planned = plan_event_time(
            account.read(), Caps(samples=limit), now_ms=now, several=several, shown=shown
        )
        if outcome != "returned":
            tsdb.scrape(list(planned.samples), now, several=several, again=True)
        if outcome == "delivered":
            account.settle(planned)
        shown = shown_after(shown, planned, delivered=outcome == "delivered", now_ms=now)
        assert planned.floor == 0, "no sample was moved"
    assert count(tsdb.stored, account.log, several=several) == (len(account.log) > 0)

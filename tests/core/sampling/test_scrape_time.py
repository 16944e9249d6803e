"""From events to samples: on failure, a scraper counts an event twice, never, or out of order."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from oneshotd.core.events import Event, Pending, Sample
from oneshotd.core.exposition import head_size, line_size, text
from oneshotd.core.sampling import scrape_time as sampling
from oneshotd.core.sampling.plan import MAX_QUEUEING, Caps, Plan, Sieve
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits

A, B, C = 'e{x="a"}', 'e{x="b"}', "other"

# Rows of (series, value), seqs from 1; the number of owed rows; the samples; the seqs that wait
WALKS: list[Any] = [
    pytest.param([], 0, [], [], id="nothing pending, nothing sent"),
    pytest.param([(A, None)] * 3, 0, [(A, "3")], [], id="a burst is one sample with its count"),
    pytest.param(
        [(A, None), (B, None), (A, None)], 0, [(A, "2"), (B, "1")], [], id="each series has its own count"
    ),
    pytest.param([(A, "37.5")], 0, [(A, "37.5")], [], id="a value is shown as it is"),
    pytest.param([(A, "1"), (A, "1")], 0, [(A, "1")], [2], id="equal values are two samples"),
    pytest.param([(A, "7"), (A, None)], 0, [(A, "7")], [2], id="nothing is counted into a value"),
    pytest.param(
        [(A, None), (A, "7"), (A, None)], 0, [(A, "1")], [2, 3], id="a value waits for the count before it"
    ),
    pytest.param(
        [(A, "7"), (A, "8"), (B, None), (B, None)], 0, [(A, "7"), (B, "2")], [2], id="a queue delays no other"
    ),
    pytest.param(
        [(A, None), (B, "7"), (A, None)], 1, [(A, "2"), (B, "7")], [], id="owed and new are counted"
    ),
    pytest.param([(A, "7"), (A, "8"), (A, None)], 2, [(A, "7")], [2, 3], id="owed events keep their turn"),
]


def pending(rows: list[tuple[str, str | None]], owed: int = 0, **facts: Any) -> Pending:
    """Rows with seqs 1, 2, …; each event's `at` is 1000 times its seq."""
    seqs = range(1, len(rows) + 1)
    facts = {"owed_total": owed, "cursor": owed, "end": len(rows)} | facts
    return Pending(
        seqs=seqs,
        series=[series for series, _ in rows],
        values=[value for _, value in rows],
        ats=[1000 * seq for seq in seqs],
        owed=owed,
        **facts,
    )


@pytest.mark.parametrize(("rows", "owed", "sent", "waiting"), WALKS)
def test_walk(
    rows: list[tuple[str, str | None]], owed: int, sent: list[tuple[str, str]], waiting: list[int]
) -> None:
    """A response has the samples of the table, and the other events wait."""
    planned = plan(pending(rows, owed), Caps())
    away = [seq for seq in range(1, len(rows) + 1) if seq not in waiting]
    assert planned == Plan(
        samples=[Sample(series, value) for series, value in sent],
        ats=[1000 * seq for seq in away],
        cursor=len(rows),
        newly_owed=[seq for seq in waiting if seq > owed],
        went_out=[seq for seq in away if seq <= owed],
        queueing=Counter(rows[seq - 1][0] for seq in waiting),
    )
    assert planned.events == len(away)


def test_cursor_passes_the_log_without_events_for_this_scraper() -> None:
    """The log may have been read further than its last row; that part is not read again."""
    assert plan(pending([(A, None)], end=9), Caps()).cursor == 9
    assert plan(pending([], cursor=4, end=9), Caps()).cursor == 9


def test_sample_cap_stops_before_the_event_that_needs_one_more() -> None:
    """`?limit=2`: a third sample would make Prometheus discard the whole response."""
    planned = plan(pending([(A, None), (B, None), (A, None), (C, None), (A, None)]), Caps(samples=2))
    assert planned.samples == [Sample(A, "2"), Sample(B, "1")]
    assert (planned.cursor, planned.ats, planned.newly_owed) == (3, [1000, 2000, 3000], [])


def test_a_response_full_at_once_leaves_the_cursor() -> None:
    """Events of the log that were not read would be skipped."""
    planned = plan(pending([(A, "1"), (B, None)], 1, cursor=77), Caps(samples=1))
    assert (planned.cursor, planned.went_out, planned.events) == (77, [1], 1)


def test_a_response_full_of_owed_events_leaves_the_rest_owed() -> None:
    """Owed events beyond the cap are neither dropped nor owed twice, and the log waits."""
    planned = plan(pending([(A, "1"), (A, "2"), (B, "3"), (C, None)], 3, cursor=77), Caps(samples=1))
    assert planned.samples == [Sample(A, "1")]
    assert (planned.cursor, planned.went_out, planned.newly_owed) == (77, [1], [])


def test_byte_cap_counts_lines_and_heads() -> None:
    """A response fits exactly into its cap, HELP and TYPE of each name included."""
    rows: list[tuple[str, str | None]] = [(A, "37.5"), (B, "1"), (C, "22")]
    whole = line_size(A, "37.5") + line_size(B, "1") + line_size(C, "22") + head_size(A) + head_size(C)
    sent = plan(pending(rows), Caps(bytes=whole)).samples
    assert (len(sent), len(text(sent))) == (3, whole)
    assert len(plan(pending(rows), Caps(bytes=whole - 1)).samples) == 2


def test_byte_cap_leaves_room_for_a_count_to_grow() -> None:
    """A count's digits come after its sample was fitted in; they must not break the cap."""
    cap = head_size(A) + line_size(A, "0" * 24)
    sent = plan(pending([(A, None)] * 12_345), Caps(bytes=cap)).samples
    assert sent == [Sample(A, "12345")] and len(text(sent)) <= cap


def test_a_count_alone_without_space_to_grow_is_one_occurrence() -> None:
    """An event that just fits would wait for ever."""
    least = head_size(A) + line_size(A, "1")
    planned = plan(pending([(A, None), (A, None), (B, None)]), Caps(bytes=least))
    assert planned.samples == [Sample(A, "1")] and len(text(planned.samples)) == least
    assert (planned.cursor, planned.newly_owed) == (2, [2])
    assert plan(pending([(A, None)]), Caps(bytes=least - 1)).samples == []


def test_owed_cap_stops_the_cursor() -> None:
    """A series that queues without end would fill the scraper's owed events."""
    planned = plan(pending([(A, "1"), (A, "2"), (A, "3"), (A, "4"), (B, None)]), Caps(owed=2))
    assert (planned.cursor, planned.newly_owed, planned.samples) == (3, [2, 3], [Sample(A, "1")])


def test_at_the_owed_cap_other_series_go_out() -> None:
    """At the cap a scraper would get no events at all."""
    planned = plan(pending([(A, "1"), (A, "2"), (B, None), (A, "3"), (A, "4")], 2), Caps(owed=2))
    assert (planned.cursor, planned.went_out, planned.newly_owed) == (4, [1], [4])
    assert planned.samples == [Sample(A, "1"), Sample(B, "1")]


def test_owed_events_beyond_the_cap_go_out() -> None:
    """After a revoked delivery more than the cap is owed: the scraper would get no events."""
    planned = plan(pending([(A, "1"), (A, "2"), (A, "3"), (B, None), (A, "4")], 3), Caps(owed=1))
    assert (planned.cursor, planned.went_out, planned.newly_owed, planned.events) == (4, [1], [], 2)


def test_log_waits_for_owed_events_that_were_not_read() -> None:
    """An unread owed event may be of any series, and nothing may overtake it."""
    planned = plan(pending([(A, None), (B, None)], 1, owed_total=2, cursor=77), Caps())
    assert (planned.cursor, planned.went_out, planned.samples) == (77, [1], [Sample(A, "1")])
    cut = plan(pending([(A, None)], 1, owed_total=2, cursor=77, end=77), Caps())
    assert (cut.cursor, cut.went_out) == (77, [1])


def test_queueing_names_the_longest_queues_only() -> None:
    """The warning about queueing series would be too long to read."""
    rows = [(f"s{n}", "1") for n in range(MAX_QUEUEING + 5)]
    planned = plan(pending([*rows, *rows, ("s104", "2")]), Caps())
    assert len(planned.queueing) == MAX_QUEUEING
    assert planned.queueing["s104"] == 2


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"bytes": 0}, {"owed": -1}])
def test_caps_that_would_stop_everything_are_refused(wrong: dict[str, int]) -> None:
    """With no space for one sample a scraper would never get an event."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Caps(**wrong)


@define
class Account:
    """What a store keeps for one scraper, in the simplest form that keeps the contract."""

    log: list[Event] = field(factory=list)
    cursor: int = 0
    owed: list[Event] = field(factory=list)

    def accept(self, series: str, value: str | None) -> None:
        seq = 3 * len(self.log) + 5  # seqs grow, but not by one
        self.log.append(Event(seq, 1_000 + seq, series, value))

    def read(self, limit: int) -> Pending:
        owed = self.owed[:limit]
        room = limit - len(owed) if len(owed) == len(self.owed) else 0
        new = [event for event in self.log if event.seq > self.cursor][:room]
        rows = [*owed, *new]
        return Pending(
            seqs=[event.seq for event in rows],
            series=[event.series for event in rows],
            values=[event.value for event in rows],
            ats=[event.at for event in rows],
            owed=len(owed),
            owed_total=len(self.owed),
            cursor=self.cursor,
            end=new[-1].seq if new else self.cursor,
        )

    def settle(self, planned: Plan) -> list[Event]:
        """Settle a delivery; return the events that went out, owed ones first."""
        newly, went = set(planned.newly_owed), set(planned.went_out)
        passed = [event for event in self.log if self.cursor < event.seq <= planned.cursor]
        assert planned.cursor >= self.cursor
        assert newly <= {event.seq for event in passed} and went <= {event.seq for event in self.owed}
        gone = [event for event in self.owed if event.seq in went]
        gone += [event for event in passed if event.seq not in newly]
        self.owed = [event for event in self.owed if event.seq not in went]
        self.owed += [event for event in passed if event.seq in newly]
        self.cursor = planned.cursor
        return gone


EVENTS = st.tuples(st.sampled_from([A, B, C, 'e{x="ü"}']), st.sampled_from([None, None, None, "1", "37.5"]))
SCRAPES = st.tuples(
    st.lists(EVENTS, max_size=12),  # accepted before this scrape
    st.sampled_from(["delivered", "returned", "revoked"]),
    st.integers(1, 9),  # the most events read
    st.integers(1, 4),  # ?limit=
)
BIG_ENOUGH = head_size(A) + line_size(A, "0" * 24) + 5  # for each of the samples here alone


@examples(300)
@given(
    series=st.lists(st.sampled_from([A, B, C, 'e{x="ü"}', "f", "g"]), max_size=9),
    samples=st.integers(1, 7),
    byte_cap=st.sampled_from([BIG_ENOUGH, 3 * BIG_ENOUGH, 10 * BIG_ENOUGH]),
    limits=st.sampled_from([NO_LIMITS, NO_LIMITS, ScrapeLimits(labels=3), ScrapeLimits(value_length=1)]),
)
def test_the_plan_by_columns_equals_the_walk(
    series: list[str], samples: int, byte_cap: int, limits: ScrapeLimits
) -> None:
    """The plan by columns would deliver other samples than the walk."""
    was_pending = pending([(text, None) for text in series])
    caps = Caps(samples=samples, bytes=byte_cap)
    quick = sampling._all_counted(was_pending, caps, limits)
    assert quick in (None, sampling._walk(was_pending, caps, Sieve.of(limits)))
    if limits is not NO_LIMITS:
        return
    if byte_cap == 10 * BIG_ENOUGH and len(set(series[: samples + 1])) in (len(series), samples + 1):
        assert quick is not None, "the usual cases are quick"


@examples(300)
@given(
    scrapes=st.lists(SCRAPES, max_size=8),
    owed_cap=st.integers(0, 4),
    byte_cap=st.sampled_from([BIG_ENOUGH, 2 * BIG_ENOUGH, 10 * BIG_ENOUGH]),
)
def test_every_event_goes_out_once_and_in_order(
    scrapes: list[tuple[list[tuple[str, str | None]], str, int, int]], owed_cap: int, byte_cap: int
) -> None:
    """Over many scrapes with small caps, some returned or revoked: the sums are exact, and all arrives."""
    account = Account()
    sent: dict[str, list[Event]] = defaultdict(list)
    calm: list[Any] = [([], "delivered", 3, 1)] * (2 + sum(len(new) for new, *_ in scrapes))
    for new, outcome, most, limit in scrapes + calm:
        for series, value in new:
            account.accept(series, value)
        was_pending = account.read(most)
        planned = plan(was_pending, Caps(samples=limit, bytes=byte_cap, owed=owed_cap))
        assert len(planned.samples) <= limit and len(text(planned.samples)) <= byte_cap
        assert (planned.events > 0) == (len(was_pending) > 0), "no progress"
        if outcome == "returned":
            continue
        gone = account.settle(planned)
        assert len(account.owed) <= owed_cap or not planned.newly_owed
        if outcome == "revoked":
            account.owed = sorted(account.owed + gone)
            continue
        assert planned.ats == [event.at for event in gone]
        by_series: dict[str, list[Event]] = defaultdict(list)
        for event in gone:
            by_series[event.series].append(event)
        assert [sample.series for sample in planned.samples] == list(by_series)
        for series, value, at in planned.samples:
            events = by_series[series]
            counted = all(event.value is None for event in events)
            assert value == (str(len(events)) if counted else events[0].value)
            assert at is None and (counted or len(events) == 1)
            sent[series] += events
    assert not account.owed and not len(account.read(1))
    for series, events in sent.items():
        assert events == [event for event in account.log if event.series == series]
    assert sum(map(len, sent.values())) == len(account.log)

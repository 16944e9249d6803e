"""Which of the pending events a request has, and how it is settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import given
from support.receiver_driver import SETTINGS

from oneshotd.core.events import Pending
from oneshotd.delivery.remote_write.batching import MAX_OWED, MAX_SAMPLES, plan_batch
from oneshotd.delivery.remote_write.encoding import MAX_LABELS, Encoder
from oneshotd.delivery.remote_write.read_depth import DEEP, DEEP_INTERVAL, SHALLOW, ReadDepth

NOW = 1_700_000_000_000
ENCODER = Encoder(evolve(SETTINGS, max_labels=4))


def pending(
    rows: str, *, owed: int = 0, ahead: Sequence[int] = (), owed_total: int | None = None, first: int = 1
) -> Pending:
    """One event a letter; `L` is a series with too many labels."""
    series = ['x{a="1",b="2"}' if letter == "L" else letter for letter in rows]
    return Pending(
        seqs=range(first, first + len(rows)),
        series=series,
        values=[None] * len(rows),
        ats=[NOW + 1 if row in ahead else NOW for row in range(len(rows))],
        owed=owed,
        owed_total=owed if owed_total is None else owed_total,
        cursor=first + owed - 1,
        end=first + len(rows) - 1,
    )


@pytest.mark.parametrize(
    ("rows", "options", "seqs", "cursor", "newly_owed", "went_out"),
    [
        ("", {}, [], 0, [], []),
        ("abc", {}, [1, 2, 3], 3, [], []),
        ("aab", {}, [1, 3], 3, [2], []),
        ("aaa", {}, [1], 1, [], []),
        ("aabaa", {}, [1, 3], 3, [2], []),
        ("abc", {"samples": 2}, [1, 2], 2, [], []),
        ("aabc", {"samples": 2}, [1, 3], 3, [2], []),
        ("abc", {"size": 1}, [1], 1, [], []),
        ("abab", {"aside": {1}}, [2], 2, [1], []),
        ("abc", {"aside": {1, 2, 3}}, [], 0, [], []),
        ("aaaab", {"owed": 3}, [1, 5], 5, [2, 3, 4], []),
        ("aaaab", {"owed": 2}, [1], 1, [], []),
    ],
)
def test_new_events(
    rows: str, options: Any, seqs: list[int], cursor: int, newly_owed: list[int], went_out: list[int]
) -> None:
    batch = plan_batch(pending(rows), ENCODER, NOW, **options)
    assert (list(batch.seqs), batch.cursor) == (seqs, cursor)
    assert (list(batch.newly_owed), list(batch.went_out)) == (newly_owed, went_out)


@pytest.mark.parametrize(
    ("rows", "owed", "options", "seqs", "cursor", "newly_owed", "went_out"),
    [
        ("ab", 2, {}, [1, 2], 2, [], [1, 2]),
        ("aab", 2, {}, [1, 3], 3, [], [1]),
        ("aaab", 2, {}, [1, 4], 4, [3], [1]),
        ("aaab", 2, {"owed": 2}, [1, 4], 4, [3], [1]),
        ("aaab", 2, {"owed": 1}, [1], 2, [], [1]),
        ("abc", 2, {"samples": 1}, [1], 2, [], [1]),
        ("abc", 2, {"aside": {1, 2}}, [3], 3, [], []),
    ],
)
def test_owed_events_go_first(
    rows: str,
    owed: int,
    options: Any,
    seqs: list[int],
    cursor: int,
    newly_owed: list[int],
    went_out: list[int],
) -> None:
    batch = plan_batch(pending(rows, owed=owed), ENCODER, NOW, **options)
    assert (list(batch.seqs), batch.cursor) == (seqs, cursor)
    assert (list(batch.newly_owed), list(batch.went_out)) == (newly_owed, went_out)


def test_the_log_is_left_alone_while_some_owed_events_were_not_read() -> None:
    batch = plan_batch(pending("abc", owed=2, owed_total=9), ENCODER, NOW)
    assert (list(batch.seqs), batch.cursor) == ([1, 2], 2)


def test_a_time_to_come_holds_its_series_up_and_no_other() -> None:
    batch = plan_batch(pending("aabc", ahead=[0, 3]), ENCODER, NOW)
    assert (list(batch.seqs), batch.cursor, list(batch.newly_owed)) == ([3], 3, [1, 2])
    assert batch.next_at == NOW + 1
    assert list(plan_batch(pending("aabc", ahead=[0, 3]), ENCODER, NOW + 1).seqs) == [1, 3, 4]


def test_the_next_time_is_that_of_the_first_event_that_waits_for_its_time() -> None:
    """An event would be sent later than it could be."""
    ahead = evolve(pending("abcd"), ats=[NOW + 5, NOW + 2, NOW, NOW + 9])
    batch = plan_batch(ahead, ENCODER, NOW)
    assert (list(batch.seqs), batch.next_at, batch.queueing) == ([3], NOW + 2, 0)


def test_events_that_no_request_can_hold_are_lost() -> None:
    batch = plan_batch(pending("LaLb", owed=1), ENCODER, NOW)
    assert batch.lost == {MAX_LABELS: [1, 3]}
    assert (list(batch.seqs), batch.cursor, list(batch.went_out)) == ([2, 4], 4, [])
    alone = plan_batch(pending("LL"), ENCODER, NOW)
    assert (len(alone), alone.cursor, alone.lost) == (0, 2, {MAX_LABELS: [1, 2]})


def test_a_request_is_full_at_its_bytes() -> None:
    one = len(ENCODER.sample("a", None, NOW))
    assert len(plan_batch(pending("abcdef"), ENCODER, NOW, size=3 * one)) == 3
    assert len(plan_batch(pending("abcdef"), ENCODER, NOW, size=3 * one - 1)) == 2


@given(
    rows=st.text("abcdL", max_size=30),
    owed=st.integers(0, 10),
    ahead=st.sets(st.integers(0, 30)),
    samples=st.integers(1, 6),
    most_owed=st.integers(0, 12),
)
def test_requests_one_after_the_other_lose_nothing_and_keep_the_order(
    rows: str, owed: int, ahead: set[int], samples: int, most_owed: int
) -> None:
    """The store's part is played by two lists: what is owed, and the log."""
    everything = pending(rows, ahead=sorted(ahead))
    owed = min(owed, len(rows))
    by_seq = {
        seq: (series, at)
        for seq, series, at in zip(everything.seqs, everything.series, everything.ats, strict=True)
    }
    waits, cursor, now = list(range(1, owed + 1)), owed, NOW
    sent: list[int] = []
    for _ in range(200):
        seqs = [*waits, *range(cursor + 1, len(rows) + 1)]
        read = Pending(
            seqs=seqs,
            series=[by_seq[seq][0] for seq in seqs],
            values=[None] * len(seqs),
            ats=[by_seq[seq][1] for seq in seqs],
            owed=len(waits),
            owed_total=len(waits),
            cursor=cursor,
            end=len(rows),
        )
        batch = plan_batch(read, ENCODER, now, samples=samples, owed=max(most_owed, owed))
        again = plan_batch(read, ENCODER, now, samples=samples, owed=max(most_owed, owed))
        assert batch == again, "the same events give the same request"
        assert len(set(batch.series)) == len(batch) <= samples
        assert all(at <= now for at in batch.ats)
        lost = [seq for seqs in batch.lost.values() for seq in seqs]
        assert not set(lost) & {*batch.seqs, *batch.newly_owed}
        assert set(batch.newly_owed) == set(range(cursor + 1, batch.cursor + 1)) - {*batch.seqs, *lost}
        assert set(batch.went_out) == set(waits) & set(batch.seqs)
        waits = sorted({*waits, *batch.newly_owed} - {*batch.seqs, *lost})
        cursor = batch.cursor
        assert len(waits) <= max(most_owed, owed)
        sent += batch.seqs
        if not seqs:
            break
        if not batch and not lost:
            assert batch.next_at == NOW + 1
            now += 1
    assert sorted(sent) == [seq for seq in by_seq if by_seq[seq][0] != 'x{a="1",b="2"}']
    for letter in "abcd":
        mine = [seq for seq in sent if by_seq[seq][0] == letter]
        assert mine == sorted(mine)


def test_reads_are_shallow_while_one_series_has_most_events() -> None:
    depth = ReadDepth()
    assert depth.rows(0.0) == MAX_OWED + DEEP
    depth.planned(MAX_SAMPLES, 5000, 0)
    assert depth.rows(0.1) == DEEP, "the request was full"
    depth.planned(1, 0, 0)
    assert depth.rows(0.2) == DEEP, "nothing waits"
    depth.planned(1, 5000, 100)
    assert depth.rows(0.3) == 100 + SHALLOW
    depth.planned(2, SHALLOW, 100)
    assert depth.rows(0.2 + DEEP_INTERVAL) == 100 + DEEP, "others are looked for now and then"
    assert depth.rows(0.21 + DEEP_INTERVAL) == 100 + SHALLOW

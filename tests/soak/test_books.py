"""The books of the crash campaign: they would be worth nothing if they let a fault pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from attrs import frozen
from soak import ledger
from soak.exchange import GRACE, Exchange
from soak.ledger import KEYED, PLAIN, UDP, Books
from soak.marks import Reading
from soak.sendings import Outage

from oneshotd.core.sampling import suspects
from oneshotd.web.transport.ack_tracker import RESET_GRACE

NOW = 1000.0

#: How the processes of the cases ended, and when.
KILLED, STOPPED, LONG_DEAD, AT_REST = "killed", "stopped", "killed long after", "killed at rest"
KILLED_FIRST = "killed first"


@frozen(kw_only=True)
class Case:
    """Sent and answered: 2 of `a`, 1 of `b`. Read, or thrown away, in this order.

    :param again: events that came twice and may.
    :param gone: events that are missing and may be.
    """

    read: tuple[tuple[str, Mapping[str, int]], ...] = ()
    thrown: tuple[tuple[str, Mapping[str, int]], ...] = ()
    again: int = 0
    gone: int = 0
    lost: Mapping[str, int] = {}
    doubled: Mapping[str, int] = {}


CASES = {
    "all is read once": Case(read=((KILLED, {"a": 2}), (STOPPED, {"b": 1}))),
    "a count in two parts is exact": Case(read=((KILLED, {"a": 1}), (STOPPED, {"a": 1, "b": 1}))),
    "an event that nobody has read is lost": Case(read=((KILLED, {"a": 2}),), lost={"b": 1}),
    "a part of a count is lost": Case(read=((KILLED, {"a": 1, "b": 1}),), lost={"a": 1}),
    "an event that was never sent is one too many": Case(
        read=((KILLED, {"a": 2, "b": 1, "c": 1}),), doubled={"c": 1}
    ),
    "twice from one process": Case(read=((KILLED, {"b": 1}), (KILLED, {"a": 2, "b": 1})), doubled={"b": 1}),
    "the last delivery before a kill may come again": Case(
        read=((KILLED, {"a": 2}), (STOPPED, {"a": 2, "b": 1})), again=2
    ),
    "but not the one before the last": Case(
        read=((KILLED, {"a": 2}), (KILLED, {"b": 1}), (STOPPED, {"a": 2})), doubled={"a": 2}
    ),
    "nor a part of it": Case(read=((KILLED, {"a": 2, "b": 1}), (STOPPED, {"a": 2})), doubled={"a": 2}),
    "nor twice": Case(
        read=((KILLED, {"b": 1}), (STOPPED, {"b": 1}), (STOPPED, {"a": 2, "b": 1})), again=1, doubled={"b": 1}
    ),
    "nor with what came before it": Case(
        read=((KILLED, {"b": 1}), (KILLED, {"b": 1}), (STOPPED, {"a": 2})), doubled={"b": 1}
    ),
    "nor after an orderly stop": Case(
        read=((STOPPED, {"b": 1}), (KILLED, {"a": 2, "b": 1})), doubled={"b": 1}
    ),
    "nor if the kill came much later": Case(
        read=((LONG_DEAD, {"b": 1}), (STOPPED, {"a": 2, "b": 1})), doubled={"b": 1}
    ),
    "nor if all was quiet before": Case(
        read=((AT_REST, {"b": 1}), (STOPPED, {"a": 2, "b": 1})), doubled={"b": 1}
    ),
    "what is thrown away goes out again": Case(
        thrown=((KILLED, {"a": 2}),), read=((KILLED, {"a": 2}), (STOPPED, {"b": 1}))
    ),
    "unless the daemon is killed before it knows": Case(
        thrown=((KILLED, {"a": 2}),), read=((STOPPED, {"b": 1}),), gone=2
    ),
    "and it had known when it answered the next scrape": Case(
        thrown=((KILLED, {"a": 2}),), read=((KILLED, {"b": 1}),), lost={"a": 2}
    ),
    "more of one identity was missing before what came again": Case(
        thrown=((KILLED_FIRST, {"a": 1}),),
        read=((KILLED, {"a": 1, "b": 1}), (STOPPED, {"a": 1, "b": 1})),
        again=2,
        gone=1,
    ),
    "or when it lived on": Case(thrown=((LONG_DEAD, {"a": 2}),), read=((STOPPED, {"b": 1}),), lost={"a": 2}),
    "or when all was quiet": Case(thrown=((AT_REST, {"a": 2}),), read=((STOPPED, {"b": 1}),), lost={"a": 2}),
    "only the last that was thrown away": Case(
        thrown=((KILLED, {"b": 1}), (KILLED, {"a": 2})), gone=2, lost={"b": 1}
    ),
}


@pytest.mark.parametrize(
    ("again", "doubled"), [({"b": 1}, {}), ({"c": 1}, {"c": 1}), ({}, {})], ids=["rest", "other", "none"]
)
def test_a_delivery_may_come_again_and_be_gone_in_part(
    again: Mapping[str, int], doubled: Mapping[str, int]
) -> None:
    """A part of it was thrown away as the daemon was killed again: two limits in a row are no fault."""
    kept = books()
    answered(kept, a=1, b=1, c=1)
    kept.read("ann", Reading(process=STOPPED, amounts={"c": 1}, at=NOW - 4))
    kept.read("ann", Reading(process=KILLED_FIRST, amounts={"a": 1, "b": 1}, at=NOW - 3))
    kept.throw_away("ann", Reading(process=KILLED, amounts={"a": 1}, at=NOW - 2))
    kept.read("ann", Reading(process=STOPPED, amounts=again, at=NOW - 1))
    verdict = kept.verdict("ann", kept.expected()[0])
    assert (verdict.lost, verdict.doubled) == ({}, doubled)
    assert len(verdict.again) == len(verdict.gone) == (1 if again == {"b": 1} else 0)


def books(refusing: Sequence[str] = ()) -> Books:
    found = Books(["ann", "bob"], refusing)
    found.ended = {KILLED: NOW, STOPPED: NOW, LONG_DEAD: NOW + 2 * ledger.UNSETTLED}
    found.ended[AT_REST] = found.ended[KILLED_FIRST] = NOW
    found.in_order, found.at_rest = {STOPPED}, {AT_REST}
    return found


def answered(books: Books, **amounts: int) -> None:
    books.answered(books.send(KEYED, amounts))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_may_be_and_what_may_not(case: Case) -> None:
    """A campaign that passes has shown what it says it has."""
    kept = books()
    answered(kept, a=1)
    answered(kept, a=1, b=1)
    thrown_first = [(True, *item) for item in case.thrown] + [(False, *item) for item in case.read]
    for i, (thrown, process, amounts) in enumerate(thrown_first):
        reading = Reading(process=process, amounts=amounts, at=NOW - 1 + i / 100)
        if thrown:
            kept.throw_away("ann", reading)
        else:
            kept.read("ann", reading)
    expected, vanished = kept.expected()
    verdict = kept.verdict("ann", expected)
    assert (verdict.lost, verdict.doubled) == (case.lost, case.doubled)
    assert sum(reading.events for reading in verdict.again) == case.again
    assert sum(events for _, events in verdict.gone) == case.gone
    assert vanished == []


@pytest.mark.parametrize(
    ("said", "doubled"), [([], 2), ([1], 2), ([3], 2), ([2], 0), ([3, 2], 0), ([1, 1], 2)]
)
def test_what_the_daemon_calls_uncertain_may_come_again(said: list[int], doubled: int) -> None:
    """The scraper's acknowledgement was late; a daemon that does not say so is found out."""
    kept = books()
    answered(kept, a=2)
    kept.uncertain["ann"], kept.uncertain["bob"] = said, [2]
    kept.read("ann", Reading(process=KILLED, amounts={"a": 2}, at=NOW - 2))
    kept.read("ann", Reading(process=KILLED, amounts={"a": 2}, at=NOW - 1))
    verdict = kept.verdict("ann", kept.expected()[0])
    assert (verdict.doubled.get("a", 0), len(verdict.uncertain)) == (doubled, int(not doubled))


def test_what_came_again_after_a_kill_is_not_taken_for_uncertain() -> None:
    """A delivery that the daemon called uncertain would be blamed for another one."""
    kept = books()
    answered(kept, a=1)
    answered(kept, b=1)
    answered(kept, c=1)
    kept.uncertain["ann"] = [2, 1]
    for process, amounts, ago in (
        (KILLED_FIRST, {"a": 1}, 4),  # not settled as its process was killed
        (LONG_DEAD, {"a": 1, "b": 1}, 3),  # called uncertain
        (STOPPED, {"c": 1}, 2),  # likewise
        (STOPPED, {"a": 1, "b": 1, "c": 1}, 1),
    ):
        kept.read("ann", Reading(process=process, amounts=amounts, at=NOW - ago))
    verdict = kept.verdict("ann", kept.expected()[0])
    assert (verdict.lost, verdict.doubled) == ({}, {})
    assert [reading.amounts for reading in verdict.again] == [{"a": 1}]
    assert [reading.amounts for reading in verdict.uncertain] == [{"a": 1, "b": 1}, {"c": 1}]


def exchange(ended: float, finished: bool = False) -> Exchange:
    """One that was left unread so many seconds after its request; its timeout is 2 s."""
    return Exchange(
        port=1, timeout=2.0, asked=NOW - 100, ended=NOW - 100 + ended, finished=finished, whole=True
    )


@pytest.mark.parametrize(
    ("thrown", "excused"),
    [
        pytest.param(exchange(1.0), False, id="in time"),
        pytest.param(exchange(2.0 + 0.99 * GRACE), False, id="a moment after the timeout"),
        pytest.param(exchange(2.0 + 1.01 * GRACE), True, id="too late"),
        pytest.param(exchange(1.0, finished=True), True, id="behind a FIN"),
    ],
)
def test_what_is_thrown_away_in_time_has_to_come_again(thrown: Exchange, excused: bool) -> None:
    """A daemon that takes an unread response for read is found out, and one that was told nothing of
    it is not blamed."""
    kept = books()
    answered(kept, a=2)
    answered(kept, b=1)
    kept.throw_away("ann", Reading(process=STOPPED, amounts={"a": 2}, at=NOW - 99), thrown)
    kept.read("ann", Reading(process=STOPPED, amounts={"b": 1}, at=NOW - 90))
    verdict = kept.verdict("ann", kept.expected()[0])
    assert verdict.lost == ({} if excused else {"a": 2})
    assert sum(events for _, events in verdict.late) == (2 if excused else 0)
    assert verdict.gone == []


@frozen(kw_only=True)
class RefusedCase:
    """Sent and answered: `odd-1/1` and `odd-1/2`, whose lines `ann` refuses, and `a`.

    :param refused: number of events that are missing because their lines are refused.
    :param uncounted: those of them that need not be counted.
    """

    read: tuple[tuple[str, Mapping[str, int]], ...] = ((STOPPED, {"a": 1}),)
    thrown: tuple[tuple[str, Mapping[str, int]], ...] = ()
    exchange: Exchange | None = None
    refused: int = 2
    uncounted: int = 0
    lost: Mapping[str, int] = {}
    doubled: Mapping[str, int] = {}


ODD_1, ODD_2 = "odd-1/1", "odd-1/2"
REFUSED_CASES = {
    "all others are read": RefusedCase(thrown=((STOPPED, {ODD_1: 1, "a": 1}), (STOPPED, {ODD_2: 1}))),
    "another event is missing as well": RefusedCase(read=(), lost={"a": 1}),
    "another event is missing that was in the same response": RefusedCase(
        thrown=((LONG_DEAD, {ODD_1: 1, "a": 1}),), read=(), lost={"a": 1}
    ),
    "one of them is read": RefusedCase(read=((STOPPED, {"a": 1, ODD_1: 1}),), refused=1),
    "one of them is read twice": RefusedCase(
        read=((LONG_DEAD, {ODD_1: 1}), (STOPPED, {"a": 1, ODD_1: 1})), refused=1, doubled={ODD_1: 1}
    ),
    "the daemon is killed as one of them is thrown away": RefusedCase(
        thrown=((KILLED, {ODD_1: 1}),), uncounted=1
    ),
    "the same with others, which are missing too": RefusedCase(
        thrown=((KILLED, {ODD_1: 1, "a": 1}),), read=(), uncounted=1
    ),
    "the others are read afterwards": RefusedCase(thrown=((KILLED, {ODD_1: 1, "a": 1}),)),
    "it is thrown away in time, and the daemon lives on": RefusedCase(
        thrown=((STOPPED, {ODD_1: 1}),), exchange=exchange(1.0), read=((STOPPED, {"a": 1}),)
    ),
    "the same with others that came again, and had been read": RefusedCase(
        read=((KILLED_FIRST, {"a": 1}),), thrown=((KILLED, {ODD_1: 1, "a": 1}),), uncounted=1
    ),
    "another response had the others, and may be missing": RefusedCase(
        thrown=((KILLED_FIRST, {"a": 1}), (KILLED, {ODD_1: 1, "a": 1})), read=(), uncounted=1
    ),
    "it is thrown away too late": RefusedCase(
        thrown=((LONG_DEAD, {ODD_1: 1}),), exchange=exchange(2.0 + 1.01 * GRACE), uncounted=1
    ),
}


@pytest.mark.parametrize("case", REFUSED_CASES.values(), ids=REFUSED_CASES.keys())
def test_only_refused_lines_may_be_missing_as_such(case: RefusedCase) -> None:
    """A daemon that sets the wrong sample aside is found out."""
    kept = books(refusing=["ann"])
    answered(kept, **{ODD_1: 1})
    answered(kept, **{ODD_2: 1})
    answered(kept, a=1)
    for process, amounts in case.thrown:
        kept.throw_away("ann", Reading(process=process, amounts=amounts, at=NOW - 2), case.exchange)
    for process, amounts in case.read:
        at = NOW - 3 if process == KILLED_FIRST else NOW - 1
        kept.read("ann", Reading(process=process, amounts=amounts, at=at))
    verdict = kept.verdict("ann", kept.expected()[0])
    assert (verdict.lost, verdict.doubled) == (case.lost, case.doubled)
    assert (len(verdict.refused), len(verdict.uncounted)) == (case.refused, case.uncounted)


def test_what_one_scraper_refuses_the_others_have_to_get() -> None:
    """An event that is set aside for one scraper must not be missing for another."""
    kept = books(refusing=["ann"])
    answered(kept, **{ODD_1: 1})
    verdict = kept.verdict("bob", kept.expected()[0])
    assert (verdict.lost, verdict.refused) == ({ODD_1: 1}, [])


def test_a_search_may_hold_events_up() -> None:
    """Innocent samples of a refused response come later than what was sent after them."""
    kept = books(refusing=["ann"])
    answered(kept, a=2)
    answered(kept, b=1)
    for name in ("ann", "bob"):
        kept.read(name, Reading(process=KILLED, amounts={"b": 1}, at=NOW))
    assert kept.overdue() == ["bob has read later events, but not 2 of a"]


def test_the_grace_is_the_daemons() -> None:
    """The judge would blame a daemon that does as it says, or let one pass that does less."""
    assert GRACE == RESET_GRACE


def test_the_reason_of_a_refusal_is_the_daemons() -> None:
    """All refusals would count as losses, or a new word for them would pass unseen."""
    assert ledger.REFUSED == suspects.REFUSED


def test_without_an_answer_it_is_there_for_all_or_for_none() -> None:
    """A daemon that gives such an event to one scraper only is found out."""
    kept = books()
    one, other = kept.send(PLAIN, {"a": 1, "b": 2}), kept.send(PLAIN, {"c": 1})
    kept.read("ann", Reading(process=KILLED, amounts={"a": 1, "b": 2}, at=NOW))
    expected, vanished = kept.expected()
    assert (expected, vanished) == ({"a": 1, "b": 2}, [other])
    assert kept.verdict("ann", expected).lost == {}
    assert kept.verdict("bob", expected).lost == one.amounts


def test_what_was_refused_must_not_be_there() -> None:
    """A 503 that says "not stored" about what was stored is found out: the sender will repeat it."""
    kept = books()
    kept.send(PLAIN, {"a": 1}).refused = True
    kept.read("ann", Reading(process=STOPPED, amounts={"a": 1}, at=NOW))
    assert kept.verdict("ann", kept.expected()[0]).doubled == {"a": 1}


def test_the_values_of_a_series_come_in_order() -> None:
    """A dashboard would show the older reading as the newer one."""
    kept = books()
    for value in (1, 3, 3, 7):
        kept.read("ann", Reading(process=KILLED, amounts={f"s={value}": 1}, at=NOW))
    assert kept.wrong == []
    kept.read("ann", Reading(process=KILLED, amounts={"s=6": 1}, at=NOW))
    assert kept.wrong == ["ann: s=6 came after s=7"]


def test_a_gap_shows_before_the_end() -> None:
    """Whoever has read a later event has to have the earlier one; the log of the campaign says
    after which kill it was not so."""
    kept = books()
    answered(kept, a=2)
    answered(kept, b=1)
    assert kept.overdue() == []
    kept.read("ann", Reading(process=KILLED, amounts={"a": 1, "b": 1}, at=NOW))
    assert kept.overdue() == ["ann has read later events, but not 2 of a"]
    assert kept.overdue() == [], "it is said once"


@pytest.mark.parametrize(
    ("sent", "gone", "drops", "found"),
    [
        pytest.param(5.0, 5.0, 0, True, id="before any outage"),
        pytest.param(9.9, 10.1, 0, False, id="on its way when one began"),
        pytest.param(11.0, 11.0, 0, False, id="during one"),
        pytest.param(12.1, 12.1, 0, True, id="after it"),
        pytest.param(5.0, 5.0, 1, False, id="dropped by the kernel, and counted"),
    ],
)
def test_a_datagram_is_missing_for_a_reason(sent: float, gone: float, drops: int, found: bool) -> None:
    """A daemon that loses lines in the middle of its life is found out."""
    kept = books()
    kept.outages = [Outage(began=10.0, ended=12.0)]
    sending = kept.send(UDP, {"a": 1})
    sending.began, sending.gone = sent, gone
    kept.read("ann", Reading(process=KILLED, amounts={}, kernel_drops=drops, at=NOW))
    vanished = kept.expected()[1]
    assert kept.unexplained(vanished) == ([sending] if found else [])

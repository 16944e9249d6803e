"""The report of a campaign: what fails it, without a daemon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from soak.campaign import Campaign, Settings
from soak.exchange import Exchange
from soak.ledger import DOORS, REFUSED, Books
from soak.marks import COUNTED, Reading
from soak.plan import KILLS, TERM, UNDER_LOAD
from soak.push_judge import Findings, Samples
from soak.report import report
from soak.result import Report
from soak.scraper import CUTS, REFUSING, SCRAPERS

PROCESS = "P"


def books() -> Books:
    """One event through each door, read by every scraper."""
    kept = Books(SCRAPERS, [REFUSING])
    kept.ended[PROCESS] = 1000.0
    kept.in_order.add(PROCESS)
    for i, door in enumerate(DOORS):
        kept.answered(kept.send(door, {f"s/{i}": 1}))
    for name in SCRAPERS:
        kept.read(name, reading(**{f"s/{i}": 1 for i in range(len(DOORS))}))
    return kept


def reading(**amounts: int) -> Reading:
    return Reading(process=PROCESS, amounts=amounts, at=900.0)


def judged(
    kept: Books,
    *,
    kills: int = 1,
    rounds: int = 1,
    kinds: tuple[str, ...] = (),
    log: str = "",
    receiver: object = None,
    findings: Findings | None = None,
) -> Report:
    campaign: Any = SimpleNamespace(
        books=kept,
        settings=Settings(seconds=1.0, rounds=rounds, seed=17),
        kills=kills,
        kinds=kinds,
        senders=[],
        seconds=1.0,
        began=0.0,
        receiver=receiver,
        findings=findings,
        daemon=SimpleNamespace(process=SimpleNamespace(log_text=lambda: log)),
    )
    return report(cast(Campaign, campaign))


def test_a_campaign_in_order_has_no_violation() -> None:
    """A daemon without a fault would be sent back."""
    found = judged(books())
    assert found.wrong == []
    assert ("result", "violations", "0") in found.rows
    assert "| result | violations | 0 |" in found.markdown().splitlines()


def test_what_is_lost_or_doubled_fails_it_with_its_history() -> None:
    """The cause would have to be guessed."""
    kept = books()
    kept.answered(kept.send(DOORS[0], {"s/9": 3}))
    for name in SCRAPERS:
        if name != "bob":
            kept.read(name, reading(**{"s/9": 3}))
    kept.read("ann", reading(**{"s/0": 1}))
    kept.exchanged("bob", Exchange(port=4711, timeout=1.0, asked=1e9))
    found = judged(kept)
    assert [text.partition("\n")[0].partition(" began")[0] for text in found.wrong] == [
        "ann: doubled: 1 events, 1 kinds",
        f"doubled: ann: s/0: {DOORS[0]}",
        "bob: lost: 3 events, 1 kinds",
        f"lost: bob: s/9: {DOORS[0]}",
    ]
    assert "port 4711" in found.wrong[-1]


def test_what_the_log_calls_uncertain_may_be_doubled() -> None:
    """Of a delivery that is uncertain as the daemon ends no metric tells any more."""
    kept = books()
    kept.read("ann", reading(**{f"s/{i}": 1 for i in range(len(DOORS))}))
    step = "[oneshotd.delivery.log.DeliveryLog#debug] ann: delivery 8 {} at 8.5: {} events, cursor 4"
    for what, events, violations in (
        ("revoked as uncertain", len(DOORS), 0),
        ("returned as uncertain", len(DOORS), 0),
        ("revoked", len(DOORS), len(DOORS) + 1),
        ("revoked as uncertain", len(DOORS) - 1, len(DOORS) + 1),
    ):
        kept.uncertain["ann"] = []
        assert len(judged(kept, log=step.format(what, events)).wrong) == violations


@pytest.mark.parametrize(
    ("counted", "text"),
    [
        pytest.param(0, "counted as refused by the daemon: 0", id="one too few"),
        pytest.param(1, None, id="each"),
        pytest.param(2, "counted as refused by the daemon: 2", id="one too many"),
    ],
)
def test_each_refused_event_is_counted(counted: int, text: str | None) -> None:
    """Events would be lost in silence, or a sample be set aside that was read."""
    kept = books()
    kept.answered(kept.send(DOORS[0], {"odd-1/1": 1}))
    for name in SCRAPERS:
        if name != REFUSING:
            kept.read(name, reading(**{"odd-1/1": 1}))
    kept.losses[REFUSING, REFUSED] = counted
    found = judged(kept)
    assert (f"scraper {REFUSING}", "lost, allowed: events that the scraper refuses", "1") in found.rows
    if text is None:
        assert found.wrong == []
    else:
        assert text in found.wrong[0]
        assert found.wrong[1].startswith(f"refused: {REFUSING}: odd-1/1: {DOORS[0]}")


@pytest.mark.parametrize(("scraper", "reason"), [("bob", REFUSED), (REFUSING, "away"), ("ann", "log full")])
def test_any_other_loss_that_is_counted_fails_it(scraper: str, reason: str) -> None:
    """A sample that a scraper takes could be set aside for it."""
    kept = books()
    kept.losses[scraper, reason] = 3
    assert judged(kept).wrong == [f"counted as lost: {scraper}, {reason}: 3 events"]


@pytest.mark.parametrize(
    ("campaign", "text"),
    [
        pytest.param({"kills": 0, "rounds": 0}, "nothing was injected: there was no kill", id="no kill"),
        pytest.param({"kills": 3, "rounds": 9}, "only 3 of 9 kills were done in the time", id="too slow"),
        pytest.param(
            {"kills": 2 * len(KILLS), "rounds": 2, "kinds": (UNDER_LOAD, TERM)},
            f"never injected: {TERM}",
            id="a kind of fault",
        ),
        pytest.param(
            {"kills": 2 * len(KILLS), "rounds": 2}, f"never injected: {CUTS[0]}", id="a kind of cut"
        ),
    ],
)
def test_a_campaign_that_did_not_do_its_work_fails(campaign: dict[str, Any], text: str) -> None:
    """It would pass on a machine that is too slow for it, and show nothing."""
    kept = books()
    kept.fault(UNDER_LOAD)
    assert text in judged(kept, **campaign).wrong


def test_a_door_through_which_nothing_came_fails_it() -> None:
    """One of the ways in would not be tried any more, and nobody would know."""
    kept = books()
    kept.sendings = [sending for sending in kept.sendings if sending.door != DOORS[-1]]
    assert f"nothing was sent that arrived: {DOORS[-1]}" in judged(kept).wrong


def test_what_the_actors_found_fails_it() -> None:
    """A status that no door has, or an actor that broke off."""
    kept = books()
    kept.note_wrong("plain-1: 500 b'oh'")
    assert judged(kept).wrong == ["plain-1: 500 b'oh'"]


def receiver() -> object:
    return SimpleNamespace(line=SimpleNamespace(pushed=[]))


def stored(*identities: str) -> Samples:
    """Return the samples of events without a value."""
    return {
        frozenset({"__name__": COUNTED, "sender": sender, "n": n}.items()): [(1_800_000_000_000, 1.0)]
        for sender, n in (identity.split("/") for identity in identities)
    }


def found_by_receiver(record: Samples, found: Samples) -> Findings:
    number = len(record)
    audit = {"verdict": "equal", "events": number, "found": number, "pending": 0, "lost": {}}
    return Findings(record=record, found=found, audit={**audit, "differences": []})


def test_what_the_receiver_has_belongs_to_the_campaign() -> None:
    """The judge of the receiver would never be asked."""
    there = stored(*(f"s/{i}" for i in range(len(DOORS))))
    assert judged(books(), receiver=receiver(), findings=found_by_receiver(there, there)).wrong == []
    less = dict(list(there.items())[1:])
    wrong = judged(books(), receiver=receiver(), findings=found_by_receiver(there, less)).wrong
    assert wrong[0] == "receiver: missing: 1 samples"
    assert judged(books(), receiver=receiver()).wrong == ["nobody has looked at what the receiver has"]
    rows = judged(books()).rows
    assert ("receiver prometheus", "requests", "none: there was no receiver") in rows


def test_an_event_without_an_answer_is_there_for_all_or_for_none() -> None:
    """An event that only the receiver has would not be missed anywhere else."""
    kept = books()
    kept.send(DOORS[0], {"s/9": 1})
    there = stored(*(f"s/{i}" for i in range(len(DOORS))), "s/9")
    wrong = judged(kept, receiver=receiver(), findings=found_by_receiver(there, there)).wrong
    assert [f"{name}: lost: 1 events, 1 kinds" in wrong for name in SCRAPERS] == [True] * len(SCRAPERS)
    assert not any(text.startswith("receiver") for text in wrong)

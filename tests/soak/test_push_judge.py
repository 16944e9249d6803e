"""The judge of the receiver: it would be worth nothing if it let a lost, doubled or shifted sample pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import evolve
from soak.ledger import KEYED, Books
from soak.push_judge import Findings, Sample, Series, differences, identities, misjudged, untimely
from soak.push_line import Pushed, PushLine
from soak.push_report import push_faults, push_rows, received
from soak.sendings import Sending

from oneshotd.delivery.remote_write.encoding import Encoder, request
from oneshotd.delivery.remote_write.settings import ReceiverSettings

INSTANCE = "edge-1:8090"
NOW = 1_800_000_000_000

#: Three events of one series, and one with a value.
COUNTED_AT, VALUED_AT = (NOW + 1, NOW + 2, NOW + 500), NOW + 3


def series(name: str, n: int, instance: str = INSTANCE) -> Series:
    labels = {"__name__": name, "sender": "s", "n": str(n), "job": "oneshotd", "instance": instance}
    return frozenset(labels.items())


A, B = series("soak", 1), series("soak_value", 2)
RECORD: dict[Series, list[Sample]] = {A: [(at, 1.0) for at in COUNTED_AT], B: [(VALUED_AT, 7.0)]}
EXPECTED = {"s/1": 3, "s/2=7": 1}
AUDIT = {"verdict": "equal", "events": 4, "found": 4, "pending": 0, "lost": {}, "differences": []}


def books() -> Books:
    """Return the books in which these events are: sent one second around `NOW`, each answered."""
    kept = Books([])
    for identity, amount in EXPECTED.items():
        sending = Sending(door=KEYED, amounts={identity: amount}, began=NOW / 1000 - 0.5)
        sending.answered = NOW / 1000 + 0.5
        kept.sendings.append(sending)
    return kept


def line(*pushed: Pushed) -> PushLine:
    return cast(PushLine, SimpleNamespace(pushed=list(pushed)))


def findings(found: Mapping[Series, Sequence[Sample]] = RECORD, **more: Any) -> Findings:
    return Findings(record=RECORD, found=found, audit=more.pop("audit", AUDIT), wall=0.0, **more)


def wrong(found: Findings | None, expected: Mapping[str, int] = EXPECTED) -> list[str]:
    return list(push_faults(books(), expected, found, line(), 0.0))


def test_a_receiver_with_each_event_once_has_no_fault() -> None:
    """A daemon without a fault would be sent back."""
    assert wrong(findings()) == []
    assert received(findings()) == EXPECTED
    rows = {what: figure for _, what, figure in push_rows(findings(), 12, "prometheus")}
    assert rows["samples, each at its millisecond and with its value"] == "4"
    assert (rows["missing"], rows["too often, or never sent"]) == ("0", "0")


FAULTS: dict[str, tuple[dict[Series, list[Sample]], str, str]] = {
    "a sample is missing": ({A: RECORD[A][:2], B: RECORD[B]}, "1", "0"),
    "the first one is missing": ({A: RECORD[A][1:], B: RECORD[B]}, "1", "0"),
    "a series is missing": ({A: RECORD[A]}, "1", "0"),
    "everything is missing": ({}, "4", "0"),
    "a sample is there again, a millisecond later": (
        {A: [*RECORD[A], (NOW + 501, 1.0)], B: RECORD[B]},
        "0",
        "1",
    ),
    "a sample is there twice at its millisecond": ({A: [*RECORD[A], RECORD[A][0]], B: RECORD[B]}, "0", "1"),
    "a sample is there again in a series of another instance": (
        {**RECORD, series("soak", 1, "other:8090"): RECORD[A][:1]},
        "0",
        "1",
    ),
    "all of a series have another instance": (
        {A: RECORD[A], series("soak_value", 2, "other:8090"): RECORD[B]},
        "1",
        "1",
    ),
    "a sample is a millisecond late": ({A: [*RECORD[A][:2], (NOW + 501, 1.0)], B: RECORD[B]}, "1", "1"),
    "two events are one sample with the value 2": (
        {A: [RECORD[A][0], (NOW + 500, 2.0)], B: RECORD[B]},
        "2",
        "1",
    ),
    "a value is another one": ({A: RECORD[A], B: [(VALUED_AT, 8.0)]}, "1", "1"),
    "a series that nobody has sent": ({**RECORD, series("soak", 3): [(NOW, 1.0)]}, "0", "1"),
    "lost and doubled events that make the same total": (
        {A: [*RECORD[A], (NOW + 4, 1.0)]},
        "1",
        "1",
    ),
}


@pytest.mark.parametrize(("found", "missing", "surplus"), FAULTS.values(), ids=FAULTS)
def test_each_fault_of_a_sample_is_found(
    found: dict[Series, list[Sample]], missing: str, surplus: str
) -> None:
    """A lost, doubled or shifted event would pass."""
    rows = {what: figure for _, what, figure in push_rows(findings(found), 12, "prometheus")}
    assert (rows["missing"], rows["too often, or never sent"]) == (missing, surplus)
    texts = wrong(findings(found))
    assert sum(text.startswith("receiver: missing") for text in texts) == (missing != "0")
    assert sum(text.startswith("receiver: too often") for text in texts) == (surplus != "0")


@pytest.mark.parametrize(
    ("record", "text"),
    [
        pytest.param({A: RECORD[A][:2], B: RECORD[B]}, "s/1: -1, expected 3", id="lost"),
        pytest.param({**RECORD, A: [*RECORD[A], (NOW + 9, 1.0)]}, "s/1: +1, expected 3", id="twice"),
        pytest.param({A: RECORD[A], B: [(VALUED_AT, 8.0)]}, "s/2=7: -1, expected 1", id="value"),
    ],
)
def test_what_the_daemon_itself_has_wrong_is_found(record: dict[Series, list[Sample]], text: str) -> None:
    """A daemon that stores an event twice, or not at all, would agree with its own log."""
    audit = {**AUDIT, "events": sum(map(len, record.values())), "found": sum(map(len, record.values()))}
    found = evolve(findings(record, audit=audit), record=record)
    assert differences(found.record, found.found) == []
    assert any(each.startswith(f"receiver: {text}: {KEYED} began ") for each in wrong(found))


@pytest.mark.parametrize("ms", [-2000, 2000])
def test_a_time_that_is_not_that_of_the_sending_is_found(ms: int) -> None:
    """Samples would have the time of something else, as in a scrape, and the daemon's log as well."""
    record = {A: RECORD[A], B: [(VALUED_AT + ms, 7.0)]}
    found = evolve(findings(record), record=record)
    [text] = wrong(found)
    assert text.startswith("receiver: s/2=7: sent ")
    kept = books()
    kept.sendings[1].answered = None  # it may have been stored later than anybody knows
    assert len(untimely(record, kept.sendings, 0.0)) == (ms < 0)


def test_an_identity_is_that_of_the_books() -> None:
    """No event could be compared with what was sent."""
    assert identities({A: [(NOW, 1.0), (NOW + 1, 1.0)], B: [(NOW, 7.0)]}) == {"s/1": 2, "s/2=7": 1}
    [name] = identities({A: [(NOW, 2.0)]})
    assert name not in EXPECTED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verdict", "edge"),
        ("verdict", "different"),
        ("events", 3),
        ("found", 5),
        ("pending", 1),
        ("lost", {"uncertain": 1}),
        ("differences", [{"verdict": "missing"}]),
    ],
)
def test_an_audit_that_does_not_see_what_is_there_is_found(name: str, value: object) -> None:
    """The command would tell users that all is well, or that it is not, without a reason."""
    [text] = wrong(findings(audit={**AUDIT, name: value}))
    assert text.startswith(f"oneshotctl audit: {name}: ")


def test_an_audit_that_fails_is_found() -> None:
    assert misjudged(findings(status=1)) == ["oneshotctl audit: exit status 1"]


def test_a_series_that_has_not_ended_is_found() -> None:
    """Events would linger after a crash for which a marker was forgotten."""
    assert wrong(findings(visible=2)) == ["receiver: 2 series have not ended"]


def test_a_campaign_that_pushes_nothing_fails() -> None:
    """It would pass by doing nothing."""
    audit = {**AUDIT, "events": 0, "found": 0}
    nothing = Findings(audit=audit, wall=0.0)
    assert list(push_faults(Books([]), {}, nothing, line(), 0.0)) == [
        "nothing was pushed: the receiver has no sample"
    ]
    assert wrong(None) == ["nobody has looked at what the receiver has"]


def test_a_missing_sample_is_told_with_its_requests() -> None:
    """The cause would have to be guessed."""
    settings = ReceiverSettings(name="prometheus", instance=INSTANCE)
    encoder = Encoder(settings)
    name = 'soak{n="1",sender="s"}'
    body = request([encoder.sample(name, None, COUNTED_AT[2])])
    pushed = Pushed(asked=12.0, body=body, fault="remote write: the answer is lost", status="204")
    lost = findings({A: RECORD[A][:2], B: RECORD[B]})
    text = next(
        text for text in push_faults(books(), EXPECTED, lost, line(pushed), 2.0) if "expected 1" in text
    )
    assert text.endswith(
        f"\n    10.000: its samples [{COUNTED_AT[2]}]; remote write: the answer is lost, answer 204,"
        " passed on never"
    )

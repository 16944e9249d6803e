"""CloudEvents: what becomes of an event in each of the three modes, and of what is none."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest
from support.strategies import RULES

from oneshotd.core.events import NewEvent, labels_of
from oneshotd.core.parsing.formats import MAX_EVENTS, Rules
from oneshotd.core.parsing.json_format import is_object
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.cloudevents import REQUIRED, decoded, handshake, translate
from oneshotd.ingest.dialects.registry import HANDSHAKES, PRESETS
from oneshotd.ingest.dialects.translation import Context, Message

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

EVENT: Mapping[str, Any] = {
    "specversion": "1.0",
    "type": "org.example.deploy",
    "source": "/ci/shop",
    "id": "7",
}
LABELS = {"type": "org.example.deploy", "source": "/ci/shop"}
CONTEXT = Context(rules=RULES, hold=3600.0, now=1.7e9)


def structured(event: object = EVENT, kind: str = STRUCTURED, **more: object) -> Message:
    body = event if isinstance(event, bytes) else json.dumps({**event, **more} if more else event).encode()  # type: ignore[dict-item]  # a mapping where there is more
    return Message(body=body, headers={"content-type": kind})


def batch(*events: object) -> Message:
    return structured(list(events), BATCH)


def binary(
    body: bytes = b"", kind: str = "application/json", more: Mapping[str, str | None] = {}, **attributes: str
) -> Message:
    given = {**EVENT, **more, **attributes}
    headers = {f"ce-{name}": text for name, text in given.items() if text is not None}
    return Message(body=body, headers={**headers, **({"content-type": kind} if kind else {})})


def events(message: Message, rules: Rules = RULES) -> list[NewEvent]:
    found = translate(message, Context(rules=rules, hold=3600.0, now=1.7e9))
    assert found.ignored == 0
    if found.group is None:
        return []
    assert found.group.keys_decide
    assert found.group.key is None
    return list(found.group.events)


def one(message: Message) -> NewEvent:
    (event,) = events(message)
    return event


def test_it_is_a_preset() -> None:
    assert PRESETS["cloudevents"] is translate
    assert HANDSHAKES["cloudevents"] is handshake


# ---- what becomes of the attributes


@pytest.mark.parametrize(
    "message",
    [
        structured(),
        structured(kind="Application/CloudEvents+JSON ; charset=UTF-8"),
        structured(b"\xef\xbb\xbf" + json.dumps(EVENT).encode()),
        structured(subject=None, time=None, datacontenttype=None, data={"version": "1.2"}, severity=5),
        structured(data=None),
        structured(data="text", datacontenttype="text/plain", flag=True, half=0.5),
        structured(data_base64="AAECAw==", dataschema="https://example.org/x"),
        batch(EVENT),
        binary(),
        binary(b'{"version": "1.2"}'),
        binary(b"\xff\xfe", kind="application/octet-stream"),
        binary(b"<a/>", kind=""),
        binary(subject="", comexampleextension="x"),
    ],
    ids=repr,
)
def test_all_modes_make_the_same_event(message: Message) -> None:
    """A library that changes the mode, or a gateway that does, would change the series."""
    event = one(message)
    assert event == one(structured())
    assert labels_of(event.series) == LABELS
    assert (event.value, event.detail) == (None, "")


def test_subject_and_time() -> None:
    """What an event is about would be lost, or its time."""
    for message in (
        structured(subject="web", time="2026-11-28T16:00:00.5+01:00"),
        binary(subject="web", time="2026-11-28T16:00:00.5+01:00"),
    ):
        event = one(message)
        assert labels_of(event.series) == {**LABELS, "subject": "web"}
        assert json.loads(event.detail) == {"time": "2026-11-28T16:00:00.5+01:00"}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%65%75ro", "euro"),
        ("%e2%82%ac", "€"),
        ("a%2520b", "a%20b"),
        ('"a b"', "a b"),
        ('"a \\"b\\" \\\\ %25"', 'a "b" \\ %'),
        ('"', '"'),
        ("50%", "50%"),
        ("%zz", "%zz"),
        ("  a  ", "a"),
        ("a+b", "a+b"),
        ("größe".encode().decode("latin-1"), "größe"),
    ],
)
def test_headers_are_decoded_once(sent: str, text: str) -> None:
    """The same event would be two series, by its mode."""
    assert one(binary(subject=sent)) == one(structured(subject=text))
    assert labels_of(one(binary(subject=sent)).series)["subject"] == text


# ---- keys


def test_source_and_id_make_the_key() -> None:
    """A repetition would count twice, or another source's event not at all."""
    key = one(structured()).key
    assert key is not None
    assert one(structured(type="other", subject="x", data=[1])).key == key
    assert one(binary(b"x", kind="text/plain")).key == key
    others = [
        one(structured(id="8")),
        one(structured(source="/ci")),
        one(structured(source="/ci/sho", id="p7")),
        one(Message(body=json.dumps(EVENT).encode(), headers={"content-type": STRUCTURED}, principal="ci")),
    ]
    assert len({key, *(other.key for other in others)}) == 5


# ---- batches


def test_a_batch_is_one_group() -> None:
    made = events(batch(EVENT, {**EVENT, "id": "8", "subject": "web"}))
    assert [labels_of(event.series) for event in made] == [LABELS, {**LABELS, "subject": "web"}]
    assert made[0].key != made[1].key


def test_an_empty_batch_stores_nothing() -> None:
    """Its sender would repeat it for ever."""
    assert events(batch()) == []


def test_a_batch_is_stored_as_a_whole_or_not_at_all() -> None:
    """A sender that repeats a refused batch would not know which events are left."""
    bad = {**EVENT, "id": None}
    with pytest.raises(Refused, match=r"^event 2: id is missing; event 4: an event is a JSON object$"):
        translate(batch(EVENT, bad, EVENT, 5), CONTEXT)
    with pytest.raises(Refused, match=r"event 20: .*; and 80 more$"):
        translate(batch(*[bad] * 100), CONTEXT)
    with pytest.raises(Refused, match=rf"more than {MAX_EVENTS}") as caught:
        translate(structured(b"[%b]" % b",".join([b"1"] * (MAX_EVENTS + 1)), BATCH), CONTEXT)
    assert caught.value.status == 413


# ---- what cannot be taken


@pytest.mark.parametrize(
    ("message", "status", "why"),
    [
        (Message(), 415, "Content-Type: expected application/cloudevents"),
        (
            Message(body=b"{}", headers={"content-type": "application/json"}),
            415,
            "with the header ce-specversion",
        ),
        (
            Message(body=b"{}", headers={"ce-id": "1", "ce-type": "a", "ce-source": "b"}),
            415,
            "ce-specversion",
        ),
        (structured(kind="application/cloudevents+avro"), 415, "got 'application/cloudevents.avro'"),
        (structured(kind="application/cloudevents"), 415, "expected application/cloudevents"),
        (structured(kind="application/cloudevents-batch+xml"), 415, "expected application/cloudevents"),
        (structured(kind=f"{STRUCTURED}; charset=utf-16"), 415, "expected charset=utf-8, got 'utf-16'"),
        (structured(b""), 400, "not JSON"),
        (structured(b"{"), 400, "not JSON"),
        (structured(b"\xff"), 400, "not UTF-8"),
        (structured(b"[" * 100_000), 400, "nested too deep"),
        (structured(b"null"), 400, "an event is a JSON object"),
        (structured([EVENT]), 400, "an event is a JSON object"),
        (structured(EVENT, BATCH), 400, "a batch is a JSON array"),
        (structured(b'"x"', BATCH), 400, "a batch is a JSON array"),
        (structured({}), 400, "specversion is missing"),
        *((structured({**EVENT, name: None}), 400, f"^{name} is missing$") for name in EVENT),
        *((structured({**EVENT, name: ""}), 400, f"^{name} is empty$") for name in EVENT),
        *((binary(more={name: ""}), 400, f"^{name} is empty$") for name in EVENT),
        *((binary(more={name: None}), 400, f"^{name} is missing$") for name in REQUIRED[1:]),
        (structured(specversion="0.3"), 400, "specversion: expected 1.0, got '0.3'"),
        (binary(specversion="1.1"), 400, "specversion: expected 1.0, got '1.1'"),
        (structured(specversion=1.0), 400, "specversion: expected a text, got the number '1.0'"),
        (structured(id=7), 400, "id: expected a text, got the number '7'"),
        (structured(type=True), 400, "type: expected a text, got true"),
        (structured(source=["a"]), 400, "source: expected a text, got an array"),
        (structured(subject={"a": 1}), 400, "subject: expected a text, got an object"),
        (structured(time=1764345600), 400, "time: expected a text, got the number"),
        (structured(datacontenttype=5), 400, "datacontenttype: expected a text"),
        (structured(data=1, data_base64="AA=="), 400, "data and data_base64: expected one of them, got both"),
        (structured(b'{"id": "1", "id": "2"}'), 400, "'id' is given twice"),
        (structured(id="\ud800"), 400, "id has half of a surrogate pair"),
        (binary(subject="%C0%A0"), 400, "ce-subject: '%C0%A0' is not UTF-8"),
        (binary(subject="%ff"), 400, "ce-subject: '%ff' is not UTF-8"),
        (binary(subject="\xff"), 400, "is not UTF-8"),
        (binary(subject="€"), 400, "is not UTF-8"),
        (structured(subject="x" * 5000), 400, "label 'subject': the value is longer"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_event_is_refused_with_a_reason(message: Message, status: int, why: str) -> None:
    """The sender would repeat it without end, and nobody would know why."""
    with pytest.raises(Refused, match=why) as caught:
        translate(message, CONTEXT)
    assert caught.value.status == status
    assert caught.value.text.isprintable()


def test_a_large_number_of_digits_costs_nothing() -> None:
    """One number of a million digits would hold the daemon for seconds."""
    body = json.dumps(EVENT).encode()[:-1] + b', "data": ' + b"9" * 1_000_000 + b"}"
    assert labels_of(one(structured(body)).series) == LABELS


def test_a_long_time_is_cut() -> None:
    assert len(one(structured(time="9" * 100_000)).detail.encode()) < 4096


# ---- the event as one JSON object, for a mapping


def plain(item: object) -> Any:
    """The value as `json` has it; numbers stay texts."""
    if is_object(item):
        return {name: plain(value) for name, value in item}  # type: ignore[attr-defined]  # pairs
    return [plain(value) for value in item] if isinstance(item, list) else item


DATA = {"version": "1.2", "parts": ["a", {"b": None}]}


@pytest.mark.parametrize(
    ("message", "more"),
    [
        (structured(data=DATA), {"data": DATA}),
        (structured(data=None), {"data": None}),
        (structured(data="x", datacontenttype="text/plain"), {"data": "x", "datacontenttype": "text/plain"}),
        (binary(json.dumps(DATA).encode()), {"data": DATA, "datacontenttype": "application/json"}),
        (
            binary(b'\xef\xbb\xbf{"a": 1}', kind="application/vnd.x+json; charset=utf-8"),
            {"data": {"a": "1"}, "datacontenttype": "application/vnd.x+json; charset=utf-8"},
        ),
        (binary("größe".encode(), kind="text/plain"), {"data": "größe", "datacontenttype": "text/plain"}),
        (binary(b"x", kind=""), {"data": "x"}),
        (binary(kind=""), {}),
        (
            binary(b"\xff\x00", kind="application/octet-stream"),
            {"data_base64": "/wA=", "datacontenttype": "application/octet-stream"},
        ),
        (
            structured(data_base64=b64encode(b'{"a": 1}').decode(), datacontenttype="application/json"),
            {
                "data_base64": b64encode(b'{"a": 1}').decode(),
                "data": {"a": "1"},
                "datacontenttype": "application/json",
            },
        ),
        (structured(data_base64="/wA="), {"data_base64": "/wA="}),
        (structured(data_base64="YWJj"), {"data_base64": "YWJj", "data": "abc"}),
    ],
    ids=repr,
)
def test_a_mapping_finds_attributes_and_data_in_all_modes(message: Message, more: dict[str, Any]) -> None:
    """A mapping would have to know the mode that a sender has chosen."""
    (item,) = decoded(message)
    assert plain(item) == {**EVENT, **more}


def test_a_mapping_gets_each_event_of_a_batch() -> None:
    assert [plain(item)["id"] for item in decoded(batch(EVENT, {**EVENT, "id": "8"}))] == ["7", "8"]
    assert decoded(batch()) == []


def test_extensions_are_members() -> None:
    (item,) = decoded(
        binary(kind="", more={"severity": "high%20", "not_one": "x", "data": "y", "datacontenttype": "z"})
    )
    assert plain(item) == {**EVENT, "severity": "high "}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (binary(b"{"), "not JSON"),
        (binary(b'{"a": 1} {"b": 2}'), "not JSON"),
        (structured(data_base64="A"), "data_base64 is not Base64"),
        (structured(data_base64="A===\n"), "data_base64 is not Base64"),
        (structured(data_base64="é"), "data_base64 is not Base64"),
        (structured(data_base64=5), "data_base64: expected a text, got the number"),
        (structured(data_base64="AAAA", datacontenttype="application/json"), "not JSON"),
    ],
)
def test_data_of_the_wrong_type_is_refused_for_a_mapping(message: Message, why: str) -> None:
    """Labels would be missing without a sign; without a mapping the data is not looked at."""
    with pytest.raises(Refused, match=why):
        decoded(message)
    assert labels_of(one(message).series) == LABELS


# ---- the handshake


def test_the_handshake_allows_the_origin() -> None:
    """Senders that ask first (Azure Event Grid among them) would never send."""
    asked = Message(
        method="OPTIONS",
        headers={"webhook-request-origin": "eventgrid.example.net", "webhook-request-rate": "120"},
    )
    answer = handshake(asked)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == {
        "Allow": "OPTIONS, POST",
        "WebHook-Allowed-Origin": "eventgrid.example.net",
        "WebHook-Allowed-Rate": "*",
    }


def test_without_an_origin_nothing_is_allowed() -> None:
    """A probe would be answered with a consent that nobody has asked for."""
    assert handshake(Message(method="OPTIONS")).headers == {"Allow": "OPTIONS, POST"}


@pytest.mark.parametrize("origin", ["", "a b", "a\r\nSet-Cookie: x", "é", "x" * 256])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(Refused, match="WebHook-Request-Origin: expected a name"):
        handshake(Message(method="OPTIONS", headers={"webhook-request-origin": origin}))

"""Fuzz targets of CloudEvents and DogStatsD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from fuzz.response import RULES, check

from oneshotd.core.events import NewEvent, details_of, labels_of
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES
from oneshotd.core.parsing.formats import MAX_DATAGRAM_LINES, line_count, parse_datagram
from oneshotd.core.parsing.json_format import is_object
from oneshotd.errors import Refused
from oneshotd.ingest.dialects import cloudevents
from oneshotd.ingest.dialects.dogstatsd import parse_messages
from oneshotd.ingest.dialects.translation import Context, Message

_CONTEXT = Context(rules=RULES, hold=3600.0, now=1_700_000_000.0)

#: Begins an input of `cloud_event`, and says how the rest is sent.
_MODES = (cloudevents.STRUCTURED, cloudevents.BATCH, cloudevents.BINARY)

CLOUD_EVENTS: Sequence[bytes] = (
    b'\0{"specversion": "1.0", "id": "1", "source": "/a", "type": "b", "subject": "c", "data": [{"d": 1}]}',
    b'\0{"specversion": "1.0", "id": "1", "source": "/a", "type": "b", "time": "x", "data_base64": "AAA="}',
    b'\1[{"specversion": "1.0", "id": "1", "source": "/a", "type": "b", "datacontenttype": "a/json"}]',
    b'\2{"specversion": "1.0", "id": "1", "source": "%2Fa", "type": "b", "subject": "c%20\\"d\\""}\0{"e": 1}',
)
CLOUD_EVENT_WORDS: Sequence[bytes] = (
    *(b'"specversion"', b'"1.0"', b'"id"', b'"source"', b'"type"', b'"subject"', b'"time"', b'"data"'),
    *(b'"data_base64"', b'"datacontenttype"', b'"application/json"', b'"AAA="', b'"text/plain"'),
    *(b"\0", b"\1", b"\2", b"%20", b"%FF", b'\\"'),
)

MESSAGES: Sequence[bytes] = (
    b"_e{6,4}:Deploy|done|d:1764345600|h:web|k:x|p:low|s:ci|t:error|#env:prod,cache|c:in-1",
    "_e{3,7}:é!|a\nb=c\\n|#type:x,type:y\n_sc|redis.up|2|m:m\\: x\ntype=a&value=1".encode(),
)
MESSAGE_WORDS: Sequence[bytes] = (
    *(b"_e{", b"_e{1,1}:", b"_e{3,9}:", b"}:", b"_sc|", b"|", b"|0", b"|#", b"|d:", b"|h:", b"|t:", b"|m:"),
    *(b",", b":", b"\n", b"\r\n", b"\\n", b"\0", b"\xc3\xa9", b"\xff", b"dd.internal.", b"host:", b"value:"),
    *(b"type=a", b"deploys:1|c", b"1764345600", b"999999"),
)


def cloud_event(check_refusal: Callable[[Refused], None]) -> Callable[[bytes], int]:
    """Return a target: an event is stored with its key, or refused; a mapping gets whole objects."""

    def run(data: bytes) -> int:
        message = _sent(data)
        if message is None:
            return 0
        try:
            for item in cloudevents.decoded(message):
                assert is_object(item)
        except Refused as refused:
            _check_type(refused, check_refusal)
        try:
            group = cloudevents.translate(message, _CONTEXT).group
        except Refused as refused:
            _check_type(refused, check_refusal)
            return 0
        events = () if group is None else group.events
        assert all(event.key is not None for event in events)
        return _checked(events)

    return run


def _sent(data: bytes) -> Message | None:
    """Return the request; the attributes of the binary mode are a JSON object before the first NUL."""
    mode, rest = _MODES[data[0] % len(_MODES)] if data else _MODES[0], data[1:]
    if mode != cloudevents.BINARY:
        return Message(body=rest, raw=rest, headers={"content-type": mode})
    attributes, _, body = rest.partition(b"\0")
    headers = dict(_headers(attributes))
    return Message(body=body, raw=body, headers={"content-type": "application/json", **headers})


def _headers(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield headers: names and texts between quotation marks, in turns."""
    parts = data.decode("latin-1").replace('\\"', "\x01").split('"')[1::2]
    for name, text in zip(parts[::2], parts[1::2], strict=False):
        yield f"ce-{name}", text.replace("\x01", '"')


def _check_type(refused: Refused, check_refusal: Callable[[Refused], None]) -> None:
    """See that a refusal can be shown; one of the type has a status of its own."""
    if refused.reason == "type":
        assert refused.status == 415
        refused = Refused(refused.text, reason=refused.reason)
    check_refusal(refused)


def messages(check_refusal: Callable[[Refused], None]) -> Callable[[bytes], int]:
    """Return a target: each message and line of a datagram is an event or a refusal."""

    def run(data: bytes) -> int:
        found = parse_messages(
            data, rules=RULES, parse_lines=lambda lines: parse_datagram(lines, rules=RULES)
        )
        if found is None:
            return len(parse_datagram(data, rules=RULES)[0])
        events, refused_lines = found.lines
        for refused in (*found.refusals, *refused_lines):
            check_refusal(refused)
        parts = sum(map(len, (found.events, found.refusals, events, refused_lines)))
        assert 0 < parts <= max(line_count(data), 1)
        assert len(found.events) <= MAX_DATAGRAM_LINES
        for event in found.events:
            assert (event.value, event.key) == (None, None)
            assert labels_of(event.series)["type"] in ("event", "service_check")
        return _checked([*found.events, *events])

    return run


def _checked(events: Sequence[NewEvent]) -> int:
    for event in events:
        details: Mapping[str, str] = details_of(event.detail)
        assert all(details.values())
        assert len(event.detail.encode()) <= MAX_DETAIL_BYTES
    check([event._replace(key=None, detail="") for event in events])
    return len(events)

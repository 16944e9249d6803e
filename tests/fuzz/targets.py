"""What is fuzzed: each target takes any bytes, and raises only what is a fault of ours."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Sequence

from attrs import frozen
from fuzz import dialects, mappings, presets, senders
from fuzz import vocabulary as words
from fuzz.connections import serve
from fuzz.response import RULES, check
from support.hook_messages import CI

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.formats import (
    MAX_KEY_BYTES,
    line_count,
    parse_datagram,
    parse_json,
    parse_json_event,
    parse_line,
    parse_lines,
    parse_ndjson,
    parse_plain_datagrams,
    parse_query,
)
from oneshotd.core.parsing.idempotency import idempotency_key
from oneshotd.core.parsing.numbers import canonical
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.emit.encoding import fault
from oneshotd.emit.encoding import line as emit_line
from oneshotd.errors import REASONS, Refused
from oneshotd.web.transport.gzip_body import inflated

#: Bytes that a body may have when it is inflated.
MOST_INFLATED = 100_000


@frozen
class Target:
    """Something to fuzz.

    :param run: raises where there is a fault; else says how much of the input was taken.
    :param seeds: what is taken, to start from.
    :param words: what such bytes are made of.
    """

    run: Callable[[bytes], int]
    seeds: Sequence[bytes]
    words: Sequence[bytes]


def refusing(parse: Callable[[bytes], Iterable[NewEvent]]) -> Callable[[bytes], int]:
    """Parse; what is stored reads back equal, what is refused says why, on one line."""

    def run(data: bytes) -> int:
        try:
            events = list(parse(data))
        except Refused as refused:
            check_refusal(refused)
            return 0
        check(events)
        return len(events)

    return run


def check_refusal(refused: Refused) -> None:
    """See that a refusal can be shown and counted."""
    assert refused.reason in REASONS
    assert refused.text.isprintable()
    assert 0 < len(refused.text) < 10_000
    assert refused.status in (400, 413)


def query(data: bytes) -> list[NewEvent]:
    """What stands before the first NUL is the query, the rest the body."""
    before, _, body = data.partition(b"\0")
    return [parse_query(before, body, rules=RULES)]


def datagram(data: bytes) -> int:
    """Good lines do not suffer from bad ones, and the fast parser says what the grammar says."""
    events, refusals = parse_datagram(data, rules=RULES)
    for refused in refusals:
        check_refusal(refused)
    # isspace() knows no NUL, rstrip() no VT and FF.
    kept = (line.rstrip(b" \t\r\0") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    assert len(events) + len(refusals) == sum(1 for line in kept if line and not line.isspace())
    assert line_count(data) == len(events) + len(refusals)
    for ordinary in (_quick, TemplateParser(RULES)):
        same, refused_too = parse_datagram(data, rules=RULES, ordinary=ordinary)
        assert list(same) == list(events)
        assert [each.text for each in refused_too] == [each.text for each in refusals]
    together = parse_plain_datagrams([data, data], _quick)
    assert together is None or list(together) == [*events, *events]
    check(events)
    return len(events)


_quick = TemplateParser(RULES)


def emitted(data: bytes) -> int:
    """What the emitter would hold back over UDP is refused here, and what it makes is taken."""
    why = fault(data)
    try:
        parse_line(data, rules=RULES)
        taken = 1
    except Refused:
        taken = 0
    assert not taken or why is None
    try:
        pairs = [pair.partition(b"=")[::2] for pair in data.split(b"&")]
        made = emit_line([(name.decode(), text.decode()) for name, text in pairs])
    except ValueError:
        return taken
    assert fault(made) is None
    return 1


def key(data: bytes) -> int:
    """A key is stored and compared as text."""
    try:
        text = idempotency_key(data)
    except Refused as refused:
        check_refusal(refused)
        return 0
    assert 0 < len(text.encode()) <= MAX_KEY_BYTES
    return 1


def number(data: bytes) -> int:
    """Every spelling of a number ends in one, which is read back as the same float64."""
    try:
        text = canonical(data.decode("utf-8", "replace"))
    except ValueError:
        return 0
    assert canonical(text) == text
    check([NewEvent("events_to_metrics", text)])
    return 1


def gzip_body(data: bytes) -> int:
    """What is inflated is what everybody else makes of it, and within the limit."""
    held: list[int] = []

    async def pause() -> None:
        """Go on at once."""

    try:
        inflated(data, most=MOST_INFLATED, hold=held.append, pause=pause).send(None)
    except StopIteration as done:
        body: bytes = done.value
        assert len(body) == sum(held) <= MOST_INFLATED
        assert body == gzip.decompress(data)
        return 1
    except Refused as refused:
        check_refusal(refused)
        assert sum(held) <= MOST_INFLATED
        return 0
    raise AssertionError("it waits")


_query, _lines = words.QUERY_WORDS, (b"\r\n".join(words.LINES),)

TARGETS = {
    "line": Target(refusing(lambda data: [parse_line(data, rules=RULES)]), words.LINES, _query),
    "query": Target(refusing(query), (b"\0".join(words.LINES[:2]),), _query),
    "lines": Target(refusing(lambda data: parse_lines(data, rules=RULES)), _lines, _query),
    "datagram": Target(datagram, _lines, _query),
    "emitted": Target(emitted, words.LINES, _query),
    "json": Target(
        refusing(lambda data: parse_json(data, rules=RULES)),
        (words.ARRAY, *words.OBJECTS),
        words.JSON_WORDS,
    ),
    "object": Target(
        refusing(lambda data: [parse_json_event(b"x=1", data, rules=RULES)]), words.OBJECTS, words.JSON_WORDS
    ),
    "ndjson": Target(
        refusing(lambda data: parse_ndjson(data, rules=RULES)),
        (b"\n".join(words.OBJECTS),),
        words.JSON_WORDS,
    ),
    "preset": Target(refusing(presets.preset), presets.SEEDS, (*presets.WORDS, *words.JSON_WORDS)),
    "mapping": Target(mappings.body(check_refusal), mappings.BODIES, mappings.WORDS),
    "mapping-file": Target(
        mappings.file(check_refusal), (CI.encode(), mappings.WIDE), (*mappings.FILE_WORDS, *words.NAMES)
    ),
    "gzip": Target(gzip_body, words.GZIPPED, (*words.GZIPPED, b"\0", b"\x1f\x8b\x08")),
    "key": Target(key, words.KEYS, words.KEY_WORDS),
    "number": Target(number, words.NUMBERS, (*words.NUMBERS, *words.NO_NUMBERS)),
    "annotation": Target(dialects.annotation, dialects.ANNOTATIONS, dialects.ANNOTATION_WORDS),
    "ping": Target(dialects.ping, dialects.PINGS, dialects.PING_WORDS),
    "cloudevents": Target(
        senders.cloud_event(check_refusal),
        senders.CLOUD_EVENTS,
        (*senders.CLOUD_EVENT_WORDS, *words.JSON_WORDS),
    ),
    "dogstatsd": Target(senders.messages(check_refusal), senders.MESSAGES, senders.MESSAGE_WORDS),
    "request": Target(serve, words.REQUESTS, (*words.HTTP_WORDS, *_query, *words.JSON_WORDS)),
}

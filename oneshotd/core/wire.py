"""From bytes to events: one grammar behind all doors (HTTP, files, UDP).

The forms are the query string, lines of it, a JSON array and lines of JSON. In a body of many
events it is all or none; in a datagram each line stands for itself. Nothing but `Refused` is
raised, whatever the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from ..errors import Refused
from . import wire_json
from .event import NewEvent, Plain
from .grammar import (
    MAX_KEY_BYTES,
    MAX_LABELS,
    MAX_NAME_BYTES,
    MAX_VALUE_BYTES,
    Pair,
    Rules,
    checked_key,
    event,
    quoted,
)
from .ordinary import Ordinary

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DATAGRAM_BYTES",
    "MAX_DATAGRAM_LINES",
    "MAX_EVENTS",
    "MAX_KEY_BYTES",
    "MAX_LABELS",
    "MAX_NAMED",
    "MAX_NAME_BYTES",
    "MAX_VALUE_BYTES",
    "Rules",
    "idempotency_key",
    "line_count",
    "parse_datagram",
    "parse_json",
    "parse_line",
    "parse_lines",
    "parse_ndjson",
    "parse_plain_datagrams",
    "parse_query",
    "query_pairs",
]

#: Bytes of a datagram: UDP's length field has 16 bits (RFC 768).
MAX_DATAGRAM_BYTES = 64 * 1024
#: Lines of a datagram that are looked at, so that one of 32 000 lines does not hold up everything
#: else for a quarter of a second. With 32 bytes a line no datagram has more.
MAX_DATAGRAM_LINES = 2048
#: Bytes of a body. nginx's `client_max_body_size` is 1 MiB, too.
MAX_BODY_BYTES = 1024 * 1024
#: Events of a body. Prometheus' remote write sends 2000 samples at once, the batches of the
#: OpenTelemetry collector have 8192.
MAX_EVENTS = 10_000
#: Bad lines (or items) of a body that are named in a refusal; the others are counted.
MAX_NAMED = 20

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)
_QUOTED_KEY = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_Item = TypeVar("_Item")


def parse_line(line: bytes, *, rules: Rules) -> NewEvent:
    """An event in the query-string form, ``type=deploy&version=1.2&value=3``.

    Raw spaces and raw UTF-8 are fine: lines come from files and shells, too.

    :param line: without its line end.
    :raises Refused: says what and why, not where: the caller knows the line's number.
    """
    return event(query_pairs(line), rules)


def parse_query(query: bytes, body: bytes, *, rules: Rules) -> NewEvent:
    """The event of ``POST /event``: the query and a form-urlencoded body both carry labels.

    :param body: may end with a line end, as ``curl --data-binary @file`` sends it.
    :raises Refused: also for a body of several lines, which would become one garbled event.
    """
    _check_size(body)
    body = body.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in body:
        raise Refused("the body has several lines: this takes one event, /events many", reason="syntax")
    return event(chain(query_pairs(query), query_pairs(body)), rules)


def idempotency_key(header: bytes) -> str:
    r"""The key in an ``Idempotency-Key`` header.

    A string of RFC 8941, ``"…"`` with ``\"`` and ``\\``, as draft-ietf-httpapi-idempotency-key
    asks; or bare, as many clients send it.

    :raises Refused: empty, too long, badly quoted, not UTF-8, or with a control character.
    """
    try:
        text = header.decode().strip(" \t")
    except UnicodeDecodeError:
        raise Refused("Idempotency-Key is not UTF-8", reason="encoding") from None
    if text.startswith('"'):
        found = _QUOTED_KEY.fullmatch(text)
        if found is None:
            raise Refused(f"Idempotency-Key: {quoted(text)} is not a quoted string", reason="key")
        text = re.sub(r"\\(.)", r"\1", found[1])
    if _CONTROL.search(text):
        raise Refused(f"Idempotency-Key: {quoted(text)} has a control character", reason="key")
    return checked_key("Idempotency-Key", text)


def query_pairs(line: bytes) -> Iterator[Pair]:
    """The pairs of a query string, decoded.

    :raises Refused: while it is read: a broken escape, no ``=``, no UTF-8.
    """
    escaped = b"%" in line
    if escaped and (broken := _BROKEN_ESCAPE.search(line)):
        shown = quoted(broken[0].decode(errors="replace"))
        raise Refused(f"{shown} is not a percent escape; % itself is %25", reason="encoding")
    for pair in line.replace(b"+", b" ").split(b"&"):
        if not pair:
            continue
        name, equals, text = pair.partition(b"=")
        if not equals:
            shown = quoted(pair.decode(errors="replace"))
            raise Refused(f"{shown} is not of the form name=value", reason="syntax")
        if escaped:
            name, text = unquote_to_bytes(name), unquote_to_bytes(text)
        try:
            yield name.decode(), text.decode()
        except UnicodeDecodeError:
            shown = quoted(pair.decode(errors="replace"))
            raise Refused(f"{shown} is not UTF-8", reason="encoding") from None


def parse_lines(body: bytes, *, rules: Rules) -> Sequence[NewEvent]:
    """Lines in the query-string form, all or none.

    :raises Refused: names the bad lines; its reason is that of the first.
    """
    _check_size(body)
    ordinary = _ordinary(rules)
    plain = ordinary.all(body.removesuffix(b"\n")) if body.count(b"\n") < MAX_EVENTS else None
    if plain is not None:
        return plain
    return _all_or_none("line", list(_split(body)), lambda line: _event(line, rules, ordinary))


#: What bodies have taught it serves the next ones.
_ordinary = lru_cache(maxsize=4)(Ordinary)


def parse_ndjson(body: bytes, *, rules: Rules) -> list[NewEvent]:
    """Lines of one flat JSON object each, all or none; as `parse_lines`."""

    def parse(line: bytes) -> NewEvent:
        return event(wire_json.pairs(wire_json.decode(line)), rules)

    _check_size(body)
    return _all_or_none("line", list(_split(body)), parse)


def parse_json(body: bytes, *, rules: Rules) -> list[NewEvent]:
    """A JSON array of flat objects, all or none.

    Strings are labels as they are, numbers in the digits they were written with, booleans as
    ``true`` and ``false``; null is no label.

    :raises Refused: names the bad items, counted from 1; or says where the body is not JSON.
    """
    _check_size(body)
    items = wire_json.decode(body) if body and not body.isspace() else []
    if type(items) is not list:
        raise Refused("the body is not a JSON array", reason="syntax")
    return _all_or_none("item", list(enumerate(items, 1)), lambda item: event(wire_json.pairs(item), rules))


def parse_datagram(
    data: bytes, *, rules: Rules, ordinary: Ordinary | None = None
) -> tuple[Sequence[NewEvent], list[Refused]]:
    """The good lines of a datagram as events, and why the others are none.

    :param ordinary: for these rules; it knows the lines of the datagrams before.
    """
    if len(data) > MAX_DATAGRAM_BYTES:
        return [], [Refused(f"the datagram is longer than {MAX_DATAGRAM_BYTES} bytes", reason="limit")]
    if ordinary is not None and data.count(b"\n") < MAX_DATAGRAM_LINES:
        found = ordinary.all(data.removesuffix(b"\n"))
        if found is not None:
            return found, []
    events, refusals = [], []
    lines = _split(data)
    for _, line in islice(lines, MAX_DATAGRAM_LINES):
        try:
            events.append(_event(line, rules, ordinary))
        except Refused as refused:
            # Its traceback would tie this frame and the list into a cycle.
            refusals.append(refused.with_traceback(None))
    for _ in lines:
        refusals.append(Refused(f"the datagram has more than {MAX_DATAGRAM_LINES} lines", reason="limit"))
    return events, refusals


def parse_plain_datagrams(datagrams: Sequence[bytes], ordinary: Ordinary) -> Plain | None:
    """The events of several datagrams in order, if all lines are plain and alike; else None, and soon."""
    if max(map(len, datagrams)) >= MAX_DATAGRAM_LINES * len(b"a=1\n"):
        return None  # it may have too many lines
    return ordinary.alike(b"\n".join([data.removesuffix(b"\n") for data in datagrams]))


def line_count(data: bytes) -> int:
    """How many lines of a datagram could be events."""
    return sum(1 for _ in _split(data))


def _event(line: bytes, rules: Rules, ordinary: Ordinary | None) -> NewEvent:
    series = None if ordinary is None else ordinary.series(line)
    return event(query_pairs(line), rules) if series is None else NewEvent(series)


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise Refused(f"the body is longer than {MAX_BODY_BYTES} bytes", reason="limit", status=413)


def _split(text: bytes) -> Iterator[tuple[int, bytes]]:
    r"""Numbered lines without the blank ones; only ``\n`` ends a line (so no `splitlines`)."""
    for number, ended in enumerate(text.split(b"\n"), 1):
        line = ended.removesuffix(b"\r")
        if line and not line.isspace():
            yield number, line


def _all_or_none(
    unit: str, numbered: list[tuple[int, _Item]], parse: Callable[[_Item], NewEvent]
) -> list[NewEvent]:
    if not numbered:
        raise Refused("there is no event in the body", reason="empty")
    if len(numbered) > MAX_EVENTS:
        text = f"there are {len(numbered)} events in the body, more than {MAX_EVENTS}"
        raise Refused(text, reason="limit", status=413)
    events: list[NewEvent] = []
    faults: list[str] = []
    reasons: list[str] = []
    for number, item in numbered:
        try:
            events.append(parse(item))
        except Refused as refused:
            reasons.append(refused.reason)
            if len(faults) < MAX_NAMED:
                faults.append(f"{unit} {number}: {refused.text}")
    if reasons:
        if len(reasons) > len(faults):
            faults.append(f"and {len(reasons) - len(faults)} more")
        raise Refused("; ".join(faults), reason=reasons[0])
    return events

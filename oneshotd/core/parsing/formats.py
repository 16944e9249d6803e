"""Parse bytes to events: one grammar for HTTP bodies, files and datagrams.

A byte order mark at the beginning of a body or datagram is cut off, and so are NULs and blanks at
the end of each line: editors, shells and C buffers add them, and a line must have one meaning
in every position.

The forms are the query string, lines of it, a JSON array and lines of JSON. A body is
parsed as a whole or refused; the lines of a datagram are parsed one by one. The parsers raise
`Refused` and no other exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import NewEvent
from oneshotd.core.parsing import foreign
from oneshotd.core.parsing import json_format as wire_json
from oneshotd.core.parsing.grammar import (
    MAX_KEY_BYTES,
    MAX_LABELS,
    MAX_NAME_BYTES,
    MAX_VALUE_BYTES,
    Pair,
    Rules,
    event,
    quoted,
)
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.errors import Refused

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DATAGRAM_BYTES",
    "MAX_DATAGRAM_LINES",
    "MAX_EVENTS",
    "MAX_HOOK_BODY_BYTES",
    "MAX_KEY_BYTES",
    "MAX_LABELS",
    "MAX_NAMED",
    "MAX_NAME_BYTES",
    "MAX_VALUE_BYTES",
    "Rules",
    "line_count",
    "parse_datagram",
    "parse_json",
    "parse_json_event",
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
#: Bytes of the body of a webhook, at most and by default: GitHub sends up to 25 MB.
MAX_HOOK_BODY_BYTES = 25 * 1024 * 1024
#: Events of a body. Prometheus' remote write sends 2000 samples at once, the batches of the
#: OpenTelemetry collector have 8192.
MAX_EVENTS = 10_000
#: Bad lines (or items) of a body that are named in a refusal; the others are counted.
MAX_NAMED = 20

_BOM = b"\xef\xbb\xbf"
#: Bytes that are cut off at the end of a line, before the line end.
_BLANKS = b" \t\r\0"
#: Bytes that are cut off at the end of a body or datagram.
_ENDS = _BLANKS + b"\n"
#: Before a name that does not begin a line: a new pair, or a place within a URL or a list.
_BEFORE_A_NAME = b"&=?;,/_-.: +'\"([{|"
#: Bytes of a name that is not often the end of a word.
MIN_TELLING_NAME = 3

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)

_Item = TypeVar("_Item")

#: Parses a datagram with messages of another format, as `parse_datagram` does; None: it has none.
ParseOthers = Callable[[bytes], tuple[Sequence[NewEvent], list[Refused]] | None]


def parse_line(line: bytes, *, rules: Rules) -> NewEvent:
    """Parse an event in the query-string form, ``type=deploy&version=1.2&value=3``.

    Raw spaces and raw UTF-8 are fine: lines come from files and shells, too.

    :param line: without its line end.
    :raises Refused: says what and why, not where: the caller knows the line's number.
    """
    return _event(line, rules, None)


def parse_query(query: bytes, body: bytes, *, rules: Rules) -> NewEvent:
    """Parse the event of ``POST /event``; the query and a form-urlencoded body both have labels.

    :param body: may end with a line end, as ``curl --data-binary @file`` sends it.
    :raises Refused: also for a body of several lines, which would become one garbled event.
    """
    _check_size(body)
    _check_joined(body)
    body = _trimmed(body)
    if b"\n" in body:
        text = "the body has several lines: this takes one event, /events many"
        refused = Refused(text, reason="syntax")
    else:
        try:
            return event(chain(query_pairs(query), query_pairs(body)), rules)
        except Refused as error:
            refused = error.with_traceback(None)
    raise foreign.explained(refused, query, body)


def parse_json_event(query: bytes, body: bytes, *, rules: Rules) -> NewEvent:
    """Parse the event of ``POST /event`` with a flat JSON object as body; the query has labels, too.

    :raises Refused: also for a body of several events.
    """
    _check_size(body)
    item = wire_json.decode(_trimmed(body))
    if isinstance(item, list) and not wire_json.is_object(item):
        raise Refused("the body is a JSON array: this takes one object, /events many", reason="syntax")
    return event(chain(query_pairs(query), wire_json.only_pairs(item)), rules)


def query_pairs(line: bytes) -> Iterator[Pair]:
    """Decode the pairs of a query string.

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
    """Parse lines in the query-string form, all or none.

    :raises Refused: names the bad lines; its reason is that of the first.
    """
    _check_size(body)
    _check_joined(body)
    ordinary = _ordinary(rules)
    plain = _plain(_trimmed(body), ordinary) if body.count(b"\n") < MAX_EVENTS else None
    if plain is not None:
        return plain
    return _all_or_none("line", list(_split(body)), lambda line: _event(line, rules, ordinary))


#: Parsers keep the templates of earlier bodies.
_ordinary = lru_cache(maxsize=4)(TemplateParser)


def parse_ndjson(body: bytes, *, rules: Rules) -> list[NewEvent]:
    """Parse lines of one flat JSON object each, all or none, as `parse_lines`."""

    def parse(line: bytes) -> NewEvent:
        return event(wire_json.pairs(wire_json.decode(line)), rules)

    _check_size(body)
    return _all_or_none("line", list(_split(body)), parse)


def parse_json(body: bytes, *, rules: Rules) -> list[NewEvent]:
    """Parse a JSON array of flat objects, all or none; or one such object.

    Strings are labels as they are, numbers in the digits they were written with, booleans as
    ``true`` and ``false``; null is no label.

    :raises Refused: names the bad items, counted from 1; or says where the body is not JSON.
    """
    _check_size(body)
    body = _trimmed(body)
    items = wire_json.decode(body) if body and not body.isspace() else []
    if wire_json.is_object(items):
        return [event(wire_json.only_pairs(items), rules)]
    if type(items) is not list:
        raise Refused("the body is neither a JSON array nor an object", reason="syntax")
    return _all_or_none("item", list(enumerate(items, 1)), lambda item: event(wire_json.pairs(item), rules))


def parse_datagram(
    data: bytes,
    *,
    rules: Rules,
    ordinary: TemplateParser | None = None,
    others: ParseOthers | None = None,
) -> tuple[Sequence[NewEvent], list[Refused]]:
    """Parse a datagram; return the events of its valid lines, and the refusals of the others.

    :param ordinary: a parser for these rules, with the templates of earlier datagrams.
    :param others: is asked for a datagram that is not plain.
    """
    if len(data) > MAX_DATAGRAM_BYTES:
        return [], [Refused(f"the datagram is longer than {MAX_DATAGRAM_BYTES} bytes", reason="limit")]
    if ordinary is not None and data.count(b"\n") < MAX_DATAGRAM_LINES:
        found = _plain(_trimmed(data), ordinary)
        if found is not None:
            return found, []
    if others is not None and (parsed := others(data)) is not None:
        return parsed
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


def parse_plain_datagrams(datagrams: Sequence[bytes], ordinary: TemplateParser) -> SeriesBatch | None:
    """Return the events of several datagrams if all lines are plain and have the same names; else None."""
    if max(map(len, datagrams)) >= MAX_DATAGRAM_LINES * len(b"a=1\n"):
        return None  # it may have too many lines
    text = b"\n".join([data.rstrip(_ENDS) for data in datagrams])
    return None if b" \n" in text else ordinary.parse_uniform(text)


def line_count(data: bytes) -> int:
    """Return the number of lines of a datagram that are not blank."""
    return sum(1 for _ in _split(data))


def _event(line: bytes, rules: Rules, ordinary: TemplateParser | None) -> NewEvent:
    series = None if ordinary is None else ordinary.parse_line(line)
    if series is not None:
        return NewEvent(series)
    try:
        return event(query_pairs(line), rules)
    except Refused as error:
        # Without its traceback, which would tie this frame and the error into a cycle.
        refused = error.with_traceback(None)
    raise foreign.explained(refused, line)


def _plain(text: bytes, ordinary: TemplateParser) -> SeriesBatch | None:
    """The events of plain lines; None where one is not, or has blanks at its end."""
    return None if b" \n" in text else ordinary.parse_lines(text)


def _trimmed(text: bytes) -> bytes:
    """A body or datagram without a byte order mark, and without NULs, blanks and line ends at its end."""
    return text.removeprefix(_BOM).rstrip(_ENDS)


def _check_joined(body: bytes) -> None:
    """Refuse several lines that ``curl -d @file`` has joined into one, where that shows.

    It deletes the line ends of the file. Lines mostly begin with the same name; found again behind
    a value's text, where a client would have escaped its ``=``, it was the beginning of a line.
    """
    name = body.partition(b"=")[0]
    if b"\n" in body or b"&" in name or not MIN_TELLING_NAME <= len(name) <= MAX_NAME_BYTES:
        return
    at = len(name)
    for _ in range(MAX_LABELS):
        at = body.find(name + b"=", at + 1)
        if at < 0:
            return
        if body[at - 1] not in _BEFORE_A_NAME:
            text = f"{quoted(name.decode(errors='replace'))} begins a line again without a line end before it"
            why = "curl -d @FILE deletes line ends, --data-binary @FILE keeps them; = inside a value is %3D"
            raise Refused(f"{text}: {why}", reason="syntax")


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise Refused(f"the body is longer than {MAX_BODY_BYTES} bytes", reason="limit", status=413)


def _split(text: bytes) -> Iterator[tuple[int, bytes]]:
    r"""Numbered lines without the blank ones; only ``\n`` ends a line (so no `splitlines`)."""
    for number, ended in enumerate(text.removeprefix(_BOM).split(b"\n"), 1):
        line = ended.rstrip(_BLANKS)
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

"""What is fuzzed: each target takes any bytes, and raises only what is a fault of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from attrs import frozen
from fuzz.doors import serve
from fuzz.response import RULES, check

from oneshotd.core.event import NewEvent
from oneshotd.core.number import canonical
from oneshotd.core.wire import (
    idempotency_key,
    parse_datagram,
    parse_json,
    parse_line,
    parse_lines,
    parse_ndjson,
    parse_query,
)
from oneshotd.errors import REASONS, Refused


@frozen(kw_only=True)
class Target:
    """Something to fuzz.

    :param run: raises, other than `Refused`, where there is a fault.
    :param seeds: what it takes, to start from.
    :param words: what such bytes are made of.
    """

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]


def refusing(parse: Callable[[bytes], Iterable[NewEvent]]) -> Callable[[bytes], None]:
    """Parse; what is stored reads back equal, what is refused says why, on one line."""

    def run(data: bytes) -> None:
        try:
            events = list(parse(data))
        except Refused as refused:
            check_refusal(refused)
        else:
            check(events)

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


def datagram(data: bytes) -> None:
    """Good lines do not suffer from bad ones."""
    events, refusals = parse_datagram(data, rules=RULES)
    for refused in refusals:
        check_refusal(refused)
    lines = [line for line in data.split(b"\n") if line.removesuffix(b"\r") and not line.isspace()]
    assert len(events) + len(refusals) == len(lines)
    check(events)


def key(data: bytes) -> None:
    """A key is stored and compared as text."""
    try:
        text = idempotency_key(data)
    except Refused as refused:
        check_refusal(refused)
    else:
        assert 0 < len(text.encode()) <= 128


def number(data: bytes) -> None:
    """Every spelling of a number ends in one, which is read back as the same float64."""
    try:
        text = canonical(data.decode("utf-8", "replace"))
    except ValueError:
        return
    assert canonical(text) == text
    check([NewEvent("events_to_metrics", text)])


_ESCAPES = (
    b"%00", b"%0A", b"%0a", b"%0D", b"%22", b"%25", b"%26", b"%2B", b"%3D", b"%5C", b"%5c", b"%C3%A9",
    b"%E2%80%A8", b"%EF%BB%BF", b"%F0%9F%98%80", b"%FF", b"%C0%80", b"%ED%A0%80", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
)  # fmt: skip
_NUMBERS = (
    b"37.5", b"-0", b"+1", b" 1", b"1e3", b"1E 3", b"1e-400", b"1e309", b"nan", b"NaN", b"+Inf", b"-Infinity",
    b"0x1p-2", b"1_0", b".5", b"5.", b"-nan", b"4.9e-324", b"1.7976931348623157e308",
)  # fmt: skip
_NAMES = (
    b"type", b"value", b"__name__", b"__id__", b"__x", b"le", b"quantile", b"job", b"instance", b"1st", b"a-b",
    b"events_to_metrics", b"up", b"oneshotd_refused_total", b"process_cpu_seconds_total", b"a:b", b"neighbour",
    b"neighbour_total", b"neighbour_created", b"neighbour_info", b"neighbour_bucket",
)  # fmt: skip
_QUERY_WORDS = (
    *_ESCAPES,
    *_NUMBERS,
    *_NAMES,
    b"=",
    b"&",
    b"&&",
    b"+",
    b"%",
    b"\r",
    b"\n",
    b"\0",
    b"\\",
    b'"',
)
_JSON_WORDS = (
    *_NUMBERS, *(b'"%s"' % name for name in _NAMES), b'{"', b'":', b",", b"}", b"[", b"]", b"null", b"true",
    b"false", b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\n"', b'"\\\\"', b'""', b"\n", b"-", b"[[[[[[",
)  # fmt: skip
_LINES = (
    b"type=deploy&version=1.2",
    b"__name__=backup&result=failed&value=37.5&__id__=7f3",
    b"m=%0A%22%5C%00+x&1st=\xc3\xa9&a-b=",
    b"value= 1e+3&le=0.5&quantile=0.9",
)
_OBJECTS = (
    b'{"type": "deploy", "ok": true, "n": 1.50, "none": null}',
    b'{"__name__": "backup", "value": "NaN", "__id__": "7f3", "m": "\\n\\"\\\\\\u0000"}',
)
_HTTP_WORDS = (
    b"GET ", b"HEAD ", b"POST ", b"OPTIONS ", b"PUT ", b"/event", b"/events", b"/metrics", b"/healthz", b"/readyz",
    b"/api/v1/events", b"/api/v1/scrapers", b"/", b"?", b"scraper=ann", b"limit=5", b"timestamps=event",
    b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n", b"\r\n\r\n", b"Content-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n", b"9\r\n", b"0\r\n\r\n", b"Content-Type: text/plain\r\n",
    b"Content-Type: application/json\r\n", b"Content-Type: application/x-ndjson\r\n",
    b"Content-Type: application/x-www-form-urlencoded\r\n", b"Content-Type: multipart/form-data; boundary=x\r\n",
    b"Content-Encoding: gzip\r\n", b'Idempotency-Key: "k"\r\n', b"Accept: application/openmetrics-text;q=0.5\r\n",
    b"Accept: text/html\r\n", b"Accept: application/json\r\n", b"Accept-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Expect: 100-continue\r\n", b"X-Prometheus-Scrape-Timeout-Seconds: 5\r\n", b"X-Forwarded-For: ::1\r\n",
    b"Forwarded: for=x\r\n", b"Origin: null\r\n", b"Sec-Fetch-Site: cross-site\r\n", b"User-Agent: Prometheus/3.5\r\n",
)  # fmt: skip


def _request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    length = (b"Content-Length: %d" % len(body),) if body else ()
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: x", *headers, *length, b"", body])


_REQUESTS = (
    *(b"\0" + _request(b"POST /event?" + line.replace(b" ", b"+")) for line in _LINES),
    b"\1" + _request(b"POST /events", b"Content-Type: text/plain", b"Idempotency-Key: k", body=b"\n".join(_LINES)),
    b"\7" + _request(b"POST /events", b"Content-Type: application/x-ndjson", body=b"\n".join(_OBJECTS)),
    b"\0" + _request(b"POST /events", b"Content-Type: application/json", body=b"[" + b",".join(_OBJECTS) + b"]"),
    b"\0" + _request(b"POST /events", b"Transfer-Encoding: chunked") + b"6\r\ntype=a\r\n0\r\n\r\n",
    b"\0" + _request(b"GET /metrics?scraper=ann&limit=7", b"X-Prometheus-Scrape-Timeout-Seconds: 5"),
    b"\0" + _request(b"GET /metrics", b"Accept: application/openmetrics-text", b"Accept-Encoding: gzip") * 3,
    b"\0" + _request(b"GET /", b"Accept: text/html") + _request(b"GET /readyz") + _request(b"GET /x%2f"),
)  # fmt: skip

_LINE_BODY, _OBJECT_BODY = b"\r\n".join(_LINES), b"\n".join(_OBJECTS)

TARGETS = {
    "line": Target(
        run=refusing(lambda data: [parse_line(data, rules=RULES)]), seeds=_LINES, words=_QUERY_WORDS
    ),
    "query": Target(run=refusing(query), seeds=(b"\0".join(_LINES[:2]),), words=_QUERY_WORDS),
    "lines": Target(
        run=refusing(lambda data: parse_lines(data, rules=RULES)), seeds=(_LINE_BODY,), words=_QUERY_WORDS
    ),
    "datagram": Target(run=datagram, seeds=(_LINE_BODY,), words=_QUERY_WORDS),
    "json": Target(
        run=refusing(lambda data: parse_json(data, rules=RULES)),
        seeds=(b"[" + b",".join(_OBJECTS) + b"]",),
        words=_JSON_WORDS,
    ),
    "ndjson": Target(
        run=refusing(lambda data: parse_ndjson(data, rules=RULES)), seeds=(_OBJECT_BODY,), words=_JSON_WORDS
    ),
    "key": Target(run=key, seeds=(b"7f3", b' "a\\"b\\\\c"'), words=(b'"', b"\\", b"\\\\", b'\\"', b"\t")),
    "number": Target(run=number, seeds=_NUMBERS, words=_NUMBERS),
    "request": Target(run=serve, seeds=_REQUESTS, words=tuple(chain(_HTTP_WORDS, _QUERY_WORDS, _JSON_WORDS))),
}

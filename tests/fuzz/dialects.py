"""Fuzz targets of annotations and pings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fuzz.response import RULES, check

from oneshotd.core.events import details_of
from oneshotd.errors import REASONS, Refused
from oneshotd.ingest.dialects.annotations import grafana, grafana_graphite, graphite
from oneshotd.ingest.dialects.cronitor import read_telemetry
from oneshotd.ingest.dialects.healthchecks import read_ping
from oneshotd.ingest.dialects.pings import Check, Ping, translate_ping
from oneshotd.ingest.dialects.translation import Context, Message, Translation
from oneshotd.store.interface import Stored

_CONTEXT = Context(rules=RULES, hold=3600.0, now=1_700_000_000.0)
_CHECK = Check(name="fuzzed", labels={"team": "shop"})

ANNOTATIONS: Sequence[bytes] = (
    b'{"text": "x", "time": 1507037197339, "timeEnd": 1507180805056, "tags": ["a", "b:c", "d=e"]}',
    b'{"what": "x", "when": 1467844481.5, "tags": "a, b:c", "data": "\\u00e9"}',
    b'{"text": "x", "dashboardUID": "a", "panelId": 2, "tags": null}',
)
ANNOTATION_WORDS: Sequence[bytes] = (
    *(b'"text"', b'"what"', b'"tags"', b'"time"', b'"timeEnd"', b'"when"', b'"data"', b'"panelId"'),
    *(b"{", b"}", b"[", b"]", b":", b",", b"null", b"1e999", b'"\\ud800"', b'"name:value"', b'"detail.x:y"'),
)
PINGS: Sequence[bytes] = (
    b"5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278/start\0rid=123e4567-e89b-12d3-a456-426614174000\0",
    b"fqOOd6-F4MMNuCEnzTU01w/backup/3\0create=1\0disk full",
    b"key/monitor\0state=complete&series=7&metric=duration:45.2&stamp=1700000000&status_code=0\0text",
)
PING_WORDS: Sequence[bytes] = (
    *(b"/start", b"/fail", b"/log", b"/255", b"\0", b"rid=", b"state=", b"run", b"complete", b"series="),
    *(b"metric=duration:", b"status_code=", b"stamp=", b"message=", b"env=", b"host=", b"%", b"&", b"+"),
)


def annotation(data: bytes) -> int:
    """A body is an annotation that reads back equal, or is refused on one line."""
    taken = 0
    for translate in (grafana, grafana_graphite, graphite):
        taken += _read(lambda translate=translate: translate(Message(body=data, raw=data), _CONTEXT))  # type: ignore[misc]  # mypy#15459
    return taken


def ping(data: bytes) -> int:
    """Path, query and body, divided by NULs, are a ping, or are refused on one line."""
    path, _, rest = data.partition(b"\0")
    query, _, body = rest.partition(b"\0")
    message = Message(path=path.decode("utf-8", "replace"), query=query, body=body, raw=body)

    def translated(read: Callable[[Message], Ping]) -> Translation:
        return translate_ping(read(message), _CHECK, message, _CONTEXT)

    return _read(lambda: translated(read_ping)) + _read(lambda: translated(read_telemetry))


def _read(translate: Callable[[], Translation]) -> int:
    try:
        found = translate()
    except Refused as refused:
        _check_refusal(refused)
        return 0
    assert found.group is not None
    assert found.answer is not None
    assert found.answer(Stored(stored=1, first=1)).status == 200
    (event,) = found.group.events
    details_of(event.detail).keys()
    assert len(event.detail.encode()) <= 4096
    check([event._replace(key=None, detail="")])
    return 1


def _check_refusal(refused: Refused) -> None:
    assert refused.reason in REASONS
    assert refused.text.isprintable()
    assert 0 < len(refused.text) < 10_000
    assert refused.status in (400, 404)

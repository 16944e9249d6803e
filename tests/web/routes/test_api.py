"""The queries under ``/api/v1/``: their answers and their refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import kept, raw_labels, texts, written
from support.web_fakes import FakeServer

from oneshotd.core.parsing.grammar import MAX_LABELS
from oneshotd.core.way import Way
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.query import EventSeen, EventsPage, ScraperSeen
from oneshotd.web.routes.api import LABEL, EventsRequest, read_parameters
from oneshotd.web.timestamps import moment, rfc3339

AT = 1_700_000_000_250

DEPLOY = EventSeen(
    seq=7, at=AT, series='m{type="dépl\\"oy"}', metric="m", labels={"type": 'dépl"oy'}, value=None
)
VALUE = EventSeen(seq=5, at=AT - 250, series="backup", metric="backup", labels={}, value="NaN")

ANN = ScraperSeen(
    name="ann",
    named=True,
    live=True,
    last_seen=AT,
    interval=15.0,
    answered=9,
    cursor=7,
    pending=3,
    owed=1,
    oldest_pending=AT - 1000,
    queueing=1,
    in_flight=False,
    delivered=100,
    returned=4,
    revoked=3,
    uncertain=2,
    lost={"away": 5},
    longest_lag=20.5,
    lag_since=AT - 250,
    way=Way.EVENT,
)


def test_events_are_answered_with_every_field_that_is_promised() -> None:
    server = FakeServer()
    server.queries.page = EventsPage(events=(DEPLOY, VALUE), next=5)
    answer = server.ask("GET /api/v1/events")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.body) == {
        "events": [
            {
                "seq": 7,
                "at": AT,
                "time": "2023-11-14T22:13:20.250Z",
                "metric": "m",
                "labels": {"type": 'dépl"oy'},
                "value": None,
            },
            {
                "seq": 5,
                "at": AT - 250,
                "time": "2023-11-14T22:13:20.000Z",
                "metric": "backup",
                "labels": {},
                "value": "NaN",
            },
        ],
        "next": 5,
    }
    assert server.queries.asked == [({}, None, None, 100, None)]


def test_an_events_details_are_answered_where_there_are_some() -> None:
    server = FakeServer()
    details = {"link": "https://example.com/", "text": 'two "lines"\n\0 \U0001f600'}
    server.queries.page = EventsPage(events=(evolve(DEPLOY, detail=details), VALUE), next=None)
    first, second = json.loads(server.ask("GET /api/v1/events").body)["events"]
    assert first["detail"] == details and first["labels"] == {"type": 'dépl"oy'}
    assert "detail" not in second


def test_scrapers_are_answered_with_every_field_that_is_promised() -> None:
    server = FakeServer()
    server.queries.known = [ANN]
    answer = server.ask("GET /api/v1/scrapers")
    assert answer.headers["Cache-Control"] == "no-store"
    found = json.loads(answer.body)
    assert found["hold_seconds"] == 3600.0
    (shown,) = found["scrapers"]
    assert shown == {
        "name": "ann",
        "named": True,
        "way": "event",
        "live": True,
        "last_seen_at": AT,
        "last_seen": "2023-11-14T22:13:20.250Z",
        "interval_seconds": 15.0,
        "scrapes": 9,
        "cursor": 7,
        "pending": 3,
        "owed": 1,
        "oldest_pending_at": AT - 1000,
        "oldest_pending": "2023-11-14T22:13:19.250Z",
        "queueing_series": 1,
        "in_flight": False,
        "delivered": 100,
        "returned": 4,
        "revoked": 3,
        "uncertain": 2,
        "lost": {"away": 5},
        "longest_lag_seconds": 20.5,
        "lag_since_at": AT - 250,
        "lag_since": "2023-11-14T22:13:20.000Z",
    }


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/scrapers"])
def test_head_has_the_headers_of_get_without_the_body(path: str) -> None:
    server = FakeServer()
    server.queries.page, server.queries.known = EventsPage(events=(DEPLOY,), next=None), [ANN]
    got, head = server.ask(f"GET {path}"), server.ask(f"HEAD {path}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/scrapers"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_than_get_are_refused(path: str, method: str) -> None:
    answer = FakeServer().ask(f"{method} {path}")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ({}, None, None, 100, None)),
        ("type=deploy&host=a+b%2Bc", ({"type": "deploy", "host": "a b+c"}, None, None, 100, None)),
        ("service.name=x&1st=y", ({"service_name": "x", "_1st": "y"}, None, None, 100, None)),
        ("type=", ({"type": ""}, None, None, 100, None)),
        ("__name__=backup", ({"__name__": "backup"}, None, None, 100, None)),
        ("limit=1000&before=8", ({}, None, None, 1000, 8)),
        (f"since={AT}&until={AT + 1}", ({}, AT, AT + 1, 100, None)),
        (f"since={AT // 1000}&until={AT // 1000}.2509", ({}, AT // 1000 * 1000, AT, 100, None)),
        ("since=0", ({}, 0, None, 100, None)),
        ("since=2023-11-14T22:13:20.25Z", ({}, AT, None, 100, None)),
        ("since=2023-11-14T23:13:20.25+01:00", ({}, AT, None, 100, None)),
        ("until=2023-11-14T23:13:20.25%2B01:00", ({}, None, AT, 100, None)),
        (
            "limit=1&__label__limit=2&__label__since=x&__label__type=y",
            ({"limit": "2", "since": "x", "type": "y"}, None, None, 1, None),
        ),
        ("&&type=a&", ({"type": "a"}, None, None, 100, None)),
        ("%74ype=d%C3%A9ploy", ({"type": "déploy"}, None, None, 100, None)),
    ],
)
def test_what_is_asked_for_is_looked_for(query: str, asked: tuple[Any, ...]) -> None:
    server = FakeServer()
    assert server.ask(f"GET /api/v1/events?{query}").status == 200
    assert server.queries.asked == [asked]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit: expected a whole number from 1 to 1000, got '0'"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=", "limit: expected"),
        ("limit=-1", "limit: expected"),
        ("limit=%D9%A1", "limit: expected"),  # an Arabic digit
        ("limit=" + "9" * 5000, "limit: expected"),
        ("limit=1&limit=2", "limit is given more than once"),
        ("before=0", "before: expected an event's seq"),
        ("before=x", "before: expected an event's seq"),
        ("before=" + "9" * 19, "before: expected"),
        ("since=yesterday", "since: expected Unix seconds, milliseconds or a time such as"),
        ("since=2023-11-14", "since: expected"),
        ("since=2023-11-14T22:13:20", "since: expected"),  # whose time?
        ("since=2023-13-14T22:13:20Z", "since: expected"),
        ("since=2023-02-30T22:13:20Z", "since: expected"),
        ("since=2023-11-14T22:13:20%2B24:00", "since: expected"),
        ("until=1.5e12", "until: expected"),
        ("since=1700000000250000", "since: expected"),  # microseconds
        ("since=1700000000250.5", "since: expected"),
        ("since=1700000000.", "since: expected"),
        ("until=-5", "until: expected"),
        ("until=0001-01-01T00:00:00%2B12:00", ""),
        ("type=a&type=b", "label 'type' is given more than once"),
        ("a-b=1&a_b=2", "label 'a_b' is given more than once"),
        ("type=a&__label__type=b", "label 'type' is given more than once"),
        ("__name__=a&__name__=b", "'__name__' is given more than once"),
        ("__id__=a", "names that start with __ are reserved"),
        ("__label____id__=a", "names that start with __ are reserved"),
        ("__label__=a", "a label's name is empty"),
        ("=a", "a label's name is empty"),
        ("value=3", "value: events cannot be asked for by their value"),
        ("detail.text=x", "'detail.text': events cannot be asked for by their details"),
        ("detail.=x", "'detail.': events cannot be asked for by their details"),
        ("type", "'type' is not of the form name=value"),
        ("type=%zz", "is not a percent escape"),
        ("type=%ff", "is not UTF-8"),
        ("x" * 200 + "=1", "the name is longer than 128 bytes"),
        ("&".join(f"l{number}=x" for number in range(MAX_LABELS + 1)), "more than 64 labels"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, says: str) -> None:
    """A script would read an empty list as "there are no events"."""
    server = FakeServer()
    answer = server.ask(f"GET /api/v1/events?{query}")
    if not says:
        assert answer.status == 200
        return
    assert answer.status == 400
    assert says in answer.text and answer.text.count("\n") == 1 and len(answer.text) < 300
    assert server.queries.asked == []
    assert sum(server.telemetry.refusals.values()) == 1


def test_a_script_that_speaks_json_is_refused_in_json() -> None:
    answer = FakeServer().ask("GET /api/v1/events?limit=0", "Accept: application/json")
    assert (answer.status, list(json.loads(answer.body))) == (400, ["error"])


def test_scrapers_take_no_parameters() -> None:
    """A filter that does nothing would look like one that found everything."""
    assert FakeServer().ask("GET /api/v1/scrapers?name=ann").status == 400
    assert FakeServer().ask("GET /api/v1/scrapers?").status == 200


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/scrapers"])
def test_a_client_that_may_not_scrape_may_not_query(path: str) -> None:
    """A client that may not scrape could read the events here."""
    assert FakeServer(allow_scrape=["192.0.2.0/24"]).ask(f"GET {path}").status == 200
    answer = FakeServer(allow_scrape=["198.51.100.0/24"]).ask(f"GET {path}?limit=nonsense")
    assert (answer.status, answer.text) == (403, "192.0.2.7 may not read here\n")
    assert FakeServer(allow_emit=["198.51.100.0/24"]).ask(f"GET {path}").status == 200


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/scrapers"])
@pytest.mark.parametrize(
    "fault",
    [StoreUnavailable("disk is full"), Refused("too many are looking", reason="busy", status=503)],
)
def test_a_store_that_cannot_answer_gives_503_and_says_when_to_come_again(
    path: str, fault: Exception
) -> None:
    server = FakeServer()
    server.queries.fault = fault
    answer = server.ask(f"GET {path}")
    assert answer.status == 503
    assert str(fault) in answer.text
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("path", ["/api", "/api/v1", "/api/v1/", "/api/v1/event", "/api/v2/events"])
def test_there_is_nothing_beside_them(path: str) -> None:
    assert FakeServer().ask(f"GET {path}").status == 404


@given(raw_labels())
def test_any_label_can_be_asked_for_as_it_was_sent(labels: dict[str, str]) -> None:
    """An event could be stored that cannot be found, because its label is called `limit`."""
    asked = read_parameters((LABEL + name, value) for name, value in labels.items())
    assert asked == EventsRequest(filters={written(name): kept(value) for name, value in labels.items()})


@given(st.lists(st.tuples(texts(max_size=12), texts(max_size=12)), max_size=4))
def test_whatever_is_asked_is_understood_or_refused(pairs: list[tuple[str, str]]) -> None:
    status, limit = 0, 1
    try:
        limit = read_parameters(pairs).limit
    except Refused as refused:
        status = refused.status
    assert status in (0, 400) and 1 <= limit <= 1000


@given(st.integers(10**11, 253_402_300_799_999))
def test_a_time_is_read_back_as_it_was_written(ms: int) -> None:
    """A script that continues from the time of the last event would miss some."""
    assert moment(rfc3339(ms)) == moment(str(ms)) == ms


@given(st.integers(0, 10**14 - 1))
def test_seconds_are_seconds(ms: int) -> None:
    """`since=$(date +%s)` was read as a day in January 1970, so all that is held came."""
    assert moment(f"{ms // 1000}.{ms % 1000:03}") == ms
    assert moment(str(ms // 1000)) == ms // 1000 * 1000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.0019z", 1),
        ("1970-01-01T01:30:00.5+01:30", 500),
        ("1970-01-01T00:00:00-00:01", 60_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_times_of_rfc_3339(text: str, ms: int) -> None:
    assert moment(text) == ms

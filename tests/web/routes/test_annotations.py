"""Annotations over HTTP: posted as to Grafana and Graphite, and read as from Grafana."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.web_fakes import FakeServer

from oneshotd.access.rules import Role, Rule
from oneshotd.core.events import details_of, labels_of, series_text
from oneshotd.core.filters import Selection
from oneshotd.core.networks import Networks
from oneshotd.errors import StoreUnavailable
from oneshotd.query import EventSeen, EventsPage
from oneshotd.store.interface import Stored
from oneshotd.web.routes.annotations import annotation

AT = 1_700_000_000_250


def seen(
    seq: int = 7, value: str | None = None, detail: dict[str, str] | None = None, **labels: str
) -> EventSeen:
    series = series_text("events_to_metrics", labels.items())
    return EventSeen(
        seq=seq,
        at=AT,
        series=series,
        metric="events_to_metrics",
        labels=labels,
        value=value,
        detail=detail or {},
    )


@pytest.mark.parametrize(
    ("path", "body", "text", "answered"),
    [
        (
            "/api/annotations",
            {"text": "shop is synced", "tags": ["env:prod"], "time": 1507037197000},
            "shop is synced",
            {"message": "Annotation added", "id": 7},
        ),
        (
            "/api/annotations/graphite",
            {"what": "deploy", "tags": ["env:prod"], "data": "by ann"},
            "deploy\nby ann",
            {"message": "Graphite annotation added", "id": 7},
        ),
        ("/events/", {"what": "deploy", "tags": "env:prod", "data": "by ann"}, "deploy\nby ann", None),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", ""])
def test_an_annotation_is_stored_and_its_sender_understands_the_answer(
    path: str, body: Any, text: str, answered: Any, kind: str
) -> None:
    """A CI job would fail after its deployment."""
    server = FakeServer()
    server.ingest.outcome = Stored(stored=1, first=7)
    lines = [f"Content-Type: {kind}"] if kind else []
    answer = server.ask(f"POST {path}", *lines, body=json.dumps(body).encode())
    assert answer.status == 200
    assert (json.loads(answer.body) if answer.body else None) == answered
    ((group, source),) = server.ingest.groups
    (event,) = group.events
    assert source == "annotations"
    assert labels_of(event.series) == {"type": "annotation", "env": "prod"}
    assert details_of(event.detail)["text"] == text
    assert (group.key is not None) is ("time" in body)


def test_the_slash_behind_events_makes_the_difference() -> None:
    """Clients of /events would get other answers, or those of Graphite theirs."""
    server = FakeServer()
    answer = server.ask("POST /events", body=b"type=deploy")
    assert (answer.status, answer.text) == (200, '{"stored": 1, "duplicates": 0}\n')
    assert server.ask("POST /events/", body=b"type=deploy").status == 400
    assert server.ask("GET /events").headers["Allow"] == "OPTIONS, POST"
    assert server.ask("GET /events/").headers["Allow"] == "OPTIONS, POST"
    assert [source for _, source in server.ingest.groups] == ["http_bulk"]


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        (["POST /api/annotations"], b"{}", 400),
        (["POST /api/annotations", "Content-Encoding: br"], b'{"text": "x"}', 415),
        (["POST /api/annotations", "Sec-Fetch-Site: cross-site"], b'{"text": "x"}', 403),
        (["POST /api/annotations/graphite", "Origin: https://evil.example"], b'{"what": "x"}', 403),
        (["POST /api/annotations"], b'{"text": "%b"}' % (b"x" * 65536), 413),
        (["POST /events/"], b'{"what": "x", "tags": [%b0]}' % (b"0," * 40_000), 413),
        (["PUT /api/annotations"], b'{"text": "x"}', 405),
        (["DELETE /api/annotations"], b"", 405),
        (["PATCH /api/annotations/7"], b'{"text": "x"}', 405),
        (["PUT /api/annotations/7"], b'{"text": "x"}', 405),
        (["DELETE /api/annotations/7"], b"", 405),
        (["GET /api/annotations/7"], b"", 405),
        (["GET /api/annotations/tags"], b"", 405),
        (["GET /api/annotations/graphite"], b"", 405),
        (["POST /api/annotations/mass-delete"], b"{}", 405),
        (["GET /api/annotations/"], b"", 404),
    ],
)
def test_other_requests_are_refused(lines: list[str], body: bytes, status: int) -> None:
    server = FakeServer()
    answer = server.ask(*lines, body=body)
    assert answer.status == status
    assert answer.text
    assert server.ingest.groups == []


def test_an_annotation_cannot_be_changed_and_the_answer_says_so() -> None:
    """Actions that move the end of an annotation would fail without a reason."""
    answer = FakeServer().ask("PATCH /api/annotations/7", body=b"{}")
    assert "not changed or deleted: send another one" in answer.text


def test_a_full_queue_is_answered_with_503() -> None:
    server = FakeServer()
    server.ingest.outcome = StoreUnavailable("disk full")
    assert server.ask("POST /api/annotations", body=b'{"text": "x"}').status == 503


def test_the_rule_of_the_sender_bounds_annotations() -> None:
    """A CI job's credential could write any label."""
    rule = Rule(
        number=1,
        role=Role.EMIT,
        network=Networks.parse(["192.0.2.0/24"]),
        labels={"team": "shop"},
        types=("deploy",),
    )
    server = FakeServer(rules=[rule])
    assert server.ask("POST /api/annotations", body=b'{"text": "x"}').status == 403
    assert server.ask("POST /api/annotations", body=b'{"text": "x", "tags": ["type:deploy"]}').status == 200
    ((group, _),) = server.ingest.groups
    assert labels_of(group.events[0].series) == {"type": "deploy", "team": "shop"}


# Reading


def test_events_are_answered_as_annotations() -> None:
    """A dashboard reads the fields of Grafana's API."""
    server = FakeServer()
    server.queries.page = EventsPage(
        events=(
            seen(seq=9, type="deploy", env="prod"),
            seen(
                seq=7,
                detail={
                    "text": "load test",
                    "time": "2023-11-14T22:00:00.000Z",
                    "end": "2023-11-14T22:10:00Z",
                },
                type="annotation",
                tags="a,b",
            ),
        ),
        next=7,
    )
    answer = server.ask(
        "GET /api/annotations?from=1699999999999&to=1700000001000&tags=a&tags=env:prod&limit=2"
    )
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Link"] == '<?before=7>; rel="next"'
    assert json.loads(answer.body) == [
        {
            "id": 9,
            "time": AT,
            "timeEnd": AT,
            "text": 'events_to_metrics{env="prod",type="deploy"}',
            "tags": ["env:prod", "type:deploy"],
        },
        {
            "id": 7,
            "time": 1_699_999_200_000,
            "timeEnd": 1_699_999_800_000,
            "text": "load test",
            "tags": ["a", "b"],
        },
    ]
    selection = Selection(
        since=1_699_999_999_999, until=1_700_000_001_001, members=(("tags", "a"), ("env", "prod"))
    )
    assert server.queries.selected == [(selection, 2, None)]


def test_grafanas_other_parameters_are_ignored() -> None:
    server = FakeServer()
    query = "type=annotation&dashboardUID=x&panelId=1&alertId=2&userId=3&tags=&from=&matchAny=true&before=9"
    answer = server.ask(f"GET /api/annotations?{query}")
    assert (answer.status, json.loads(answer.body), answer.headers["Link"]) == (200, [], None)
    assert server.queries.selected == [(Selection(members=(), any_member=True), 100, 9)]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("limit=0", "limit: expected a whole number from 1 to 1000, got '0'"),
        ("limit=1001", "limit: expected"),
        ("limit=x", "limit: expected"),
        ("limit=%C2%B2", "limit: expected"),
        ("before=-1", "before: expected the id of an annotation"),
        ("from=yesterday", "from: expected Unix seconds"),
        ("to=1&to=2", "to is given more than once"),
        ("matchAny=1", "matchAny: expected true or false"),
        ("tag=x", "'tag': expected one of tags, from, to, limit, matchAny, before"),
        ("&".join(["tags=x"] * 65), "tags: expected at most 64"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, why: str) -> None:
    answer = FakeServer().ask(f"GET /api/annotations?{query}")
    assert answer.status == 400
    assert why in answer.text


def test_only_readers_may_read() -> None:
    assert FakeServer(allow_scrape=["198.51.100.1"]).ask("GET /api/annotations").status == 403
    rule = Rule(number=1, role=Role.LOOK, network=Networks.parse(["192.0.2.0/24"]))
    assert FakeServer(rules=[rule]).ask("GET /api/annotations").status == 200
    assert FakeServer(rules=[rule]).ask("POST /api/annotations", body=b'{"text": "x"}').status == 403
    answer = FakeServer(rules=[rule]).ask("PUT /api/annotations")
    assert (answer.status, answer.text) == (405, "method: expected GET or HEAD or POST\n")


@pytest.mark.parametrize(
    ("event", "begin", "end"),
    [
        (seen(type="ping", value="2.5"), AT - 2500, AT),
        (seen(type="ping"), AT, AT),
        (seen(type="ping", value="NaN"), AT, AT),
        (seen(type="ping", value="-1"), AT, AT),
        (seen(type="ping", value="1e300"), AT, AT),
        (seen(type="backup", value="2.5"), AT, AT),
        (seen(detail={"time": "1700000000"}), 1_700_000_000_000, 1_700_000_000_000),
        (seen(detail={"time": "soon", "end": "late"}), AT, AT),
        (seen(detail={"end": "2023-11-14T22:13:30Z"}), AT, 1_700_000_010_000),
        (
            seen(detail={"time": "2023-11-14T22:13:30Z", "end": "2023-11-14T22:00:00Z"}),
            1_700_000_010_000,
            1_700_000_010_000,
        ),
    ],
)
def test_a_region_where_start_and_end_are_known(event: EventSeen, begin: int, end: int) -> None:
    found = annotation(event)
    assert (found["time"], found["timeEnd"]) == (begin, end)


def test_the_place_on_a_dashboard_is_answered() -> None:
    found = annotation(seen(detail={"dashboard": "uid", "panel": "2"}))
    assert (found["dashboardUID"], found["panelId"]) == ("uid", 2)
    assert "panelId" not in annotation(seen(detail={"panel": "x"}))

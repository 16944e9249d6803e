"""`oneshotctl audit` against servers whose answers have other types, or numbers that mean nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from support.audit_servers import Answers, AuditedDaemon, serving, vector

from oneshotd.ctl.command import run

#: Runs the command between two servers; returns status, standard output and standard error.
Audit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Audit:
    def audit(daemon: Answers, store: Answers, *words: str) -> tuple[int, str, str]:
        with serving(daemon) as there, serving(store) as other:
            urls = ("--daemon", there.url, "--prometheus", other.url)
            status = run(["audit", *urls, "--scraper", "ann", "--wait", "0s", "--timeout", "10s", *words], {})
        out, err = capsys.readouterr()
        return status, out, err

    return audit


def events(**scraper: Any) -> AuditedDaemon:
    at = int(time.time() * 1000) - 60_000
    return AuditedDaemon(
        events=[(at, "m", {"type": "a"}, None), (at + 1, "m", {"type": "b"}, "3.5")], scraper=scraper
    )


def store(summed: Any, counted: Any) -> Answers:
    """A store that answers so to the two questions about the metric."""
    return lambda path, parameters: (200, summed if parameters["query"].startswith("sum") else counted)


GOOD = store(vector(({"type": "a"}, 1), ({"type": "b"}, 3.5)), vector(({"type": "a"}, 1), ({"type": "b"}, 1)))


def row(**more: Any) -> tuple[int, Any]:
    """The state of the scraper with other fields."""
    return AuditedDaemon(scraper=more).answer("/api/v1/scrapers", {})


def event(**more: Any) -> tuple[int, Any]:
    whole = {"seq": 1, "at": 1, "metric": "m", "labels": {}, "value": None, **more}
    return 200, {"events": [whole], "next": None}


@pytest.mark.parametrize(
    "answer",
    [
        row(cursor=1e999),
        row(longest_lag_seconds=float("nan")),
        row(longest_lag_seconds=1e308, way="push"),
        row(lag_since_at=-float("inf")),
        row(lag_since_at="1"),
        row(pending=10**400),
        row(way=["push"]),
        row(lost={"away": True}),
        (200, {"hold_seconds": float("inf"), "scrapers": []}),
        (200, {"hold_seconds": 10**400, "scrapers": []}),
        event(at=float("nan")),
        event(seq=[1]),
        event(metric={"a": 1}),
        event(labels={"a": []}),
        event(labels=[["a", "b"]]),
    ],
    ids=range(15),
)
def test_a_daemon_that_answers_other_types_is_said(ran: Audit, answer: tuple[int, Any]) -> None:
    """The command would end with a traceback, or with a number that means nothing."""

    def daemon(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        about_scrapers = "scrapers" in answer[1]
        is_asked = about_scrapers is (path == "/api/v1/scrapers")
        return answer if is_asked else events().answer(path, parameters)

    status, out, err = ran(daemon, GOOD)
    assert (status, out) == (76, "")
    assert "this is not oneshotd of this version" in err


@pytest.mark.parametrize(
    "more",
    [
        {"value": [1.0, 10**400]},
        {"value": [1.0, 2]},
        {"value": [1.0, [2]]},
        {"value": "12"},
        {"value": []},
        {"metric": {"type": 5}},
        {"metric": {"type": ["a"]}},
        {"metric": [["type", "a"]]},
    ],
    ids=range(8),
)
def test_a_store_that_answers_other_types_is_said(ran: Audit, more: Mapping[str, Any]) -> None:
    found = vector(({"type": "a"}, 2))
    found["data"]["result"][0].update(more)
    status, out, err = ran(events().answer, store(found, found))
    assert (status, out) == (76, "")
    assert "this is not a store with the query API of Prometheus" in err


def test_numbers_and_labels_without_a_text_are_a_difference(ran: Audit) -> None:
    """Another source of the metric, or a store with broken labels, would end the command with a traceback."""
    odd = store(
        vector(({"type": "a"}, float("nan")), ({"type": "b"}, 3.5), ({"type": "\ud800"}, 1)),
        vector(({"type": "a"}, 1), ({"type": "b"}, float("inf"))),
    )
    daemon = events(lost={"\udfff": 1})
    status, out, err = ran(daemon.answer, odd)
    assert (status, err) == (1, "")
    assert 'm{type="a"}: 1 delivered, nan found; nan too many' in out
    assert 'm{type="b"}: 1 delivered, inf found; inf too many' in out
    assert 'm{type="?"}: 0 delivered, 1 found' in out
    status, out, err = ran(daemon.answer, odd, "--json")
    assert status == 1
    report = json.loads(out, parse_constant=pytest.fail)
    assert {each["labels"]["type"]: each["found"] for each in report["differences"]} == {
        "a": None,
        "b": None,
        "?": 1,
    }


@pytest.mark.parametrize("text", ["Feb -5 999999999900:00:00 99999 +9999-0000", "soon", ""])
def test_a_date_that_is_none_is_ignored(ran: Audit, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: text)
    assert ran(events().answer, GOOD)[0] == 0

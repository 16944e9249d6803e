"""The answer to each error, and what is logged."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klein import Klein
from support.fake_telemetry import FakeTelemetry
from support.web_fakes import Answer, Connection, FakeServer, failures_logged, request
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from werkzeug.exceptions import HTTPException, ImATeapot, NotFound

from oneshotd.errors import REASONS, ConfigError, OneshotError, Refused, StoreUnavailable
from oneshotd.store.interface import Stored
from oneshotd.web import error_responses
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site


class Failing:
    """An application that raises the given error."""

    app = Klein()
    error_responses.register(app, attrgetter("telemetry.refused_request"))

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.telemetry = FakeTelemetry()

    @app.route("/")
    def fail(self, request: Any) -> bytes:
        raise self.error


def asked(error: BaseException, *lines: str) -> tuple[Answer, FakeTelemetry, int]:
    """The answer, what was counted, and how many tracebacks were logged."""
    failing = Failing(error)
    site = Site(failing.app.resource(), requestFactory=OneshotRequest, reactor=Clock())
    with failures_logged() as logged:
        answer = Connection(site, FakeServer().peer).ask("GET /", *lines)
    return answer, failing.telemetry, len(logged)


@pytest.mark.parametrize(
    ("error", "status", "text", "counted", "logged"),
    [
        (Refused("too long", reason="limit"), 400, "too long", {"limit": 1}, 0),
        (Refused("full", reason="busy", status=503), 503, "full", {"busy": 1}, 0),
        (StoreUnavailable("disk full"), 503, "the store is not available: disk full", {"store": 1}, 0),
        (CancelledError(), 503, "cancelled, the outcome is unknown", {"busy": 1}, 0),
        (NotFound(), 404, "not found, see / for the endpoints", {}, 0),
        (ImATeapot(), 404, "not found, see / for the endpoints", {}, 0),
        (HTTPException(), 404, "not found, see / for the endpoints", {}, 0),
        (OneshotError("/var/lib/secret"), 500, "internal error", {}, 1),
        (ConfigError("/etc/secret"), 500, "internal error", {}, 1),
        (ZeroDivisionError("secret"), 500, "internal error", {}, 1),
    ],
)
def test_each_error_is_answered_by_its_own_rule(
    error: Exception, status: int, text: str, counted: dict[str, int], logged: int
) -> None:
    """A generic rule before the others would turn a client's mistake or a 404 into a 500."""
    answer, telemetry, tracebacks = asked(error)
    assert (answer.status, answer.text, telemetry.refusals) == (status, f"{text}\n", counted)
    assert tracebacks == logged
    assert (answer.headers["Retry-After"] is not None) == (status == 503)
    in_json, _, _ = asked(error, "Accept: application/json")
    assert json.loads(in_json.text) == {"error": text}


@pytest.mark.parametrize("reason", REASONS)
def test_every_503_has_a_retry_after(reason: str) -> None:
    answer, _, _ = asked(Refused("wait", reason=reason, status=503))
    assert int(answer.headers["Retry-After"]) >= 1


@given(st.text(st.characters(exclude_categories=[])))
def test_a_clients_own_text_cannot_break_the_line_it_is_quoted_in(text: str) -> None:
    """Also lone surrogates, line separators and terminal escapes."""
    answer, _, _ = asked(Refused(text, reason="value"))
    assert answer.text.endswith("\n")
    assert answer.text[:-1].isprintable()
    in_json, _, _ = asked(Refused(text, reason="value"), "Accept: application/json")
    assert json.loads(in_json.text)["error"] == answer.text[:-1]


@pytest.mark.parametrize(
    ("accept", "media", "wanted"),
    [
        ("text/html,application/xhtml+xml", "text/html", True),
        ("TEXT/HTML;level=1;q=0.1", "text/html", True),
        ("application/json ; q=0.5", "application/json", True),
        ("application/json; q=0", "application/json", False),
        ("application/json;q=0.000", "application/json", False),
        ("application/json;q=0.001", "application/json", True),
        ("application/json-seq", "application/json", False),
        ("application/json;q=.0", "application/json", False),
        ('a/b;x=", application/json"', "application/json", False),
        ("application/json;version=1;q=0", "application/json", False),
        ("*/*", "application/json", False),
        ("", "text/html", False),
    ],
)
def test_what_a_client_accepts_is_what_it_names(accept: str, media: str, wanted: bool) -> None:
    seen: list[bool] = []

    class Asking:
        app = Klein()

        @app.route("/")
        def ask(self, request: Any) -> bytes:
            seen.append(error_responses.accepts(request, media))
            return error_responses.answer(request, b"")

    site = Site(Asking().app.resource(), requestFactory=OneshotRequest, reactor=Clock())
    Connection(site, FakeServer().peer).ask("GET /", f"Accept: {accept}")
    assert seen == [wanted]


def test_a_store_that_gives_up_while_the_client_waits_is_a_503() -> None:
    """The client has not hung up, and would wait for ever."""
    server = FakeServer()
    waiting: Deferred[Stored] = Deferred()
    server.ingest.waiting = waiting
    connection = server.connect()
    with failures_logged() as logged:
        connection.protocol.dataReceived(request("POST /event?a=b"))
        waiting.cancel()
    (answer,) = connection.answers("POST")
    assert answer.status == 503
    assert logged == []

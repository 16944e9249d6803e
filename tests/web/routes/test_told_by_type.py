"""``/event`` and ``/events`` with a format that a media type or a header tells: a hook takes it."""

from __future__ import annotations

import json

import pytest
from support.example_hooks import echo, lines
from support.web_fakes import FakeServer

from oneshotd.core.events import labels_of
from oneshotd.core.parsing.formats import MAX_BODY_BYTES
from oneshotd.ingest.dialects.registry import MEDIA_TYPES, TELLING_HEADERS
from oneshotd.ingest.hooks.hooks import Hook, Hooks
from oneshotd.web.fastpath.blocks import _judge
from oneshotd.web.routes.ingest import FORM, JSON_BODY, PARSERS

HOOKS = Hooks({"cloudevents": Hook(name="cloudevents", translate=lines)})
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.mark.parametrize("path", ["/event", "/events", "/event?a=b"])
@pytest.mark.parametrize(
    "header",
    [
        f"Content-Type: {STRUCTURED}",
        f"Content-Type: {BATCH}; charset=UTF-8",
        f"content-type: {STRUCTURED.upper()}",
        "ce-specversion: 1.0",
        "CE-SpecVersion: 1.0",
        "Ce-Specversion: 1.0\r\nContent-Type: application/json",
        "Ce-Specversion: 1.0\r\nContent-Type: text/xml",
    ],
)
def test_cloudevents_are_told_by_type_or_header(path: str, header: str) -> None:
    """A sender with the URL of another tool would be refused, or its data would become labels."""
    server = FakeServer(hooks=HOOKS)
    answer = server.ask(f"POST {path}", header, body=b"type=deploy\n#")
    assert (answer.status, json.loads(answer.text)) == (200, {"stored": 1, "duplicates": 0, "ignored": 1})
    ((group, source),) = server.ingest.groups
    assert source == "hook/cloudevents" and group.keys_decide


def test_the_hook_gets_the_whole_request() -> None:
    server = FakeServer(hooks=Hooks({"cloudevents": Hook(name="cloudevents", translate=echo)}))
    assert server.ask("POST /event?a=b", "ce-specversion: 1.0", "X-Test: x").status == 200
    ((group, _),) = server.ingest.groups
    labels = labels_of(group.events[0].series)
    assert (labels["query"], labels["x_test"], labels["size"]) == ("a=b", "x", "0")


@pytest.mark.parametrize(
    ("lines", "body", "status", "says"),
    [
        (["Content-Encoding: gzip"], b"a=b", 415, "Content-Encoding: expected none"),
        (["Origin: null"], b"a=b", 403, "another site"),
        ([], b"a b", 400, "name=value"),
        (["Content-Length: 1048577"], b"", 413, f"at most {MAX_BODY_BYTES} bytes"),
    ],
)
@pytest.mark.parametrize("path", ["/event", "/events"])
def test_the_rules_of_the_path_hold(path: str, lines: list[str], body: bytes, status: int, says: str) -> None:
    """A header would open what the path refuses."""
    for header in ("ce-specversion: 1.0", f"Content-Type: {STRUCTURED}"):
        server = FakeServer(hooks=HOOKS)
        answer = server.ask(f"POST {path}", header, *lines, body=body)
        assert answer.status == status and says in answer.text and server.ingest.groups == []


def test_without_that_hook_it_is_refused() -> None:
    answer = FakeServer(hooks=Hooks({})).ask("POST /event", "ce-specversion: 1.0", body=b"{}")
    assert (answer.status, answer.text) == (404, "there is no hook 'cloudevents'\n")


def test_the_fast_path_leaves_such_requests_to_the_routes() -> None:
    """Its labels would be stored, and what the header says would be lost."""
    block = b"Host: a\r\n%b: 1.0\r\n"
    assert _judge(block % b"Accept") is not None
    for header in TELLING_HEADERS:
        assert _judge(block % header.encode()) is None


def test_no_plain_type_is_told_so() -> None:
    """The plain types are looked up first."""
    assert not MEDIA_TYPES.keys() & {*PARSERS, FORM, JSON_BODY}
    for media in MEDIA_TYPES:
        assert media == media.lower()
    for header in TELLING_HEADERS:
        assert header == header.lower()


def test_an_event_of_graphite_is_told_its_url() -> None:
    server = FakeServer()
    body = b'{"what": "deploy", "tags": ["a"], "data": "text"}'
    for path in ("/event", "/events"):
        for header in ("Content-Type: application/json", f"Content-Type: {FORM}"):
            answer = server.ask(f"POST {path}", header, body=body)
            assert answer.status == 400 and "/events/" in answer.text

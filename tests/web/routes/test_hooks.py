"""``/hook/NAME``: what a dialect gets of a request, what is stored, and what is answered."""

from __future__ import annotations

import json

import pytest
from support.credentials import basic, hashed
from support.web_fakes import Answer, FakeServer, failures_logged
from twisted.internet.address import IPv4Address

from oneshotd.access.rules import Role, Rule
from oneshotd.core.events import NewEvent, labels_of
from oneshotd.core.networks import Networks
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.store.interface import Stored

DEPLOY = NewEvent('events_to_metrics{type="deploy"}')
HERE = Networks.parse(["192.0.2.0/24"])


def test_the_events_are_stored_and_counted() -> None:
    """A sender would not be understood, or would not know what became of its message."""
    server = FakeServer()
    server.ingest.outcome = Stored(stored=1, duplicates=1)
    answer = server.ask("POST /hook/lines", body=b"type=deploy\n# left out\ntype=deploy")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(answer.text) == {"stored": 1, "duplicates": 1, "ignored": 1}
    ((group, source),) = server.ingest.groups
    assert list(group.events) == [DEPLOY, DEPLOY] and source == "hook/lines"
    assert group.keys_decide and group.key is None


def test_a_message_without_events_is_answered_with_200() -> None:
    """The sender would repeat for ever what is left out on purpose."""
    server = FakeServer()
    answer = server.ask("POST /hook/lines", body=b"# nothing\n# at all")
    assert (answer.status, json.loads(answer.text)) == (200, {"stored": 0, "duplicates": 0, "ignored": 2})
    assert server.ingest.groups == [] and server.telemetry.refusals == {}


def test_the_dialect_gets_all_of_the_request() -> None:
    """It could not verify a signature, or not find a parameter."""
    server = FakeServer()
    assert server.ask("POST /hook/echo?a=%41&b", "X-Test: one", "x-test: two", body=b"text").status == 200
    ((group, _),) = server.ingest.groups
    assert labels_of(group.events[0].series) == {
        "body": "text",
        "size": "4",
        "sent": "4",
        "method": "POST",
        "query": "a=%41&b",
        "x_test": "one, two",
        "hold": "3600",
        "now": "1.7e+09",
    }


def test_a_dialect_may_answer_in_its_own_form() -> None:
    """A sender that expects its own answer would take the event for refused."""
    answer = FakeServer().ask("POST /hook/own")
    assert (answer.status, answer.text, answer.headers["X-Own"]) == (202, "1 taken", "yes")
    assert answer.headers["Content-Type"] == "text/x-own; charset=utf-8"


@pytest.mark.parametrize(
    ("lines", "body", "status", "reason", "says"),
    [
        (["POST /hook/lines"], b"a b", 400, "syntax", "not of the form name=value"),
        (["POST /hook/signed"], b"a=b", 401, "unauthorized", "X-Signature"),
        (["POST /hook/none"], b"a=b", 404, "name", "no hook 'none'; the hooks are asks, build, echo, "),
        (["POST /hook/lines", "Sec-Fetch-Site: cross-site"], b"a=b", 403, "forbidden", "another site"),
        (["POST /hook/lines", "Origin: null"], b"a=b", 403, "forbidden", "another site"),
        (["OPTIONS /hook/none"], b"", 404, "name", "no hook 'none'"),
        (["OPTIONS /hook/asks", "X-Origin: nobody"], b"", 400, "syntax", "another one"),
        (["OPTIONS /hook/asks", "Origin: null"], b"", 403, "forbidden", "another site"),
    ],
)
def test_a_refusal_has_a_reason_and_stores_nothing(
    lines: list[str], body: bytes, status: int, reason: str, says: str
) -> None:
    server = FakeServer()
    answer = server.ask(*lines, body=body)
    assert (answer.status, server.telemetry.refusals) == (status, {reason: 1})
    assert says in answer.text and answer.text.count("\n") == 1
    assert server.ingest.groups == []


def test_without_hooks_the_refusal_names_none() -> None:
    """It would end in the middle of a sentence."""
    server = FakeServer(hooks=Hooks({}))
    assert server.ask("POST /hook/x").text == "there is no hook 'x'\n"


@pytest.mark.parametrize("path", ["/hook", "/hook/", "/hook/lines/", "/hook/lines/more"])
def test_a_path_with_more_or_less_is_not_found(path: str) -> None:
    assert FakeServer().ask(f"POST {path}").status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused_with_those_that_are_allowed(method: str) -> None:
    answer = FakeServer().ask(f"{method} /hook/lines")
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")
    assert answer.text == "method: expected POST\n"


def test_options_is_answered_by_the_dialect_that_wants_it() -> None:
    """A sender that asks before it sends would never send."""
    server = FakeServer()
    answer = server.ask("OPTIONS /hook/asks", "X-Origin: me")
    assert (answer.status, answer.headers["X-Allowed"], answer.body) == (200, "me", b"")
    answer = server.ask("OPTIONS /hook/lines")
    assert (answer.status, answer.headers["Allow"], answer.body) == (200, "OPTIONS, POST", b"")


def test_a_full_queue_and_a_full_disk_are_answered_with_503() -> None:
    """The sender would not try again."""
    server = FakeServer()
    for outcome in (Refused("wait", reason="busy", status=503), StoreUnavailable("disk full")):
        server.ingest.outcome = outcome
        answer = server.ask("POST /hook/lines", body=b"a=b")
        assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0


def test_a_bug_of_a_dialect_is_an_error_of_the_daemon() -> None:
    """The sender would think that its message is wrong."""
    server = FakeServer()
    with failures_logged() as failures:
        assert server.ask("POST /hook/failing").status == 500
    assert len(failures) == 1


def principals(*rules: Rule) -> list[str]:
    """Return what the dialect is told of one sender, under each of these rules in turn."""
    found = []
    for rule in rules:
        server = FakeServer(
            rules=[rule], users={"ci": hashed("secret")}, peer=IPv4Address("TCP", "192.0.2.7", 40000)
        )
        sent = basic("ci", "secret").decode()
        assert server.ask("POST /hook/echo", f"Authorization: {sent}").status == 200
        ((group, _),) = server.ingest.groups
        found.append(labels_of(group.events[0].series).get("principal", ""))
    return found


def test_the_principal_is_that_of_the_rule_and_not_its_place() -> None:
    """A line that is moved in the access file would make every retry a new event."""
    emit = Role.EMIT
    by_user = principals(Rule(number=1, role=emit, user="ci"), Rule(number=7, role=emit, user="ci"))
    by_network = principals(Rule(number=1, role=emit, network=HERE), Rule(number=9, role=emit, network=HERE))
    both = principals(Rule(number=1, role=emit, user="ci", network=HERE))
    assert len(set(by_user)) == len(set(by_network)) == 1
    assert len({*by_user, *by_network, *both, ""}) == 4
    assert FakeServer().ask("POST /hook/echo").status == 200


def test_the_bounds_of_the_access_rule_hold() -> None:
    """A hook would be a way around the labels and the rate of a rule."""
    rule = Rule(number=1, role=Role.EMIT, network=HERE, labels={"team": "shop"}, events_per_second=1)
    server = FakeServer(rules=[rule])
    site = server.site()
    assert server.connect(site).ask("POST /hook/lines", body=b"type=deploy").status == 200
    ((group, _),) = server.ingest.groups
    assert [event.series for event in group.events] == ['events_to_metrics{team="shop",type="deploy"}']
    assert group.keys_decide
    assert server.connect(site).ask("POST /hook/lines", body=b"type=deploy").status == 429
    assert len(server.ingest.groups) == 1


# Trials

ADMIN = Rule(number=1, role=Role.ADMIN, network=HERE)
BUILDS = b'{"ref": "main", "builds": [{"id": 7, "seconds": 2.5}, {"id": "\\u202e"}]}'


def try_hook(*lines: str, name: str = "build", body: bytes = BUILDS) -> tuple[FakeServer, Answer]:
    server = FakeServer(rules=[ADMIN])
    return server, server.ask(f"POST /api/v1/try-hook/{name}", *lines, body=body)


def test_a_trial_shows_what_a_payload_would_become_and_stores_nothing() -> None:
    """A mapping could be tried by its real sender only, and what is wrong would be stored."""
    server, answer = try_hook()
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert 'event 1, from /builds/0: events_to_metrics{ref="main",type="build"} 2.5\n' in answer.text
    assert "found nothing for: value" in answer.text and answer.text.endswith("2 events, 0 left out\n")
    assert server.ingest.groups == [] and "\u202e" not in answer.text


def test_a_trial_has_a_form_for_programs() -> None:
    _, answer = try_hook("Accept: application/json")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    found = json.loads(answer.text)
    assert [event["path"] for event in found["events"]] == ["/builds/0", "/builds/1"]


def test_a_trial_says_what_the_sender_would_be_told() -> None:
    """It is no refusal of the trial, which nobody should count or repeat."""
    server, answer = try_hook(body=b"[")
    assert answer.status == 200 and answer.text.startswith("refused with 400: ")
    assert server.telemetry.refusals == {}


def test_a_trial_shows_so_many_events_at_most() -> None:
    """A page of ten thousand events would stop the browser."""
    body = json.dumps({"builds": [{"id": number} for number in range(900)]}).encode()
    _, answer = try_hook(body=body)
    assert len(answer.text) < 50_000 and answer.text.endswith("900 events, 0 left out\n")


@pytest.mark.parametrize(
    ("name", "lines", "body", "status", "says"),
    [
        ("none", [], b"{}", 404, "there is no hook 'none'; the hooks are "),
        ("lines", [], b"a=b", 404, "cannot be tried"),
        ("build", ["Sec-Fetch-Site: cross-site"], b"{}", 403, "another site"),
        ("build", ["Content-Encoding: gzip"], b"{}", 415, "Content-Encoding"),
        ("build", [], b"[" + b" " * 262_144, 413, "oneshotctl try-hook"),
        ("build", [], b"," * 25_001, 413, "oneshotctl try-hook"),
    ],
)
def test_a_trial_may_be_refused(name: str, lines: list[str], body: bytes, status: int, says: str) -> None:
    _, answer = try_hook(*lines, name=name, body=body)
    assert answer.status == status and says in answer.text


@pytest.mark.parametrize("rules", [None, [Rule(number=1, role=Role.EMIT, network=HERE)]])
def test_only_an_admin_may_try(rules: list[Rule] | None) -> None:
    """A hook's file can have what others must not find out, such as the names of labels."""
    assert FakeServer(rules=rules).ask("POST /api/v1/try-hook/build", body=BUILDS).status == 403

"""Pings over HTTP: which check they are of, who may send them, and that no log has their URL."""

from __future__ import annotations

from functools import partial

import pytest
from support.credentials import bearer, token_hash
from support.web_fakes import FakeServer, events_logged
from twisted.logger import formatEvent

from oneshotd.access.rules import Role, Rule
from oneshotd.core.events import End, Start, details_of, labels_of
from oneshotd.core.networks import Networks
from oneshotd.ingest.dialects.pings import Check, Checks, Place

UUID = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
KEY = "fqOOd6-F4MMNuCEnzTU01w"
RUN = "123e4567-e89b-12d3-a456-426614174000"
PLACES: dict[Place, Check] = {
    (UUID,): Check(name="backup", labels={"team": "shop"}),
    (KEY, "report"): Check(name="report"),
}
CHECKS = Checks(PLACES)


def pinged(server: FakeServer) -> list[dict[str, str]]:
    """Return the labels of all events."""
    return [labels_of(event.series) for group, _ in server.ingest.groups for event in group.events]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (f"/ping/{UUID}", {"check": "backup", "state": "success", "team": "shop"}),
        (f"/ping/{UUID}/start?rid={RUN}", {"check": "backup", "state": "start", "team": "shop"}),
        (f"/ping/{UUID}/7", {"check": "backup", "state": "fail", "exit_code": "7", "team": "shop"}),
        (f"/ping/{KEY}/report/log?create=1", {"check": "report", "state": "log"}),
        (f"/p/{KEY}/report?state=complete", {"check": "report", "state": "success"}),
        (f"/p/{KEY}/report", {"check": "report", "state": "tick"}),
    ],
)
def test_each_method_is_a_ping(method: str, target: str, labels: dict[str, str]) -> None:
    """A cron wrapper that saves the answer's body would report nothing."""
    server = FakeServer(checks=CHECKS)
    answer = server.ask(f"{method} {target}")
    assert answer.status == 200
    assert answer.text == ("" if method == "HEAD" else "OK")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Ping-Body-Limit"] == "3000"
    assert pinged(server) == [{"type": "ping", **labels}]
    assert [source for _, source in server.ingest.groups] == ["ping"]


def test_the_body_is_kept_beside_the_event() -> None:
    server = FakeServer(checks=CHECKS)
    server.ask(f"POST /ping/{UUID}/fail", body=b"disk full\n")
    ((group, _),) = server.ingest.groups
    assert details_of(group.events[0].detail) == {"text": "disk full"}


def test_start_and_end_of_a_run_have_one_state_wherever_they_come_from() -> None:
    """A job may begin before a rule is changed, and end after it."""
    rule = Rule(
        number=1, role=Role.EMIT, token_sha256=token_hash("t"), labels={"team": "other"}, types=("deploy",)
    )
    server = FakeServer(checks=CHECKS, rules=[rule])
    assert server.ask(f"GET /ping/{UUID}/start?rid={RUN}").status == 200
    authorization = f"Authorization: {bearer('t').decode()}"
    assert server.ask(f"GET /ping/{UUID}/0?rid={RUN}", authorization).status == 200
    (start, _), (end, _) = server.ingest.groups
    (begun,), (ended,) = start.states, end.states
    assert isinstance(begun, Start)
    assert isinstance(ended, End)
    assert begun.key == ended.key
    assert {labels["team"] for labels in pinged(server)} == {"shop"}


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        (f"/ping/{UUID[:-1]}9", 404, "not found, there is no check with this URL"),
        (f"/ping/{KEY}/other", 404, "not found, there is no check with this URL"),
        (f"/ping/{KEY}/other?create=1", 404, "not found"),
        (f"/p/{KEY}/other?state=run", 404, "not found"),
        (f"/ping/{KEY}/Report", 400, "invalid url format"),
        (f"/ping/{UUID}/256", 400, "invalid url format"),
        (f"/ping/{UUID}?rid=7", 400, "invalid uuid format"),
        (f"/p/{KEY}/report?state=halt", 400, "state: expected"),
        ("/ping/", 404, "not found"),
        ("/ping", 404, "not found"),
        ("/p/", 404, "not found"),
    ],
)
def test_other_urls_make_no_series(target: str, status: int, text: str) -> None:
    """Everybody could fill every scraper with invented checks."""
    server = FakeServer(checks=CHECKS)
    answer = server.ask(f"GET {target}")
    assert answer.status == status
    assert text in answer.text
    assert UUID not in answer.text
    assert KEY not in answer.text
    assert server.ingest.groups == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(method: str) -> None:
    server = FakeServer(checks=CHECKS)
    assert server.ask(f"{method} /ping/{UUID}").status == 405
    assert server.ingest.groups == []


def test_without_checks_there_are_no_pings() -> None:
    assert FakeServer().ask(f"GET /ping/{UUID}").status == 404


# Rules


def rule_of(check: str, types: tuple[str, ...] = ()) -> Rule:
    network = Networks.parse(["192.0.2.0/24"])
    return Rule(number=1, role=Role.EMIT, network=network, labels={"check": check}, types=types)


def test_a_rule_names_the_check_of_its_clients() -> None:
    """A wrapper that sends its credential needs no entry in the file."""
    server = FakeServer(rules=[rule_of("report")])
    assert server.ask(f"GET /ping/{KEY}/report/start").status == 200
    assert server.ask(f"GET /p/{KEY}/report?state=complete").status == 200
    assert server.ask(f"GET /ping/{UUID}/0").status == 200
    assert server.ask(f"GET /ping/{KEY}/other").status == 404
    assert {labels["check"] for labels in pinged(server)} == {"report"}
    (start, _), (end, _), _ = server.ingest.groups
    assert start.states[0].key == end.states[0].key


def test_the_bounds_of_that_rule_hold() -> None:
    server = FakeServer(rules=[rule_of("report", types=("deploy",))])
    assert server.ask(f"GET /ping/{KEY}/report").status == 403


def test_a_rule_without_a_check_names_none() -> None:
    rule = Rule(number=1, role=Role.EMIT, network=Networks.parse(["192.0.2.0/24"]), types=("ping",))
    server = FakeServer(rules=[rule], checks=CHECKS)
    assert server.ask(f"GET /ping/{KEY}/other").status == 404
    assert server.ask(f"GET /ping/{KEY}/report").status == 200


def test_a_url_needs_no_rule_but_a_wrong_credential_is_refused() -> None:
    """The wrappers send no credential but the URL."""
    server = FakeServer(rules=[], checks=CHECKS)
    assert server.ask(f"GET /ping/{UUID}").status == 200
    assert server.ask(f"GET /ping/{UUID}", f"Authorization: {bearer('wrong').decode()}").status == 401


def test_networks_hold_for_pings() -> None:
    server = FakeServer(allow_emit=["198.51.100.1"], checks=CHECKS)
    assert server.ask(f"GET /ping/{UUID}").status == 403


# What nobody meant


@pytest.mark.parametrize(
    "header",
    [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: https://chat.example",
        "Origin: null",
        "Purpose: prefetch",
        "X-Purpose: preview",
        "X-Moz: prefetch",
        "Sec-Purpose: prefetch;prerender",
        "User-Agent: Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "User-Agent: facebookexternalhit/1.1",
        "User-Agent: Twitterbot/1.0",
        "User-Agent: TelegramBot (like TwitterBot)",
        "User-Agent: WhatsApp/2.23.20.0",
        "User-Agent: Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
        "User-Agent: Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
        "User-Agent: Synapse (bot; +https://github.com/matrix-org/synapse)",
        "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1)",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_or_a_preview_sends_no_ping(header: str, method: str) -> None:
    """A URL in a chat would be an event for everybody who reads it."""
    server = FakeServer(checks=CHECKS)
    assert server.ask(f"{method} /ping/{UUID}", header).status == 403
    assert server.ask(f"{method} /p/{KEY}/report?state=fail", header).status == 403
    assert server.ingest.groups == []


@pytest.mark.parametrize(
    "header",
    [
        "Sec-Fetch-Site: none",
        "Sec-Fetch-Site: same-origin",
        "User-Agent: curl/8.14.1",
        "User-Agent: runitor/1.4.1 (+https://bdd.fi/x/runitor)",
        "User-Agent: Wget/1.25.0",
        "User-Agent: robot-backup/1.0",
        "User-Agent: cronitor-python",
    ],
)
def test_wrappers_and_people_send_pings(header: str) -> None:
    assert FakeServer(checks=CHECKS).ask(f"GET /ping/{UUID}", header).status == 200


def test_no_log_line_has_the_url() -> None:
    """Who reads the log could send pings."""
    with events_logged() as events:
        server = FakeServer(checks=CHECKS)
        site = server.site()
        site._access_log = True
        connect = partial(server.connect, site)
        assert (
            connect().ask(f"GET /ping/{UUID}/start", f"Referer: http://chat.example/ping/{UUID}").status
            == 200
        )
        assert connect().ask(f"GET /p/{KEY}/other").status == 404
        assert connect().ask(f"GET /ping/{UUID}", "Purpose: prefetch").status == 403
        assert connect().ask(f"GET /ping/{UUID}", "Content-Length: x").status == 400
        assert connect().ask(f"GET /ping/{UUID}\xff").status == 400
        server.ingest.outcome = RuntimeError("a fault")
        assert connect().ask(f"GET /%70ing/{UUID}").status == 500
        site._refusals.flush()
    lines = [formatEvent(event) for event in events]
    assert any("/ping/…" in line for line in lines)
    assert any("failed" in line and "/%70ing/…" in line for line in lines)
    assert any(line.startswith("HTTP: refused") for line in lines)
    assert not [line for line in lines if UUID in line or KEY in line]

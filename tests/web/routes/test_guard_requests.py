"""The guard before the routes: headers, rates, passwords that are being checked, and the log."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from support.credentials import basic, bearer, hashed
from support.threads import Threads
from support.web_fakes import FakeServer, events_logged, failures_logged, request
from twisted.logger import formatEvent

from oneshotd.access.failed_attempts import BURST
from oneshotd.access.rules import Role, Rule
from oneshotd.access.token_bucket import TokenBucket
from oneshotd.core.networks import Networks

USERS = {"ci": hashed("secret"), "ann": hashed("word")}
HEADERS = ((b"Strict-Transport-Security", b"max-age=9"), (b"Content-Security-Policy", b"default-src 'self'"))
NEAR, FAR = Networks.parse(["192.0.2.0/24"]), Networks.parse(["198.51.100.0/24"])


def says(header: bytes) -> str:
    return "Authorization: " + header.decode("latin-1")


CI = says(basic("ci", "secret"))


def rule(role: Role, **who: Any) -> Rule:
    return Rule(number=1, role=role, **who)


def every_role(**who: Any) -> list[Rule]:
    return [Rule(number=number, role=role, **who) for number, role in enumerate(Role, 1)]


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("GET /healthz", b""),
        ("GET /metrics", b""),
        ("GET /nothing", b""),
        ("POST /event?value=x", b""),
        ("POST /event", b"x" * 2_000_000),
        ("get /metrics", b""),
    ],
)
@pytest.mark.parametrize("lines", [[], [CI]])
def test_every_answer_has_the_headers_of_the_web_configuration(
    line: str, body: bytes, lines: list[str]
) -> None:
    """A browser would not learn that it has to use HTTPS."""
    server = FakeServer(users=USERS, headers=HEADERS)
    answer = server.ask(line, *lines, body=body)
    assert answer.headers["Strict-Transport-Security"] == "max-age=9"
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"


def test_the_page_keeps_its_own_policy_besides() -> None:
    """The operator's policy would weaken that of the page."""
    answer = FakeServer(headers=HEADERS).ask("GET /", "Accept: text/html")
    first, second = answer.headers.get_all("Content-Security-Policy") or ("", "")
    assert first == "default-src 'self'" and second.startswith("default-src 'none'")
    assert FakeServer().ask("GET /", "Accept: text/html").headers.get_all("Content-Security-Policy") == [
        second
    ]


@pytest.mark.parametrize("lines", [["Authorization: nonsense"], [says(basic("ci", "wrong"))], [CI]])
def test_without_users_and_rules_credentials_do_not_matter(lines: list[str]) -> None:
    """Clients that send a credential to a daemon that wants none would be refused once it sets a header."""
    assert FakeServer(headers=HEADERS).ask("POST /event?a=b", *lines).status == 200
    assert FakeServer(headers=HEADERS).ask("POST /api/v1/backup", *lines).status == 404


def test_the_rate_of_all_requests_is_limited() -> None:
    """The rate_limit of a web configuration file would be ignored."""
    server = FakeServer(limit=TokenBucket(rate=0.5, burst=3))
    site = server.site()
    connection = server.connect(site)
    assert [connection.ask("GET /").status for _ in range(4)] == [200, 200, 200, 429]
    refused = server.connect(site).ask("POST /event?a=b")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
    assert refused.text == "the daemon gets more requests than its rate_limit allows\n"
    assert server.telemetry.refusals == {"rate": 2} and server.ingest.groups == []
    server.clock.advance(2)
    assert [connection.ask("GET /").status for _ in range(2)] == [200, 429]


def test_the_rate_comes_before_passwords() -> None:
    """A flood of passwords would cost what the rate_limit is to save."""
    threads = Threads()
    server = FakeServer(users=USERS, limit=TokenBucket(rate=0.5, burst=1), defer_to_thread=threads)
    connection = server.connect()
    assert [connection.ask("GET /").status, connection.ask("GET /", CI).status] == [401, 429]
    assert threads.jobs == []


def test_an_address_with_too_many_wrong_passwords_is_told_when_to_come_again() -> None:
    """A guesser would go on, and a person would not know how long to wait."""
    server = FakeServer(users=USERS)
    connection = server.connect()
    answers = [connection.ask("GET /", says(basic("ci", f"guess{number}"))) for number in range(BURST + 2)]
    assert [answer.status for answer in answers] == [401] * BURST + [429] * 2
    assert answers[-1].headers["Retry-After"] == "6" and "WWW-Authenticate" not in answers[-1].headers
    assert server.telemetry.refusals == {"unauthorized": BURST, "rate": 2}


def test_a_request_waits_for_the_check_of_its_password() -> None:
    """A request would be answered before its client is known, or twice, or not at all."""
    threads = Threads()
    server = FakeServer(users=USERS, defer_to_thread=threads)
    connection = server.connect()
    one = request("POST /event?a=b", CI)
    other = request("POST /event?a=c", CI)
    connection.protocol.dataReceived(one + other)
    assert connection.answers() == [] and server.ingest.groups == []
    threads.work()
    server.clock.advance(0)
    assert [answer.status for answer in connection.answers("POST", "POST")] == [200, 200]
    assert len(server.ingest.groups) == 2 and threads.jobs == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", [[], [says(basic("ci", "wrong"))]])
def test_a_refused_head_has_no_body(method: str, lines: list[str]) -> None:
    """The next answer of the connection would be read as the body."""
    server = FakeServer(users=USERS)
    connection = server.connect()
    for _ in range(2):
        answer = connection.ask(f"{method} /metrics", *lines)
        assert answer.status == 401 and (answer.body == b"") == (method == "HEAD")


def test_a_client_that_hangs_up_during_the_check_leaves_nothing() -> None:
    """Its event would be stored though its client has got no answer; or the log would fill."""
    threads = Threads()
    server = FakeServer(users=USERS, defer_to_thread=threads)
    with failures_logged() as failures:
        connection = server.connect()
        connection.protocol.dataReceived(request("POST /event?a=b", CI))
        connection.hang_up()
        threads.work()
        blocker, waiting = server.connect(), server.connect()
        blocker.protocol.dataReceived(request("GET /", says(basic("ann", "word"))))
        waiting.protocol.dataReceived(request("GET /", says(basic("ann", "other"))))
        waiting.hang_up()
        assert len(threads.jobs) == 1
        threads.work_all()
    assert [answer.status for answer in blocker.answers("GET")] == [200]
    assert failures == [] and server.ingest.groups == [] and server.telemetry.refusals == {}
    assert server.ask("POST /event?a=b", CI).status == 200, "the check has counted"


def test_an_error_in_a_check_is_a_500() -> None:
    """The request would hang, or be let through."""
    server = FakeServer(users={"ci": b"$2b$no hash"})
    with failures_logged() as failures:
        answer = server.ask("POST /event?a=b", CI)
    assert (answer.status, answer.text, len(failures)) == (500, "internal error\n", 1)
    assert server.ingest.groups == []


def logged(server: FakeServer, asked: Sequence[str]) -> list[str]:
    """Return the lines of the log that requests cause, those of the access log among them."""
    with events_logged() as events:
        site = server.site()
        site._access_log = True
        for header in asked:
            server.connect(site).ask("POST /event?a=b", header)
        site._refusals.flush()
    return [formatEvent(event) for event in events]


def test_no_log_has_a_credential() -> None:
    """Whoever may read the log could use the passwords of others."""
    wrong = says(basic("secretuser", "secretword"))
    headers = [
        *[wrong, says(bearer("secrettoken")), "Authorization: secrettoken", "Authorization: Basic secret"],
        *[CI, says(bearer("secret,secret")), "Authorization: Digest secret"],
    ]
    lines = logged(FakeServer(users=USERS), headers)
    refusals = [line for line in lines if line.startswith("HTTP: refused")]
    assert refusals[0] == (
        "HTTP: refused 1 requests (unauthorized): Authorization: user or password is wrong;"
        " from 192.0.2.7: POST /event"
    )
    encoded = b64encode(b"secretuser:secretword").decode()
    assert not [line for line in lines if "secret" in line or encoded in line]


def test_a_client_without_a_rule_is_in_the_log_and_a_first_request_is_not() -> None:
    """An operator would hear of it from the sender alone; or of every browser that asks first."""
    server = FakeServer(users=USERS, rules=[rule(Role.EMIT, user="ann")])
    lines = [line for line in logged(server, [CI, "Accept: */*"]) if line.startswith("HTTP: refused")]
    assert len(lines) == 1
    assert lines[0].startswith(
        "HTTP: refused 1 requests (forbidden): 192.0.2.7 (user ci): no access rule gives"
    )

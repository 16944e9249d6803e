"""The guard before the routes: who is let through, and how others are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.credentials import basic, bearer, hashed, token_hash
from support.threads import Threads
from support.web_fakes import Answer, FakeServer
from twisted.internet.address import UNIXAddress

from oneshotd.access.rules import Role, Rule
from oneshotd.access.token_bucket import TokenBucket
from oneshotd.core.networks import Networks
from oneshotd.web.app import HTTPApi
from oneshotd.web.routes import guard
from oneshotd.web.routes.guard import OPEN, ROLES

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


def test_each_route_has_its_roles_in_the_table() -> None:
    """A new route would be closed for all, or one that was removed would hide a slip."""
    assert {route.endpoint for route in HTTPApi.app.url_map.iter_rules()} == set(ROLES)
    assert {name for name, roles in ROLES.items() if roles == OPEN} == {"healthz", "readyz"}


def test_a_route_that_is_missing_in_the_table_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A route whose author forgot the table would be open for strangers."""
    monkeypatch.setattr(guard, "ROLES", {key: value for key, value in ROLES.items() if key != "metrics"})
    answer = FakeServer(users=USERS, rules=every_role(user="ci")).ask("GET /metrics", CI)
    assert (answer.status, answer.text) == (403, "no role may use this path\n")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 401),
        ([CI], 200),
        ([says(basic("ann", "word"))], 200),
        ([says(basic("ci", "word"))], 401),
        ([says(basic("bob", "secret"))], 401),
        ([says(bearer("secret"))], 401),
        (["Authorization: nonsense"], 401),
        ([CI, CI], 401),
        ([CI.replace("Basic", "bAsIC")], 200),
    ],
)
@pytest.mark.parametrize("line", ["POST /event?a=b", "GET /metrics", "GET /", "GET /api/v1/scrapers"])
def test_users_alone_may_do_all(line: str, lines: list[str], status: int) -> None:
    """A web configuration as other exporters have it would let strangers in, or shut users out."""
    server = FakeServer(users=USERS)
    answer = server.ask(line, *lines)
    assert answer.status == status
    assert answer.headers.get_all("WWW-Authenticate") == (
        ['Basic realm="oneshotd", charset="UTF-8"'] if status == 401 else None
    )
    assert server.telemetry.refusals == ({"unauthorized": 1} if status == 401 else {})
    assert (len(server.ingest.groups), len(server.delivery.asked)) == (
        ("event" in line and status == 200),
        ("metrics" in line and status == 200),
    )


@pytest.mark.parametrize(
    ("rules", "users", "lines", "status"),
    [
        # what fits
        ([rule(Role.EMIT, user="ci")], USERS, [CI], 200),
        ([rule(Role.EMIT, token_sha256=token_hash("t"))], {}, [says(bearer("t"))], 200),
        ([rule(Role.EMIT, network=NEAR)], {}, [], 200),
        ([rule(Role.EMIT, network=NEAR)], USERS, [CI], 200),
        ([rule(Role.EMIT, network=NEAR, user="ci")], USERS, [CI], 200),
        # a credential would help
        ([rule(Role.EMIT, user="ci")], USERS, [], 401),
        ([rule(Role.EMIT, token_sha256=token_hash("t"))], {}, [], 401),
        ([rule(Role.EMIT, network=NEAR, user="ci")], USERS, [], 401),
        # it is wrong, even where none is needed
        ([rule(Role.EMIT, network=NEAR)], USERS, [says(basic("ci", "wrong"))], 401),
        ([rule(Role.EMIT, network=NEAR)], {}, [says(bearer("unknown"))], 401),
        ([rule(Role.EMIT, network=NEAR)], {}, [says(basic("ci", "secret"))], 401),
        # nothing would help
        ([], USERS, [], 403),
        ([], USERS, [CI], 403),
        ([rule(Role.EMIT, network=FAR)], USERS, [], 403),
        ([rule(Role.EMIT, network=FAR, user="ci")], USERS, [], 403),
        ([rule(Role.EMIT, network=FAR, user="ci")], USERS, [CI], 403),
        ([rule(Role.EMIT, user="ann")], USERS, [CI], 403),
        ([rule(Role.EMIT, san="ci.example")], USERS, [], 403),
        ([rule(Role.SCRAPE, user="ci")], USERS, [], 403),
        ([rule(Role.SCRAPE, user="ci"), rule(Role.ADMIN, user="ci")], USERS, [CI], 403),
    ],
)
def test_rules_decide_with_an_access_file(
    rules: list[Rule], users: dict[str, bytes], lines: list[str], status: int
) -> None:
    """A client would do what no rule allows; or ask its user for a password that does not help."""
    server = FakeServer(users=users, rules=rules)
    answer = server.ask("POST /event?a=b", *lines)
    assert answer.status == status
    assert len(server.ingest.groups) == (status == 200)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    ("rules", "users", "challenges"),
    [
        ([rule(Role.EMIT, user="ci")], USERS, ['Basic realm="oneshotd", charset="UTF-8"']),
        ([rule(Role.EMIT, token_sha256="0" * 64)], {}, ['Bearer realm="oneshotd"']),
        (
            [rule(Role.EMIT, token_sha256="0" * 64)],
            USERS,
            ['Basic realm="oneshotd", charset="UTF-8"', 'Bearer realm="oneshotd"'],
        ),
        ([rule(Role.EMIT, network=NEAR)], {}, ['Bearer realm="oneshotd"']),
    ],
)
def test_a_401_names_what_the_daemon_takes(
    rules: list[Rule], users: dict[str, bytes], challenges: list[str]
) -> None:
    """A browser would not ask for the password, or would ask for one that nobody has."""
    answer = FakeServer(users=users, rules=rules).ask("POST /event?a=b", "Authorization: x")
    assert (answer.status, answer.headers.get_all("WWW-Authenticate")) == (401, challenges)


def test_the_pages_script_does_not_make_the_browser_ask() -> None:
    """A browser whose password was replaced would ask for it every three seconds."""
    answer = FakeServer(users=USERS).ask("GET /live", says(basic("ci", "old")))
    assert (answer.status, answer.headers.get_all("WWW-Authenticate")) == (401, ['Bearer realm="oneshotd"'])


def test_a_refusal_says_who_and_what_and_no_secret() -> None:
    """An operator could not tell which rule is missing; or a secret would be in a log of the client."""
    token = token_hash("t0ken")
    rules = [rule(Role.LOOK, user="ci"), rule(Role.LOOK, token_sha256=token)]
    server = FakeServer(users=USERS, rules=rules)
    texts = [
        server.ask("POST /event?a=b", says(header)).text
        for header in (basic("ci", "secret"), bearer("t0ken"))
    ]
    assert texts == [
        "192.0.2.7 (user ci): no access rule gives it the role emit\n",
        f"192.0.2.7 (token {token[:8]}…): no access rule gives it the role emit\n",
    ]
    assert server.ask("GET /metrics").text == "expected a credential for the role scrape or look\n"
    server = FakeServer(users=USERS, allow_emit=["198.51.100.0/24"])
    assert server.ask("POST /event?a=b", CI).text == "192.0.2.7 is not in --allow-emit\n"
    assert server.ask("GET /metrics", CI).status == 200
    answer = server.ask("GET /metrics", "Accept: application/json")
    assert (answer.status, list(json.loads(answer.text))) == (401, ["error"])


@pytest.mark.parametrize("lines", [[], ["Authorization: nonsense"], [says(basic("ci", "wrong"))]])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_credential(path: str, lines: list[str]) -> None:
    """A load balancer or a kubelet would take the daemon down."""
    server = FakeServer(
        users=USERS, rules=[], limit=TokenBucket(rate=0.001, burst=1), defer_to_thread=Threads()
    )
    for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405)):
        assert server.ask(f"{method} {path}", *lines).status == status
    assert server.telemetry.refusals == {}


@pytest.mark.parametrize(
    "line",
    ["GET /nothing", "GET /event", "PUT /metrics", "POST /event/", "GET /metrics/", "OPTIONS /", "GET /%00"],
)
def test_strangers_do_not_learn_which_paths_there_are(line: str) -> None:
    """A stranger would see what the daemon is and can."""
    server = FakeServer(users=USERS)
    assert server.ask(line).status == 401
    assert server.ask(line, CI).status in (200, 404, 405)
    server = FakeServer(users=USERS, rules=[rule(Role.EMIT, user="ci")])
    assert server.ask(line).status in (401, 403)
    assert server.ask(line, CI).status in (403, 404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "//event", "///event", "/./event", "/x/../event", "/%65vent", "/event%20", "/event;x", "/event%00",
        "/%2Fevent", "/event%2F", "/event/.", "/EVENT", "/healthz/../event", "/healthz%2F..%2Fevent",
        "//healthz/event", "/event%3F", "/%2e/event", "\\event",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_around_the_guard(path: str) -> None:
    """A stranger could send events by another spelling of the path."""
    server = FakeServer(users=USERS, rules=[rule(Role.EMIT, user="ann"), rule(Role.LOOK, network=NEAR)])
    answer = server.ask(f"POST {path}?a=b")
    assert answer.status != 200 and server.ingest.groups == []
    assert server.ask(f"GET {path.replace('event', 'metrics')}").status in (200, 400, 401, 403, 404)
    assert {asked[0] for asked in server.delivery.asked} <= {"look"}


def test_the_routes_check_the_rule_again() -> None:
    """A path that guard and routes read differently would open a route."""
    server = FakeServer(users=USERS, rules=every_role(user="ci"), backups=object())
    for path, wrong in (
        ("POST /event?a=b", Role.LOOK),
        ("POST /events", Role.ADMIN),
        ("GET /metrics", Role.EMIT),
        ("GET /", Role.EMIT),
        ("GET /api/v1/events", Role.ADMIN),
        ("POST /api/v1/backup", Role.SCRAPE),
    ):
        answer = ask_with_rule(server, path, rule(wrong, user="ci"))
        assert answer.status == 403, path


def ask_with_rule(server: FakeServer, path: str, found: Rule) -> Answer:
    """Ask the routes themselves, with a rule that a mistaken guard has set."""
    site = server.site()
    routes: Any = site.resource
    site.resource = routes.routes
    made = server.make_request

    def make(*args: Any) -> Any:
        asked = made(*args)
        asked.rule = found
        return asked

    site.requestFactory = make  # type: ignore[assignment]
    return server.connect(site).ask(path, body=b"a=b" if path.endswith("/events") else b"")


def test_certificates_count_with_tls_only() -> None:
    """A client without a certificate would be taken for one that has it."""
    rules = [rule(Role.EMIT, san="ci.example")]
    sans = frozenset(["ci.example"])
    assert FakeServer(rules=rules, sans=sans, is_tls=True).ask("POST /event?a=b").status == 200
    assert FakeServer(rules=rules, sans=frozenset(), is_tls=True).ask("POST /event?a=b").status == 403
    assert FakeServer(rules=rules, sans=sans).ask("POST /event?a=b").status == 403


def test_the_address_is_the_one_that_a_trusted_proxy_names() -> None:
    """All clients behind a proxy would have the rights of the proxy."""
    rules = [rule(Role.EMIT, network=FAR)]
    line = "X-Forwarded-For: 198.51.100.9"
    assert FakeServer(rules=rules, trusted=["192.0.2.7"]).ask("POST /event?a=b", line).status == 200
    assert FakeServer(rules=rules).ask("POST /event?a=b", line).status == 403


def test_a_unix_socket_is_a_network_of_rules() -> None:
    """Local processes could not be given a role without a password."""
    rules = [rule(Role.EMIT, network=Networks.parse(["unix"]))]
    assert FakeServer(rules=rules, peer=UNIXAddress(b"")).ask("POST /event?a=b").status == 200
    assert FakeServer(rules=rules).ask("POST /event?a=b").status == 403


@pytest.mark.parametrize(
    "lines", [["Sec-Fetch-Site: cross-site"], ["Origin: http://evil.example"], ["Origin: null"]]
)
@pytest.mark.parametrize("line", ["POST /event?a=b", "POST /events", "POST /api/v1/backup"])
def test_another_sites_page_cannot_use_the_password_that_a_browser_knows(line: str, lines: list[str]) -> None:
    """A page could send events, or fill the disk with copies, as the user who visits it."""
    server = FakeServer(users=USERS, rules=every_role(user="ci"), backups=object())
    answer = server.ask(line, CI, *lines, body=b"a=b")
    assert (answer.status, "another site" in answer.text) == (403, True)
    assert server.ingest.groups == []

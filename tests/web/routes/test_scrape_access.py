"""Who may scrape under which name, and who may only look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.credentials import basic, bearer, hashed, token_hash
from support.web_fakes import FakeServer
from twisted.internet.address import IPv4Address

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks

USERS = {"prom": hashed("secret"), "ann": hashed("word")}
PROM = "Authorization: " + basic("prom", "secret").decode()
ANN = "Authorization: " + basic("ann", "word").decode()
TOKEN = "Authorization: " + bearer("t").decode()
NEAR = Networks.parse(["192.0.2.0/24"])

BROWSER = ["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"]


def rules(*who: dict[str, Any]) -> list[Rule]:
    return [Rule(number=number, **fields) for number, fields in enumerate(who, 1)]


BOUND = rules(
    {"role": Role.SCRAPE, "token_sha256": token_hash("t"), "scraper": "prometheus-a"},
    {"role": Role.SCRAPE, "user": "prom", "scraper": "eu-*"},
    {"role": Role.SCRAPE, "network": NEAR},
    {"role": Role.LOOK, "user": "ann"},
    {"role": Role.SCRAPE, "token_sha256": token_hash("u"), "scraper": "eu-7"},
)


@pytest.mark.parametrize(
    ("lines", "name", "refused"),
    [
        ([TOKEN], "prometheus-a", None),
        (
            [TOKEN],
            "prometheus-b",
            "rule 1 (scrape, token {token}…) has the name prometheus-a, not prometheus-b",
        ),
        ([TOKEN], "Prometheus-a", "rule 1"),
        ([TOKEN], "prometheus-a/x", "rule 1"),
        ([TOKEN], "eu-1", "rule 1"),
        ([PROM], "eu-1", None),
        ([PROM], "eu-", None),
        ([PROM], "eu-7", "the name eu-7 belongs to rule 5"),
        ([PROM], "eu", "rule 2 (scrape, user prom) has the name eu-*, not eu"),
        ([PROM], "prometheus-a", "rule 2"),
        ([], "anything", None),
        ([], "prometheus-a", "the name prometheus-a belongs to rule 1"),
        ([], "eu-2", "the name eu-2 belongs to rule 2"),
        ([TOKEN], None, None),
        ([PROM], None, None),
        ([], None, None),
    ],
)
def test_a_name_belongs_to_its_principal(lines: Sequence[str], name: str | None, refused: str | None) -> None:
    """A client would take the events of a scraper by its name."""
    server = FakeServer(users=USERS, rules=BOUND)
    answer = server.ask(f"GET /metrics?scraper={name}" if name else "GET /metrics", *lines)
    assert answer.status == (403 if refused else 200)
    if refused:
        assert answer.text.startswith("scraper: ")
        assert refused.format(token=token_hash("t")[:8]) in answer.text
        assert server.delivery.asked == []
    else:
        ((kind, visit, *_),) = server.delivery.asked
        assert (kind, visit.name) == ("scrape", name or "192.0.2.7 unknown")


@pytest.mark.parametrize(
    "query", ["scraper=prometheus-a&scraper=x", "scraper=prometheus-%61", "scraper=a%20b"]
)
def test_no_spelling_of_a_name_gets_around_its_rule(query: str) -> None:
    """A client would take the events of a scraper by another spelling of its name."""
    server = FakeServer(users=USERS, rules=BOUND)
    assert server.ask(f"GET /metrics?{query}").status in (400, 403)
    assert server.delivery.asked == []


@pytest.mark.parametrize("who", [{"user": "ann"}, {"network": NEAR}])
@pytest.mark.parametrize(
    ("line", "headers", "kind"),
    [
        ("GET /metrics?look", [], "look"),
        ("GET /metrics?look=1&scraper=prometheus-a", [], "look"),
        ("HEAD /metrics?scraper=prometheus-a", [], "look"),
        ("GET /metrics?scraper=prometheus-a", BROWSER, "look"),
        ("GET /metrics", BROWSER, "look"),
        ("GET /metrics?scraper=prometheus-a", [], None),
        ("GET /metrics", [], None),
        ("GET /metrics?Look", [], None),
        ("GET /metrics", ["X-Prometheus-Scrape-Timeout-Seconds: 10"], None),
    ],
)
def test_a_look_principal_sees_and_never_takes(
    who: dict[str, Any], line: str, headers: list[str], kind: str | None
) -> None:
    """A person who may look would take a scraper's events with curl; or could not see them."""
    server = FakeServer(users=USERS, rules=rules({"role": Role.LOOK, **who}))
    answer = server.ask(line, ANN, *headers)
    assert [asked[0] for asked in server.delivery.asked] == ([kind] if kind else [])
    assert answer.status == (200 if kind else 403)
    if not kind:
        assert "does not let you scrape: add ?look (or &look)" in answer.text
        assert server.telemetry.refusals == {"forbidden": 1}


def test_a_scraper_may_look_too() -> None:
    """An operator with the scraper's credential could not see what a scrape would get."""
    server = FakeServer(users=USERS, rules=BOUND)
    assert server.ask("GET /metrics?look&scraper=prometheus-a", TOKEN).status == 200
    assert server.ask("GET /metrics?look&scraper=eu-1", TOKEN).status == 200
    assert server.ask("GET /", TOKEN, "Accept: text/html").status == 200
    assert server.ask("GET /api/v1/scrapers", TOKEN).status == 200
    assert {asked[0] for asked in server.delivery.asked} == {"look"}


def test_a_rule_to_scrape_counts_before_one_to_look() -> None:
    """A scraper in a network that may look could not scrape."""
    server = FakeServer(
        users=USERS,
        rules=rules({"role": Role.LOOK, "network": NEAR}, {"role": Role.SCRAPE, "user": "prom"}),
    )
    assert server.ask("GET /metrics", PROM).status == 200
    assert [asked[0] for asked in server.delivery.asked] == ["scrape"]


@pytest.mark.parametrize(
    "server",
    [
        FakeServer(),
        FakeServer(users=USERS),
        FakeServer(users=USERS, rules=rules({"role": Role.SCRAPE, "user": "prom"})),
        FakeServer(users=USERS, rules=BOUND),
        FakeServer(rules=rules({"role": Role.SCRAPE, "network": NEAR})),
        FakeServer(headers=((b"X-Frame-Options", b"deny"),)),
    ],
)
def test_turning_the_files_on_or_off_makes_nobody_a_newcomer(server: FakeServer) -> None:
    """Each unnamed scraper would lose the events that wait for it, and two replicas would share theirs."""
    found = []
    for host in ("192.0.2.7", "192.0.2.8"):
        server.peer = IPv4Address("TCP", host, 40000)
        lines = [PROM] if server.users else []
        assert server.ask("GET /metrics", *lines, "User-Agent: Prometheus/3.5.0").status == 200
        assert server.ask("GET /metrics?scraper=own", *lines).status == (
            403 if server.rules is BOUND else 200
        )
        found.append(server.delivery.asked[0][1])
        server.delivery.asked.clear()
    assert [(visit.name, visit.named) for visit in found] == [
        ("192.0.2.7 Prometheus", False),
        ("192.0.2.8 Prometheus", False),
    ]

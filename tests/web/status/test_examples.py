"""What can be copied from the page, and from the text for terminals, with places for credentials."""

from __future__ import annotations

from html import unescape

import pytest
import yaml
from support.credentials import basic, bearer, hashed, token_hash
from support.web_fakes import FakeServer

from oneshotd.access.policy import AccessPolicy, Credential
from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.web.status.examples import Examples

USERS = {"ann": hashed("word")}
NEAR = Networks.parse(["192.0.2.0/24"])
ANN, TOKEN = f"Authorization: {basic('ann', 'word').decode()}", f"Authorization: {bearer('t').decode()}"


def rule(role: Role, **fields: object) -> Rule:
    return Rule(number=1, role=role, **fields)  # type: ignore[arg-type]  # any of them


@pytest.mark.parametrize(
    ("rules", "has_users", "emitter", "scraper"),
    [
        (None, False, "", ""),
        (None, True, "user", "user"),
        ([rule(Role.EMIT, user="a"), rule(Role.SCRAPE, network=NEAR)], True, "user", ""),
        ([rule(Role.EMIT, token_sha256="a"), rule(Role.SCRAPE, san="a")], True, "token", ""),
        ([rule(Role.EMIT, token_sha256="a"), rule(Role.EMIT, user="a")], True, "token user", ""),
        ([rule(Role.SCRAPE, token_sha256="a", network=NEAR)], False, "", "token"),
    ],
)
def test_the_policy_says_what_clients_send(
    rules: list[Rule] | None, has_users: bool, emitter: str, scraper: str
) -> None:
    """The examples would ask a person for a password that there is not."""
    policy = AccessPolicy()
    policy.update(rules=rules, has_users=has_users)
    for role, words in ((Role.EMIT, emitter), (Role.SCRAPE, scraper)):
        assert policy.credentials(role) == {Credential(word) for word in words.split()}


@pytest.mark.parametrize(
    ("rules", "has_users", "taken"),
    [
        (None, False, True),
        (None, True, True),
        ([rule(Role.EMIT, user="a", network=NEAR), rule(Role.SCRAPE, network=NEAR)], True, False),
        ([rule(Role.EMIT, user="a"), rule(Role.EMIT, network=NEAR)], True, True),
    ],
)
def test_the_policy_says_whether_datagrams_are_taken(
    rules: list[Rule] | None, has_users: bool, taken: bool
) -> None:
    """The page would show a command for UDP whose events never arrive, and nobody is told."""
    policy = AccessPolicy()
    policy.update(rules=rules, has_users=has_users)
    assert policy.takes_datagrams is taken


def test_an_open_daemon_asks_for_nothing() -> None:
    examples = Examples(scheme="http", host="a:1", udp=1)
    assert examples.curl == 'curl -X POST "http://a:1/event?type=deploy&version=1.2"'
    assert examples.command.startswith("ONESHOTD_URL=http://a:1 \\\n")
    (job,) = yaml.safe_load(examples.scrape_config)["scrape_configs"]
    assert set(job) == {"job_name", "scrape_interval", "params", "static_configs"}


def test_where_users_log_in_the_examples_have_a_place_for_the_name() -> None:
    """What a person copies would be refused, and not say where the name goes."""
    server = FakeServer(users=USERS)
    html = unescape(server.ask("GET /", "Accept: text/html", ANN).text)
    assert "curl --user USER \\\n  -X POST" in html
    assert "ONESHOTD_URL=http://USER:PASSWORD@oneshot.example:8090 \\\n" in html
    config = "scrape_configs:\n" + html.partition("scrape_configs:\n")[2].partition("</code>")[0]
    (job,) = yaml.safe_load(config)["scrape_configs"]
    assert job["basic_auth"] == {"username": "USER", "password_file": "/etc/prometheus/oneshotd.password"}
    assert "/dev/udp/" in html  # datagrams have no password
    text = server.ask("GET /", ANN).text
    assert text.count("curl --user USER ") == 4 and "UDP" in text


def test_where_tokens_are_asked_for_the_examples_have_a_place_for_them() -> None:
    digest = token_hash("t")
    rules = [rule(role, token_sha256=digest) for role in Role] + [rule(Role.EMIT, network=NEAR)]
    server = FakeServer(rules=rules)
    text = server.ask("GET /", TOKEN).text
    assert text.count('curl -H "Authorization: Bearer $TOKEN" ') == 4 and "UDP" in text
    html = unescape(server.ask("GET /", "Accept: text/html", TOKEN).text)
    assert "      credentials_file: /etc/prometheus/oneshotd.token\n" in html
    assert "ONESHOTD_URL=http://oneshot.example:8090 \\\n  ONESHOTD_TOKEN_FILE=oneshotd.token \\\n" in html
    assert "/dev/udp/" in html
    assert digest not in html

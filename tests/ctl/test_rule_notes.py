"""Rules of the access file without effect are told, and only these."""

from __future__ import annotations

from typing import Any

import pytest

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.ctl.rule_notes import rule_notes

HASH = "0123456789abcdef" * 4

#: Rules for each role and user, so that a test's notes are about its own rules.
REST = ({"user": "ci"}, {"role": Role.SCRAPE, "user": "ci"})


def rules(*given: dict[str, Any]) -> list[Rule]:
    """Make rules; a network is given as texts."""
    made = []
    for number, each in enumerate(given, 1):
        fields = {"role": Role.EMIT, **each}
        if "network" in fields:
            fields["network"] = Networks.parse(fields["network"])
        made.append(Rule(number=number, **fields))
    return made


def notes(*given: dict[str, Any], allow: str = "", **more: Any) -> list[str]:
    allowed = Networks.parse(allow.split())
    known = {"users": ("ci",), "verifies_certificates": True, "emit": allowed, "scrape": allowed, **more}
    return list(rule_notes(rules(*given, *REST), **known))


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"user": "typo"}, "rule 1 (emit, user typo) fits nobody: basic_auth_users of the web configuration"),
        (
            {"user": "ci", "token_sha256": HASH},
            "rule 1 (emit, user ci, token 01234567…) fits nobody: a request has a user or a token, not both",
        ),
        (
            {"network": ["192.0.2.0/24", "unix"]},
            "rule 1 (emit, network 192.0.2.0/24, unix) fits nobody: its network is not in --allow-emit",
        ),
        (
            {"network": ["2001:db8::/32"], "role": Role.LOOK},
            "rule 1 (look, network 2001:db8::/32) fits nobody: its network is not in --allow-scrape",
        ),
    ],
)
def test_a_rule_that_no_client_can_meet(given: dict[str, Any], note: str) -> None:
    """An emitter would be refused, and the operator believe that it has its rule."""
    (found,) = notes(given, allow="10.0.0.0/8 ::1")
    assert found.startswith(note)


@pytest.mark.parametrize(
    "given",
    [
        {"token_sha256": HASH},
        {"network": ["10.1.0.0/16"]},
        {"network": ["0.0.0.0/0", "unix"]},
        {"network": ["::/0"]},
        {"network": ["192.0.2.0/24"], "role": Role.ADMIN},
        {"san": "host.example"},
    ],
)
def test_a_rule_that_some_client_can_meet(given: dict[str, Any]) -> None:
    """A rule that works would be called useless."""
    assert notes(given, allow="10.0.0.0/8 ::1") == []


def test_without_a_list_of_networks_each_rule_s_network_is_allowed() -> None:
    """Every rule with a network would be called useless."""
    assert notes({"network": ["192.0.2.0/24"]}, {"network": ["unix"], "role": Role.LOOK}) == []


def test_a_name_of_a_certificate_that_is_not_verified() -> None:
    """Every client could claim the name, so the daemon does not look at it."""
    (note,) = notes({"san": "host.example"}, verifies_certificates=False)
    assert note.endswith("fits nobody: the web configuration does not verify certificates of clients")


def test_a_rule_behind_one_that_always_fits_is_told() -> None:
    """Its bounds would never hold."""
    (note,) = notes({"user": "ci", "network": ["10.0.0.0/8"]}, {"user": "ci", "network": ["10.1.0.0/16"]})
    assert note.startswith("rule 2 (emit, user ci, network 10.1.0.0/16) never decides: rule 1 ")


def test_users_and_roles_without_a_rule() -> None:
    """A user could log in and do nothing; a daemon could have no scraper."""
    known: dict[str, Any] = {
        "verifies_certificates": False,
        "emit": Networks(),
        "scrape": Networks(),
    }
    only = rules({"user": "ci", "role": Role.LOOK})
    assert list(rule_notes(only, users=("ci", "ann"), **known)) == [
        "user ann of the web configuration is in no rule",
        "no rule has the role emit: no client may send events",
        "no rule has the role scrape: no client may scrape",
    ]
    every = rules({"network": ["10.0.0.0/8"]}, {"network": ["10.0.0.0/8"], "role": Role.SCRAPE})
    assert list(rule_notes(every, users=("ci", "ann"), **known)) == []

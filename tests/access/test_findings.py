"""What is odd about a set of rules, and what UDP takes."""

from __future__ import annotations

from typing import Any

import pytest

from oneshotd.access.findings import udp_takes, unknown_users, unreachable
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.core.networks import Networks


def rule(number: int, role: Role = Role.EMIT, networks: tuple[str, ...] = (), **given: Any) -> Rule:
    return Rule(number=number, role=role, network=Networks.parse(networks) if networks else None, **given)


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        ({"user": "a"}, {"user": "a"}, True),
        ({"user": "a"}, {"user": "b"}, False),
        ({"user": "a"}, {"user": "a", "role": Role.LOOK}, False),
        ({"user": "a"}, {"user": "a", "san": "s"}, True),
        ({"user": "a", "san": "s"}, {"user": "a"}, False),
        ({"user": "a"}, {"san": "s"}, False),
        ({"token_sha256": "0"}, {"token_sha256": "0", "networks": ("192.0.2.0/24",)}, True),
        ({"networks": ("192.0.2.0/24",)}, {"user": "a"}, False),
        ({"networks": ("192.0.2.0/24",)}, {"user": "a", "networks": ("192.0.2.7",)}, True),
        ({"networks": ("192.0.2.0/25",)}, {"networks": ("192.0.2.0/24",)}, False),
        ({"networks": ("0.0.0.0/0", "unix")}, {"networks": ("192.0.2.0/24", "unix")}, True),
        ({"networks": ("0.0.0.0/0",)}, {"networks": ("192.0.2.0/24", "unix")}, False),
        ({"networks": ("::/0",)}, {"networks": ("192.0.2.0/24",)}, False),
        ({"networks": ("0.0.0.0/0",)}, {"networks": ("::ffff:192.0.2.0/120",)}, True),
        ({"networks": ("fe80::/64",)}, {"networks": ("fe80::1%eth0",)}, True),
        ({"networks": ("fe80::1%eth0",)}, {"networks": ("fe80::1",)}, False),
        ({"networks": ("fe80::1%eth0",)}, {"networks": ("fe80::1%eth1",)}, False),
    ],
)
def test_a_rule_that_never_decides_is_told(
    earlier: dict[str, Any], later: dict[str, Any], covered: bool
) -> None:
    """An operator would think that a rule holds which no client ever meets."""
    rules = [rule(1, Role.SCRAPE, user="a"), rule(2, **earlier), rule(3, **later)]
    lines = unreachable(rules)
    assert lines == ([f"{rules[2]} never decides: {rules[1]} comes first and fits all its clients"] * covered)


def test_a_user_who_does_not_exist_is_told() -> None:
    """A user whose name is misspelled in the access file would be refused, and nobody knew why."""
    rules = [rule(1, user="ci"), rule(2, user="cl"), rule(3, networks=("unix",))]
    assert unknown_users(rules, {"ci": b"$2b$"}) == [
        "rule 2 (emit, user cl) fits nobody: basic_auth_users of the web configuration has no 'cl'"
    ]


def test_the_log_says_what_udp_takes() -> None:
    """An operator would wonder where the datagrams of his tools go once there is an access file."""
    assert udp_takes(None, has_users=False) is None
    assert "no password" in str(udp_takes(None, has_users=True))
    networks = ("192.0.2.0/24", "::1/128")
    closed = [rule(1, user="ci"), rule(2, Role.SCRAPE, networks), rule(3, user="ci", networks=networks)]
    assert "nothing" in str(udp_takes(closed, has_users=True))
    opened = [*closed, rule(4, networks=networks), rule(5, networks=("10.0.0.0/8",))]
    assert udp_takes(opened, has_users=True) == (
        "UDP takes only what these rules of the access file allow: "
        "rule 4 (emit, network 192.0.2.0/24, ::1/128); rule 5 (emit, network 10.0.0.0/8)"
    )
    policy = AccessPolicy()
    for rules in (closed, opened):
        policy.update(rules=rules, has_users=True)
        fits = policy.rule(Role.EMIT, Client(address="192.0.2.7"))
        assert (fits is not None) is any(rule.fits_datagrams for rule in rules)

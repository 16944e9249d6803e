"""Which rule of the access file decides for a client."""

from __future__ import annotations

import pytest

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.core.networks import Networks

NEAR = Networks.parse(["192.0.2.0/24"])
TOKEN = "5e88" + 60 * "0"


@pytest.mark.parametrize(
    ("rule", "client", "fits"),
    [
        (Rule(number=1, role=Role.EMIT, user="ci"), Client(address="192.0.2.7", user="ci"), True),
        (Rule(number=1, role=Role.EMIT, user="ci"), Client(address="192.0.2.7"), False),
        (Rule(number=1, role=Role.EMIT, user="a", network=NEAR), Client(address="192.0.2.7", user="a"), True),
        (Rule(number=1, role=Role.EMIT, user="a", network=NEAR), Client(address="::1", user="a"), False),
        (Rule(number=1, role=Role.EMIT, network=NEAR), Client(address="::ffff:192.0.2.7"), True),
        (Rule(number=1, role=Role.EMIT, token_sha256=TOKEN), Client(address="::1", token=TOKEN), True),
        (Rule(number=1, role=Role.EMIT, token_sha256=TOKEN), Client(address="::1", token="0"), False),
        (Rule(number=1, role=Role.EMIT, san="ci.a"), Client(address="::1", sans=frozenset(["ci.a"])), True),
        (Rule(number=1, role=Role.EMIT, san="ci.a"), Client(address="::1"), False),
    ],
)  # fmt: skip
def test_a_client_meets_all_that_a_rule_names(rule: Rule, client: Client, fits: bool) -> None:
    """A rule for "this user from that network" would let the user in from everywhere."""
    assert rule.fits(client) is fits


def test_the_first_rule_of_the_role_decides() -> None:
    """An operator who narrows a client by an early rule would be overruled by a later one."""
    policy = AccessPolicy()
    first = Rule(number=2, role=Role.EMIT, user="ci", types=("deploy",))
    policy.update(
        rules=[
            Rule(number=1, role=Role.LOOK, user="ci"),
            first,
            Rule(number=3, role=Role.EMIT, network=Networks.parse(["0.0.0.0/0"])),
        ],
        has_users=True,
    )
    assert policy.rule(Role.EMIT, Client(address="192.0.2.7", user="ci")) is first
    assert policy.rule(Role.SCRAPE, Client(address="192.0.2.7", user="ci")) is None
    assert policy.may_emit("192.0.2.7")
    assert not policy.may_scrape("192.0.2.7")


def test_users_without_an_access_file_may_do_all() -> None:
    """A web configuration file of another exporter would shut its users out, or let strangers in."""
    policy = AccessPolicy()
    policy.update(rules=None, has_users=True)
    for role in Role:
        assert policy.rule(role, Client(address="::1", user="ci")) is not None
        assert policy.rule(role, Client(address="::1")) is None
    policy.update(rules=None, has_users=False)
    assert policy.rule(Role.SCRAPE, Client(address="::1")) is not None
    assert policy.rule(Role.ADMIN, Client(address="::1")) is None


def test_a_refusal_names_the_rule_and_no_secret() -> None:
    """A person could not find the rule; or the log would have the token's hash to try words against."""
    rule = Rule(number=3, role=Role.SCRAPE, token_sha256=TOKEN, network=NEAR)
    assert str(rule) == "rule 3 (scrape, token 5e880000…, network 192.0.2.0/24)"


USER = Client(address="192.0.2.7", user="ci")
NOBODY = Client(address="192.0.2.7")
CERTIFIED = Client(address="192.0.2.7", sans=frozenset(["a"]))


@pytest.mark.parametrize(
    ("rules", "client", "helps"),
    [
        (None, NOBODY, True),
        (None, USER, False),
        ([], NOBODY, False),
        ([Rule(number=1, role=Role.EMIT, user="ci")], NOBODY, True),
        ([Rule(number=1, role=Role.EMIT, token_sha256=TOKEN)], NOBODY, True),
        ([Rule(number=1, role=Role.EMIT, user="ci")], USER, False),
        ([Rule(number=1, role=Role.EMIT, user="ci", network=NEAR)], NOBODY, True),
        ([Rule(number=1, role=Role.EMIT, user="ci", network=NEAR)], Client(address="::1"), False),
        ([Rule(number=1, role=Role.EMIT, user="ci", san="a")], NOBODY, False),
        ([Rule(number=1, role=Role.EMIT, user="ci", san="a")], CERTIFIED, True),
        ([Rule(number=1, role=Role.EMIT, network=NEAR)], NOBODY, False),
        ([Rule(number=1, role=Role.LOOK, user="ci")], NOBODY, False),
    ],
)  # fmt: skip
def test_a_client_is_asked_for_a_credential_only_if_one_helps(
    rules: list[Rule] | None, client: Client, helps: bool
) -> None:
    """A browser would ask its user for a password in vain, or not at all."""
    policy = AccessPolicy()
    policy.update(rules=rules, has_users=True)
    assert policy.credential_helps(Role.EMIT, client) is helps
    far = AccessPolicy(emit=Networks.parse(["198.51.100.0/24"]))
    far.update(rules=rules, has_users=True)
    assert not far.credential_helps(Role.EMIT, client)


def test_only_tokens_of_rules_in_force_are_valid() -> None:
    """A token that was withdrawn would still be valid."""
    policy = AccessPolicy()
    assert not policy.has_tokens and not policy.has_token(TOKEN)
    policy.update(rules=[Rule(number=1, role=Role.EMIT, token_sha256=TOKEN)], has_users=False)
    assert policy.has_tokens and policy.has_token(TOKEN) and not policy.has_token("0")
    policy.update(rules=[Rule(number=1, role=Role.EMIT, user="ci")], has_users=True)
    assert not policy.has_tokens and not policy.has_token(TOKEN)


def test_a_name_belongs_to_the_rule_that_has_it_before_those_with_a_pattern() -> None:
    """Two scrapers would share the events of one name."""
    policy = AccessPolicy()
    assert policy.owner("eu-1") is None
    rules = [
        Rule(number=1, role=Role.SCRAPE, user="ci"),
        Rule(number=2, role=Role.SCRAPE, user="ann", scraper="eu-*"),
        Rule(number=3, role=Role.SCRAPE, user="ben", scraper="eu-1"),
    ]
    policy.update(rules=rules, has_users=True)
    assert policy.owner("eu-1") is rules[2]
    assert policy.owner("eu-2") is rules[1]
    assert policy.owner("us-1") is None


@pytest.mark.parametrize(
    ("client", "named"),
    [
        (NOBODY, "192.0.2.7"),
        (USER, "192.0.2.7 (user ci)"),
        (Client(address="unix", token=TOKEN), "unix (token 5e880000…)"),
    ],
)
def test_a_refusal_names_the_client_and_no_secret(client: Client, named: str) -> None:
    """A person could not tell which credential was refused; or the log would have the token's hash."""
    assert str(client) == named

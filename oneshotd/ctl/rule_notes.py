"""Find rules of the access file that have no effect, and users and roles without a rule.

What the daemon's log says as well is in `access/findings.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from oneshotd.access.findings import unknown_users, unreachable
from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks

_DOES = {Role.EMIT: "send events", Role.SCRAPE: "scrape"}


def rule_notes(
    rules: Sequence[Rule],
    *,
    users: Collection[str],
    verifies_certificates: bool,
    emit: Networks,
    scrape: Networks,
) -> Iterator[str]:
    """Yield one line for each rule that cannot have an effect, and for each user and role without a rule.

    :param users: of the web configuration.
    :param verifies_certificates: whether it asks clients for certificates, and verifies them.
    :param emit, scrape: networks of --allow-emit and --allow-scrape, which hold in addition.
    """
    yield from unknown_users(rules, users)
    yield from unreachable(rules)
    for rule in rules:
        if rule.user is not None and rule.token_sha256 is not None:
            yield f"{rule} fits nobody: a request has a user or a token, not both"
        if rule.san is not None and not verifies_certificates:
            yield f"{rule} fits nobody: the web configuration does not verify certificates of clients"
        allowed, option = (emit, "--allow-emit") if rule.role is Role.EMIT else (scrape, "--allow-scrape")
        if rule.network is not None and rule.role is not Role.ADMIN and not _overlap(rule.network, allowed):
            yield f"{rule} fits nobody: its network is not in {option}"
    for user in users:
        if not any(rule.token_sha256 is None and rule.user in (None, user) for rule in rules):
            yield f"user {user} of the web configuration is in no rule"
    for role, does in _DOES.items():
        if not any(rule.role is role for rule in rules):
            yield f"no rule has the role {role.value}: no client may {does}"


def _overlap(networks: Networks, allowed: Networks) -> bool:
    """Return whether an address can be in both; an empty list allows all."""
    return not allowed or any(
        _have_common(one, other) for one in networks.members for other in allowed.members
    )


def _have_common(one: IPv4Network | IPv6Network | str, other: IPv4Network | IPv6Network | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one.version == other.version and one.overlaps(other)

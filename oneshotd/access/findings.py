"""Find odd rules in a set of valid ones, for the log and for `oneshotctl check-config`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from ipaddress import IPv6Network

from oneshotd.access.rules import Rule
from oneshotd.core.networks import Networks


def unreachable(rules: Sequence[Rule]) -> Sequence[str]:
    """Return a line for each rule that never decides, because one earlier rule fits all its clients.

    The earlier rule has the same role; it asks for nothing that the later one does not ask for, and each of
    the later one's networks is in one of its own. Several earlier rules together are not considered.
    """
    lines = []
    for at, later in enumerate(rules):
        for earlier in rules[:at]:
            if _covers(earlier, later):
                lines.append(f"{later} never decides: {earlier} comes first and fits all its clients")
                break
    return lines


def unknown_users(rules: Sequence[Rule], users: Container[str]) -> Sequence[str]:
    """Return a line for each rule that names a user whom the web configuration does not have."""
    return [
        f"{rule} fits nobody: basic_auth_users of the web configuration has no {rule.user!r}"
        for rule in rules
        if rule.user is not None and rule.user not in users
    ]


def udp_takes(rules: Sequence[Rule] | None, *, has_users: bool) -> str | None:
    """Return a line that says what UDP takes; None: it takes what the option --allow-emit says.

    :param rules: of the access file; None: there is none.
    :param has_users: whether the web configuration has users.
    """
    if rules is None:
        if not has_users:
            return None
        return "UDP asks no password: it takes what --allow-emit admits; an access file can allow less"
    open_to = [rule for rule in rules if rule.fits_datagrams]
    if not open_to:
        return "UDP takes nothing: no rule of the access file has the role emit and a network alone"
    return f"UDP takes only what these rules of the access file allow: {'; '.join(map(str, open_to))}"


def _covers(earlier: Rule, later: Rule) -> bool:
    """Return whether the earlier rule fits each client that the later one fits."""
    return (
        earlier.role is later.role
        and earlier.user in (None, later.user)
        and earlier.token_sha256 in (None, later.token_sha256)
        and earlier.san in (None, later.san)
        and (
            earlier.network is None
            or (later.network is not None and _contains(earlier.network, later.network))
        )
    )


def _contains(outer: Networks, inner: Networks) -> bool:
    return all(any(_is_part(part, whole) for whole in outer.members) for part in inner.members)


def _is_part(part: object, whole: object) -> bool:
    """Return whether each address of one member is in the other; `unix` is a member of its own."""
    if isinstance(part, str) or isinstance(whole, str):
        return part == whole
    if isinstance(part, IPv6Network) and isinstance(whole, IPv6Network):
        zone = whole.network_address.scope_id
        return part.subnet_of(whole) and zone in (None, part.network_address.scope_id)
    return type(part) is type(whole) and part.subnet_of(whole)  # type: ignore[attr-defined]  # IPv4

"""Every route and every kind of client: who is let through.

The routes are those of the daemon: a new one that `support/access_matrix.py` does not have fails each test.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.access_matrix import FAR, KINDS, NEAR, ROLES, SAN, USERS, Kind, cases, rules
from support.web_fakes import FakeServer
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed

from oneshotd.access.rules import Role
from oneshotd.backups import Backup
from oneshotd.web.app import HTTPApi


class Backups:
    """Makes backups that are no files."""

    def make(self) -> Any:
        return succeed(Backup(file="/backups/one.sqlite", size=1, seconds=0.1))


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_client_may_do_what_its_rule_says(kind: Kind, role: Role | None, is_tls: bool) -> None:
    """A client would do what it may not, or not what it may."""
    server = FakeServer(
        users=USERS,
        rules=rules(kind, role),
        is_tls=is_tls,
        sans=frozenset([SAN]) if kind.has_certificate else frozenset(),
        backups=Backups(),
        peer=IPv4Address("TCP", kind.address, 40000),
    )
    site = server.site()
    lines = [] if kind.authorization is None else [f"Authorization: {kind.authorization.decode()}"]
    found, expected = {}, {}
    for case in cases(HTTPApi.app.url_map, kind, role, is_tls=is_tls):
        expected[str(case)] = case.status
        answer = server.connect(site).ask(f"{case.method} {case.route.path}", *lines, body=case.route.body)
        found[str(case)] = answer.status
        assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)
    assert found == expected
    assert len(expected) > 10


def test_the_addresses_of_the_matrix_differ() -> None:
    """Clients of another network would be taken for those of the rule's own."""
    assert NEAR != FAR

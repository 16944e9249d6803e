"""The access policy, which HTTP routes, the fast path and UDP ask alike."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import define, field

from oneshotd.access.rules import Client, Role, Rule
from oneshotd.core.networks import Networks


class Credential(enum.Enum):
    """A kind of Authorization header."""

    USER = "user"  # and password
    TOKEN = "token"


@define(kw_only=True, eq=False)
class AccessPolicy:
    """Decides which client may do what; `update` replaces the rules while the daemon runs.

    The options --allow-emit and --allow-scrape hold for each client. In addition:

    * with an access file, a rule of the role has to fit;
    * with users in the web configuration alone, the client has to be one of them, and may do all; a datagram
      has no password, so UDP asks the option only;
    * with neither, the client may do all but `Role.ADMIN`.

    :param emit: networks that may send events; empty: all clients.
    :param scrape: networks that may scrape and look; empty: all clients.
    :ivar version: changes with each update: what was remembered of an earlier version does not hold.
    """

    emit: Networks = field(factory=Networks)
    scrape: Networks = field(factory=Networks)
    rules: Sequence[Rule] | None = field(default=None, init=False)
    needs_user: bool = field(default=False, init=False)
    version: int = field(default=0, init=False)
    _tokens: frozenset[str] = field(default=frozenset(), init=False)

    def update(self, *, rules: Sequence[Rule] | None, has_users: bool) -> None:
        """Replace the rules.

        :param rules: of the access file; None: there is no access file.
        :param has_users: whether the web configuration has users.
        """
        self.rules = rules
        self.needs_user = has_users and rules is None
        self._tokens = frozenset(rule.token_sha256 for rule in rules or () if rule.token_sha256 is not None)
        self.version += 1

    @property
    def is_open(self) -> bool:
        """Whether an address alone decides: no users and no access file."""
        return self.rules is None and not self.needs_user

    @property
    def has_tokens(self) -> bool:
        """Whether a rule names a bearer token."""
        return bool(self._tokens)

    def has_token(self, sha256: str) -> bool:
        """Return whether a rule names the token with this SHA-256."""
        return sha256 in self._tokens

    def rule(self, role: Role, client: Client) -> Rule | None:
        """Return the rule that lets this client have this role; None: it may not.

        Without an access file the rule has the number 0 and no bounds.
        """
        if not self.admits(role, client.address):
            return None
        if self.rules is None:
            if self.needs_user and client.user is None:
                return None
            return None if self.is_open and role is Role.ADMIN else Rule(number=0, role=role)
        for rule in self.rules:
            if rule.role is role and rule.fits(client):
                return rule
        return None

    def admits(self, role: Role, address: str) -> bool:
        """Return whether --allow-emit or --allow-scrape lets this address have this role."""
        if role is Role.ADMIN:
            return True
        return (self.emit if role is Role.EMIT else self.scrape).admits(address)

    def credential_helps(self, role: Role, client: Client) -> bool:
        """Return whether a client without a credential could have this role with one."""
        if client.user is not None or client.token is not None or not self.admits(role, client.address):
            return False
        if self.rules is None:
            return self.needs_user
        return any(
            rule.role is role
            and rule.needs_credential
            and (rule.san is None or rule.san in client.sans)
            and (rule.network is None or client.address in rule.network)
            for rule in self.rules
        )

    def credentials(self, role: Role) -> frozenset[Credential]:
        """Return what clients send to have this role, one of these; empty: nothing, or a certificate."""
        if self.rules is None:
            return frozenset({Credential.USER} if self.needs_user else ())
        found = set()
        for rule in self.rules:
            if rule.role is role and rule.user is not None:
                found.add(Credential.USER)
            elif rule.role is role and rule.token_sha256 is not None:
                found.add(Credential.TOKEN)
        return frozenset(found)

    @property
    def takes_datagrams(self) -> bool:
        """Whether there is an address from which datagrams are taken."""
        return self.rules is None or any(rule.fits_datagrams for rule in self.rules)

    def owner(self, scraper: str) -> Rule | None:
        """Return the first of the rules that bind this name most closely; None: no rule does."""
        closest = max(self.rules or (), key=lambda rule: rule.binds(scraper), default=None)
        return closest if closest is not None and closest.binds(scraper) else None

    def may_emit(self, address: str) -> bool:
        """Return whether a client that is known by its address alone may send events."""
        return self.emit.admits(address) and (
            self.is_open or self.rule(Role.EMIT, Client(address=address)) is not None
        )

    def may_scrape(self, address: str) -> bool:
        """Return whether a client that is known by its address alone may scrape and look."""
        return self.scrape.admits(address) and (
            self.is_open or self.rule(Role.SCRAPE, Client(address=address)) is not None
        )

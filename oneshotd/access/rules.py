"""Roles, clients and rules: who may do what.

A rule names who it is for (`user`, `token_sha256`, `san`, `network`: a client has to meet all that are
given), the role that it grants, and bounds of that role. The first rule of a role that fits a client decides
(docs/security.md).
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

from attrs import field, frozen

from oneshotd.core.networks import Networks
from oneshotd.core.patterns import matches


class Role(enum.Enum):
    """A set of actions that a rule allows; the value is its name in the access file."""

    EMIT = "emit"  # send events
    SCRAPE = "scrape"  # take events, and look
    LOOK = "look"  # see events and scrapers; takes nothing
    ADMIN = "admin"  # back up, and change state


@frozen(kw_only=True)
class Client:
    """The client of one request, as far as it is known.

    :param address: as a socket has it, or as a trusted proxy names it; "unix" for a UNIX socket.
    :param user: the user of the web configuration whose password the client has proved to know.
    :param token: SHA-256 of its bearer token, in hexadecimal; only a rule can tell whether it is valid.
    :param sans: subject alternative names of its verified certificate.
    """

    address: str
    user: str | None = None
    token: str | None = None
    sans: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Name the client in a refusal, without a secret: ``192.0.2.7 (user ci)``."""
        who = []
        if self.user is not None:
            who.append(f"user {self.user}")
        if self.token is not None:
            who.append(f"token {self.token[:8]}…")
        return f"{self.address} ({', '.join(who)})" if who else self.address


@frozen(kw_only=True)
class Rule:
    """One ``[[allow]]`` of the access file.

    :param number: its place in the file, from 1.
    :param scraper: the name that its scrapers may have, or a pattern of names (``*``); None: any name that
        no other rule binds.
    :param labels: put on each of its events; the sender cannot set them to other values.
    :param metrics, types: metric names, and values of the label ``type``, that its events may have, as
        patterns (``*``); empty: all.
    :param events_per_second: mean rate of its events, of all its clients together; None: any.
    :param series_per_day: different series of its events in 24 h; None: any.
    """

    number: int
    role: Role
    user: str | None = None
    token_sha256: str | None = None
    san: str | None = None
    network: Networks | None = None
    scraper: str | None = None
    labels: Mapping[str, str] = field(factory=dict)
    metrics: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    events_per_second: float | None = None
    series_per_day: int | None = None

    def __str__(self) -> str:
        """Name the rule in a refusal, without a secret: ``rule 3 (emit, user ci)``."""
        return f"rule {self.number} ({self.role.value}, {self.clients})"

    @property
    def clients(self) -> str:
        """Name the clients that it is for, without a secret: ``user ci, network 192.0.2.0/24``."""
        who = []
        if self.user is not None:
            who.append(f"user {self.user}")
        if self.token_sha256 is not None:
            who.append(f"token {self.token_sha256[:8]}…")
        if self.san is not None:
            who.append(f"SAN {self.san}")
        if self.network is not None:
            who.append("network " + ", ".join(str(member) for member in self.network.members))
        return ", ".join(who)

    @property
    def principal(self) -> str:
        """Name the clients that it is for by a text that stays, whatever place the rule has in its file.

        Rules for the same clients have the same; empty without an access file.
        """
        networks = None if self.network is None else [str(member) for member in self.network.members]
        who = {"user": self.user, "token": self.token_sha256, "san": self.san, "network": networks}
        given = {name: value for name, value in who.items() if value is not None}
        return json.dumps(given, sort_keys=True) if given else ""

    @property
    def changes_events(self) -> bool:
        """Whether each event has to be looked at: the fast path leaves these to the routes."""
        return bool(self.labels or self.metrics or self.types or self.series_per_day is not None)

    @property
    def fits_datagrams(self) -> bool:
        """Whether it may fit the sender of a datagram, which is known by its address alone."""
        return self.role is Role.EMIT and self.user is None and self.token_sha256 is None and self.san is None

    def fits(self, client: Client) -> bool:
        """Return whether this rule is for this client."""
        return (
            (self.user is None or self.user == client.user)
            and (self.token_sha256 is None or self.token_sha256 == client.token)
            and (self.san is None or self.san in client.sans)
            and (self.network is None or client.address in self.network)
        )

    @property
    def needs_credential(self) -> bool:
        """Whether it is for clients with a user or a token."""
        return self.user is not None or self.token_sha256 is not None

    def binds(self, scraper: str) -> int:
        """Return how closely this rule binds a scraper name: 2 by the name itself, 1 by a pattern, 0 not."""
        if self.role is not Role.SCRAPE or self.scraper is None:
            return 0
        return 2 if self.scraper == scraper else int(matches(self.scraper, scraper))

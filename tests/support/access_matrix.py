"""Every kind of client and every route, with what each client may do; the rules are written down again here.

An access file with a single rule is in force. The client presents what its kind has, whether or not the rule
is of the role that the route needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import field, frozen
from support.credentials import basic, bearer, hashed, token_hash
from werkzeug.routing import Map

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks

USERS: Mapping[str, bytes] = {"ci": hashed("secret"), "ann": hashed("word")}
TOKEN, SAN = "t0ken", "ci.example"

#: Addresses of this machine; with real sockets, clients connect from them.
NEAR, FAR = "127.0.0.1", "127.0.0.2"
NETWORK = Networks.parse([NEAR])


@frozen(kw_only=True)
class Kind:
    """A kind of client.

    :param rule: whom the only rule is for.
    :param authorization: what the client sends.
    :param fits: whether the rule is for this client; a certificate needs TLS.
    :param wrong: what it sends is no valid credential.
    :param could_fit: whether the rule would be for it, if it had sent a credential.
    """

    rule: Mapping[str, Any]
    address: str = NEAR
    authorization: bytes | None = None
    has_certificate: bool = False
    fits: bool = False
    wrong: bool = False
    could_fit: bool = False


_USER, _WRONG = basic("ci", "secret"), basic("ci", "wrong")
_USER_THERE = {"user": "ci", "network": NETWORK}

KINDS: Mapping[str, Kind] = {
    "nobody": Kind(rule={"user": "ci"}, could_fit=True),
    "nobody, where a token is needed": Kind(rule={"token_sha256": token_hash(TOKEN)}, could_fit=True),
    "wrong password": Kind(rule={"user": "ci"}, authorization=_WRONG, wrong=True),
    "wrong password, where none is needed": Kind(rule={"network": NETWORK}, authorization=_WRONG, wrong=True),
    "unknown user": Kind(rule={"user": "ci"}, authorization=basic("bob", "secret"), wrong=True),
    "unknown token": Kind(rule={"network": NETWORK}, authorization=bearer("guess"), wrong=True),
    "malformed": Kind(rule={"network": NETWORK}, authorization=b"Basic secret", wrong=True),
    "user": Kind(rule={"user": "ci"}, authorization=_USER, fits=True),
    "another user": Kind(rule={"user": "ci"}, authorization=basic("ann", "word")),
    "token": Kind(rule={"token_sha256": token_hash(TOKEN)}, authorization=bearer(TOKEN), fits=True),
    "certificate": Kind(rule={"san": SAN}, has_certificate=True, fits=True),
    "no certificate": Kind(rule={"san": SAN}),
    "network": Kind(rule={"network": NETWORK}, fits=True),
    "another network": Kind(rule={"network": NETWORK}, address=FAR),
    "user in a network": Kind(rule=_USER_THERE, authorization=_USER, fits=True),
    "user elsewhere": Kind(rule=_USER_THERE, address=FAR, authorization=_USER),
    "nobody in a network": Kind(rule=_USER_THERE, could_fit=True),
    "nobody elsewhere": Kind(rule=_USER_THERE, address=FAR),
}

#: None: there is no rule at all.
ROLES: tuple[Role | None, ...] = (*Role, None)


def _set(roles: Iterable[Role]) -> frozenset[Role]:
    return frozenset(roles)


@frozen(kw_only=True)
class Route:
    """A route of the daemon.

    :param roles: what a client needs, one of them; none: everybody may use it.
    :param status: the answer to those who may.
    :param by_url: the URL is a credential of its own: no client is turned away for the lack of a role.
    """

    path: str
    roles: frozenset[Role] = field(converter=_set)
    body: bytes = b""
    status: int = 200
    by_url: bool = False


_READERS = (Role.SCRAPE, Role.LOOK)

#: By the names of the functions. A new route has to be added here, with what a client needs for it.
ROUTES: Mapping[str, Route] = {
    "event": Route(path="/event?type=deploy", roles=[Role.EMIT]),
    "events": Route(path="/events", body=b"type=deploy", roles=[Role.EMIT]),
    "hook": Route(path="/hook/lines", body=b"type=deploy", roles=[Role.EMIT]),
    "hook_handshake": Route(path="/hook/asks", roles=[Role.EMIT]),
    "annotate": Route(path="/api/annotations", body=b'{"text": "x"}', roles=[Role.EMIT]),
    "annotate_graphite": Route(path="/api/annotations/graphite", body=b'{"what": "x"}', roles=[Role.EMIT]),
    "graphite_events": Route(path="/events/", body=b'{"what": "x"}', roles=[Role.EMIT]),
    "annotations": Route(path="/api/annotations", roles=_READERS),
    "annotation_by_number": Route(path="/api/annotations/7", roles=[Role.EMIT], status=405),
    # There is no such check, and no rule names one.
    "ping": Route(
        path="/ping/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278", roles=[Role.EMIT], status=404, by_url=True
    ),
    "telemetry": Route(path="/p/0123456789abcdef/job", roles=[Role.EMIT], status=404, by_url=True),
    "try_hook": Route(path="/api/v1/try-hook/build", body=b"{}", roles=[Role.ADMIN]),
    "metrics": Route(path="/metrics", roles=[Role.SCRAPE]),
    "daemon_metrics": Route(path="/metrics/daemon", roles=_READERS),
    "front": Route(path="/", roles=_READERS),
    "live": Route(path="/live", roles=_READERS),
    "asset": Route(path="/assets/page.css", roles=_READERS),
    "held_events": Route(path="/api/v1/events", roles=_READERS),
    "known_scrapers": Route(path="/api/v1/scrapers", roles=_READERS),
    "backup": Route(path="/api/v1/backup", roles=[Role.ADMIN]),
    "healthz": Route(path="/healthz", roles=[]),
    "readyz": Route(path="/readyz", roles=[]),
}

#: What is no route of its own.
FURTHER: Mapping[str, Route] = {
    "a look": Route(path="/metrics?look", roles=_READERS),
    "a path that is no route": Route(path="/nothing", roles=Role, status=404),
}


@frozen(kw_only=True)
class Case:
    """A request of a client, and the status of its answer."""

    kind: Kind
    method: str
    route: Route
    status: int

    def __str__(self) -> str:
        return f"{self.method} {self.route.path}"


def rules(kind: Kind, role: Role | None) -> list[Rule]:
    """Return the access file for a kind of client and a role."""
    return [] if role is None else [Rule(number=1, role=role, **kind.rule)]


def requests(url_map: Map) -> Iterator[tuple[str, Route]]:
    """Return each method and route; KeyError: `ROUTES` does not have it."""
    for found in url_map.iter_rules():
        methods = found.methods or {"POST"}
        yield from ((method, ROUTES[found.endpoint]) for method in sorted(methods))
    yield from (("GET", route) for route in FURTHER.values())


def cases(url_map: Map, kind: Kind, role: Role | None, *, is_tls: bool) -> Iterator[Case]:
    """Return all requests of a kind of client, where its only rule grants a role."""
    for method, route in requests(url_map):
        yield Case(kind=kind, method=method, route=route, status=_status(kind, role, method, route, is_tls))


def _status(kind: Kind, role: Role | None, method: str, route: Route, is_tls: bool) -> int:
    if not route.roles:
        return route.status
    if kind.wrong or (role is None and kind is KINDS["token"]):  # a token is valid if a rule has it
        return 401
    if route.by_url:
        return route.status
    needed = route.roles
    if route is ROUTES["metrics"] and method == "HEAD":  # a look
        needed = needed | {Role.LOOK}
    fits = kind.fits and (is_tls or not kind.has_certificate)
    if role in needed and fits:
        return route.status
    # A look would be possible with a credential, so a scrape that may become one is told so.
    helpful = needed | {Role.LOOK} if route is ROUTES["metrics"] else needed
    return 401 if role in helpful and kind.could_fit else 403

"""With users and rules, each request is answered the same, and has the same effect, with the fast path."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from support.credentials import basic, bearer, hashed, token_hash
from support.fastpath_requests import mutant, post
from support.locked_site import FAR, NEAR, LockedLine, LockedSite
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks

USERS = {"ci": hashed("secret")}
RIGHT, WRONG = basic("ci", "secret"), basic("ci", "wrong")
TOKEN, OTHER, LABELLED, STRANGE = bearer("t0ken"), bearer("0ther"), bearer("labelled"), bearer("strange")


def emit(number: int, **more: Any) -> Rule:
    return Rule(number=number, role=Role.EMIT, **more)


RULES = [
    emit(1, token_sha256=token_hash("t0ken")),
    emit(2, token_sha256=token_hash("0ther"), events_per_second=3.0),
    emit(3, token_sha256=token_hash("labelled"), labels={"team": "shop"}),
    emit(4, user="ci"),
    emit(5, san="shop.example"),
    emit(6, network=Networks.parse(["203.0.113.0/24"])),
]


def event(authorization: bytes | None = None, *more: str, query: str = "a=1") -> bytes:
    lines = [] if authorization is None else [f"Authorization: {authorization.decode()}"]
    return post(query, *lines, *more)


@define
class Both:
    """Two sites with the same rules, with the fast path and without, that get the same."""

    rules: Sequence[Rule] | None = field(factory=lambda: RULES)
    users: dict[str, bytes] = field(factory=lambda: USERS)
    quick: LockedSite = field(init=False)
    plain: LockedSite = field(init=False)
    lines: dict[tuple[str, tuple[str, ...] | None], tuple[LockedLine, LockedLine]] = field(factory=dict)

    _past: int = 0  # events that it has taken on connections which have ended

    def __attrs_post_init__(self) -> None:
        self.quick = LockedSite(True, rules=self.rules, users=self.users)
        self.plain = LockedSite(False, rules=self.rules, users=self.users)

    def ask(self, *pieces: bytes, address: str = NEAR, sans: tuple[str, ...] | None = None) -> list[int]:
        """Send these on the connection of this address and certificate; return the answers' statuses."""
        where = address, sans
        if where not in self.lines:
            self.lines[where] = (LockedLine(self.quick, *where), LockedLine(self.plain, *where))
        first, second = self.lines[where]
        answer = first.send(*pieces)
        assert answer == second.send(*pieces)
        assert self.quick.stored == self.plain.stored
        assert self.quick.telemetry.refusals == self.plain.telemetry.refusals
        assert first.transport.disconnecting == second.transport.disconnecting
        if first.transport.disconnecting:
            self._lose(where)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)]

    def hang_up(self) -> None:
        """End all connections."""
        for where in list(self.lines):
            self._lose(where)

    def _lose(self, where: tuple[str, tuple[str, ...] | None]) -> None:
        first, second = self.lines.pop(where)
        self._past += first.short
        for line in (first, second):
            line.channel.connectionLost(Failure(ConnectionDone()))

    def replace(self, rules: Sequence[Rule] | None) -> None:
        for site in (self.quick, self.plain):
            site.replace(rules)

    def advance(self, seconds: float) -> None:
        for site in (self.quick, self.plain):
            site.clock.advance(seconds)

    @property
    def short(self) -> int:
        """How many events the fast path has taken."""
        return self._past + sum(first.short for first, _ in self.lines.values())


def test_blocks_that_differ_only_in_their_token() -> None:
    """A stranger that copies the request of a client, but for its token, would be let in with it."""
    both = Both()
    sent = {TOKEN: 200, STRANGE: 401, OTHER: 200, bearer("t0keN"): 401, bearer("t0ke"): 401, None: 401}
    for _ in range(3):
        for authorization, status in sent.items():
            assert both.ask(event(authorization)) == [status]
        both.advance(2)
    assert both.short == 6


def test_requests_that_differ_only_in_the_address() -> None:
    """A network in a rule would be open to all as soon as one client of it has been here."""
    both = Both()
    for _ in range(2):
        assert both.ask(event(), address="203.0.113.9") == [200]
        assert both.ask(event(), address=FAR) == [401]
        assert both.ask(event(), address="203.0.113.10") == [200]
    assert both.short == 4


def test_requests_that_differ_only_in_the_certificate() -> None:
    """The holder of any certificate would be let in after the holder of the right one."""
    both = Both()
    for _ in range(2):
        assert both.ask(event(), sans=("shop.example",)) == [200]
        assert both.ask(event(), sans=("other.example",)) == [401]
        assert both.ask(event(), sans=()) == [401]
        assert both.ask(event(), sans=None) == [401]
    assert both.short == 2


def test_a_password_is_verified_by_the_routes_and_then_known() -> None:
    """The reactor would wait for bcrypt; or a user would stay on the slow way."""
    both = Both()
    assert both.ask(event(WRONG)) == [401]
    assert both.ask(event(RIGHT)) == [200]
    assert both.short == 0
    assert both.ask(event(RIGHT)) == [200]
    assert both.short == 1
    assert both.ask(event(WRONG)) == [401]


def test_the_policy_is_replaced_between_two_requests_of_a_connection() -> None:
    """A token that is taken away would be good until its client hangs up."""
    both = Both()
    assert both.ask(event(TOKEN)) == [200]
    both.replace(RULES[1:])
    assert both.ask(event(TOKEN)) == [401]
    both.replace([emit(1, token_sha256=token_hash("t0ken"), labels={"team": "web"})])
    assert both.ask(event(TOKEN)) == [200]
    assert both.quick.stored[-1] == 'events_to_metrics{a="1",team="web"}'
    both.replace(RULES)
    assert both.ask(event(TOKEN)) == [200]
    assert both.short == 2


def test_labels_of_a_rule_are_put_on_each_event() -> None:
    """They would be left out if the fast path took the event."""
    both = Both()
    assert both.ask(event(LABELLED) * 2) == [200, 200]
    assert both.quick.stored == ['events_to_metrics{a="1",team="shop"}'] * 2


def test_pipelined_requests_with_several_tokens() -> None:
    """A proxy sends the requests of several clients on one connection."""
    both = Both()
    several = [TOKEN, TOKEN, OTHER, LABELLED, TOKEN, STRANGE, TOKEN]
    statuses = both.ask(b"".join(event(each, query=f"n={n}") for n, each in enumerate(several)))
    assert statuses == [200, 200, 200, 200, 200, 401, 200]
    assert both.quick.stored[3] == 'events_to_metrics{n="3",team="shop"}'
    assert both.short >= 3


def test_beyond_its_rate_a_client_is_refused_and_told_when_to_try_again() -> None:
    """A client of the fast path would have no limit, or be refused without a reason."""
    both = Both()
    for _ in range(3):
        assert both.ask(event(OTHER)) == [200]
    assert both.ask(event(OTHER)) == [429]
    both.advance(0.4)
    assert both.ask(event(OTHER)) == [200]
    assert both.ask(event(OTHER)) == [429]
    assert both.short == 4
    assert both.quick.bounds.report()[1].accepted == both.plain.bounds.report()[1].accepted == 4


def test_pipelined_requests_beyond_the_rate_are_refused_one_by_one() -> None:
    """A client that sends ahead would send more than its rate allows, or nothing of it."""
    both = Both()
    assert both.ask(event(OTHER) * 5) == [200, 200, 200, 429, 429]
    both.advance(0.7)
    assert both.ask(event(OTHER) * 3) == [200, 200, 429]


@pytest.mark.parametrize("room", [True, False])
def test_what_the_store_refuses_is_given_back_to_the_rate(room: bool) -> None:
    """A client would be refused for events that it could not send because the disk was full."""
    site = LockedSite(True, rules=RULES)
    line = LockedLine(site)
    if room:
        line.channel.dataReceived(event(OTHER))
        line.commit(stored=False)
    else:
        site.ingest.room = False
        line.channel.dataReceived(event(OTHER))
    site.ingest.room = True
    assert line.send(event(OTHER), event(OTHER)).count(b" 200 OK") == 3  # with the first
    assert site.bounds.report()[1].accepted == 3
    assert b" 429 " in line.send(event(OTHER))


def test_with_users_alone() -> None:
    """Without an access file each user may do all."""
    both = Both(rules=None)
    assert both.ask(event(RIGHT), event(RIGHT)) == [200, 200]
    assert both.ask(event(), event(WRONG), event(TOKEN)) == [401, 401, 401]
    assert both.short == 1


def test_the_fast_path_is_taken_away_from_open_connections() -> None:
    """Headers or a rate limit that are new in the configuration would not hold for connections that stay."""
    site = LockedSite(True, rules=RULES)
    line = LockedLine(site)
    assert b" 200 OK" in line.send(event(TOKEN))
    line.channel.dataReceived(event(TOKEN))
    matcher, site.site.matcher = site.site.matcher, None
    assert b" 200 OK" in line.send(b"")  # what has been taken is answered
    assert b" 200 OK" in line.send(event(TOKEN))
    assert line.short == 2
    site.site.matcher = matcher
    assert b" 200 OK" in line.send(event(TOKEN))
    assert line.short == 3


def test_thousands_of_requests_with_something_wrong_in_them() -> None:
    """A credential that is cut off, repeated or hidden in another header would count for one."""
    rng = random.Random(20261128)
    both = Both()
    whole = [event(each) for each in (TOKEN, OTHER, LABELLED, RIGHT, STRANGE, None)]
    whole += [event(TOKEN, "Connection: close"), event(TOKEN, f"Authorization: {STRANGE.decode()}")]
    granted = 0
    for number in range(2000):
        granted += both.ask(mutant(rng, *whole) + rng.choice([b"", *whole]), query_end(number)).count(200)
        both.hang_up()
        both.advance(0.3)
    assert granted > 1000
    assert 300 < both.short < granted


def query_end(number: int) -> bytes:
    """Return what ends a request that has no end yet, and begins another one."""
    return b"\r\n\r\n" if number % 2 else event(STRANGE)


_CREDENTIALS = st.sampled_from([None, TOKEN, TOKEN, OTHER, LABELLED, STRANGE, RIGHT, WRONG])
_WHERE = st.sampled_from(
    [(NEAR, None), (FAR, None), ("203.0.113.9", None), (NEAR, ("shop.example",)), (NEAR, ("other.example",))]
)
_REQUESTS = st.lists(
    st.builds(event, _CREDENTIALS, query=st.sampled_from(["a=1", "b=2", "a=%31", ""])), min_size=1, max_size=4
)
_POLICIES = st.one_of(st.none(), st.lists(st.sampled_from(RULES), unique_by=lambda rule: rule.number))


@given(st.lists(st.one_of(st.tuples(_WHERE, _REQUESTS), _POLICIES, st.floats(0, 2)), max_size=20))
def test_any_clients_in_any_order_are_answered_the_same(steps: list[Any]) -> None:
    """What one client may do would depend on who was here before."""
    both = Both(users={})
    for step in steps:
        if isinstance(step, tuple):
            (address, sans), requests = step
            both.ask(b"".join(requests), address=address, sans=sans)
        elif isinstance(step, float):
            both.advance(step)
        else:
            both.replace(step)

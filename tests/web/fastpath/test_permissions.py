"""The fast path and the policy: an event is taken only for a client that may send it, whoever came before.

The routes decide about all other requests, and have tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, cast

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from support.fastpath_requests import TakingIngest, post
from twisted.internet.task import Clock

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.web.fastpath.blocks import MAX_BLOCKS, MAX_RULES, NO_SANS, Caller, without_users
from oneshotd.web.fastpath.requests import RequestMatcher

NEAR: Caller = ("192.0.2.7", NO_SANS)
FAR: Caller = ("198.51.100.7", NO_SANS)
MAPPED: Caller = ("::ffff:192.0.2.7", NO_SANS)
SHOP: Caller = ("192.0.2.7", frozenset({"shop.example"}))
OTHER_SHOP: Caller = ("192.0.2.7", frozenset({"other.example"}))


def emit(number: int, **more: Any) -> Rule:
    return Rule(number=number, role=Role.EMIT, **more)


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


@define
class Gate:
    """A matcher with a policy, and with users whose passwords are verified or not yet."""

    policy: AccessPolicy = field(factory=AccessPolicy)
    verified: dict[bytes, str] = field(factory=dict)
    rate: dict[int, int] = field(factory=dict)
    taken: list[tuple[int, int]] = field(factory=list)
    asked: int = 0
    matcher: RequestMatcher = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.matcher = RequestMatcher(
            cast(Any, TakingIngest(clock=Clock())), Rules(), self.policy, known=self.known, bounds=self
        )

    def rules(self, *rules: Rule) -> Gate:
        self.policy.update(rules=rules, has_users=True)
        return self

    def known(self, authorization: bytes | None, address: str, sans: frozenset[str]) -> Client | None:
        self.asked += 1
        if authorization is None:
            return Client(address=address, sans=sans)
        if authorization.startswith(b"Bearer "):
            return Client(address=address, sans=sans, token=sha256(authorization[7:]).hexdigest())
        user = self.verified.get(authorization)
        return None if user is None else Client(address=address, sans=sans, user=user)

    def take(self, rule: Rule | None, count: int) -> bool:
        assert rule is not None
        left = self.rate.get(rule.number, 10**9) - count
        if left < 0:
            return False
        self.rate[rule.number] = left
        self.taken.append((rule.number, count))
        return True

    def give_back(self, rule: Rule | None, count: int) -> None:
        assert rule is not None
        self.rate[rule.number] += count

    def takes(self, data: bytes, caller: Caller = NEAR) -> int:
        """How many of the requests are taken."""
        series, end, _, rule = self.matcher.recognize(data, caller)
        assert bool(series) == bool(end) == (rule is not None or self.policy.is_open)
        return len(series)


def bearer(token: str, *more: str) -> bytes:
    return post("a=1", f"Authorization: Bearer {token}", *more)


PLAIN = post("a=1")
TOKEN = emit(1, token_sha256=digest("s3cret"))


@pytest.mark.parametrize(
    ("rule", "data", "caller", "is_taken"),
    [
        (TOKEN, bearer("s3cret"), NEAR, True),
        (TOKEN, bearer("s3cret"), FAR, True),
        (TOKEN, bearer("s3creT"), NEAR, False),
        (TOKEN, bearer("s3cret "), NEAR, True),  # as the routes have it
        (TOKEN, bearer(""), NEAR, False),
        (TOKEN, post("a=1", "Authorization: bearer s3cret"), NEAR, False),
        (TOKEN, post("a=1", "Authorization: Basic czNjcmV0"), NEAR, False),
        (TOKEN, post("a=1", "Authorization: s3cret"), NEAR, False),
        (TOKEN, bearer("s3cret", "Authorization: Bearer s3cret"), NEAR, False),
        (TOKEN, bearer("wrong", "Authorization: Bearer s3cret"), NEAR, False),
        (TOKEN, bearer("s3cret", "X-Forwarded-For: 192.0.2.8"), NEAR, False),
        (TOKEN, PLAIN, NEAR, False),
        (emit(1, network=Networks.parse(["192.0.2.0/24"])), PLAIN, NEAR, True),
        (emit(1, network=Networks.parse(["192.0.2.0/24"])), PLAIN, MAPPED, True),
        (emit(1, network=Networks.parse(["192.0.2.0/24"])), PLAIN, FAR, False),
        (emit(1, network=Networks.parse(["192.0.2.0/24"])), bearer("of another daemon"), NEAR, False),
        (emit(1, san="shop.example"), PLAIN, SHOP, True),
        (emit(1, san="shop.example"), PLAIN, OTHER_SHOP, False),
        (emit(1, san="shop.example"), PLAIN, NEAR, False),
        (emit(1, token_sha256=digest("s3cret"), san="shop.example"), bearer("s3cret"), SHOP, True),
        (emit(1, token_sha256=digest("s3cret"), san="shop.example"), bearer("s3cret"), OTHER_SHOP, False),
        (emit(1, user="ci"), post("a=1", "Authorization: Basic dmVyaWZpZWQ="), NEAR, True),
        (emit(1, user="ci"), post("a=1", "Authorization: Basic bmV3"), NEAR, False),
        (emit(1, user="web"), post("a=1", "Authorization: Basic dmVyaWZpZWQ="), NEAR, False),
        (emit(1, token_sha256=digest("s3cret"), labels={"team": "shop"}), bearer("s3cret"), NEAR, False),
        (emit(1, token_sha256=digest("s3cret"), metrics=("a*",)), bearer("s3cret"), NEAR, False),
        (emit(1, token_sha256=digest("s3cret"), types=("x",)), bearer("s3cret"), NEAR, False),
        (emit(1, token_sha256=digest("s3cret"), series_per_day=9), bearer("s3cret"), NEAR, False),
        (emit(1, token_sha256=digest("s3cret"), events_per_second=9.0), bearer("s3cret"), NEAR, True),
        (Rule(number=1, role=Role.SCRAPE, token_sha256=digest("s3cret")), bearer("s3cret"), NEAR, False),
        (Rule(number=1, role=Role.ADMIN, token_sha256=digest("s3cret")), bearer("s3cret"), NEAR, False),
    ],
)
def test_an_event_is_taken_only_under_a_rule_that_leaves_it_as_it_is(
    rule: Rule, data: bytes, caller: Caller, is_taken: bool
) -> None:
    """A stranger's event would be stored, or one without the labels that are forced onto it."""
    gate = Gate(verified={b"Basic dmVyaWZpZWQ=": "ci"}).rules(rule)
    for _ in range(3):
        assert gate.takes(data, caller) == is_taken


def test_with_users_alone_only_a_user_is_taken() -> None:
    """The users' file without an access file lets each user do all, and nobody else anything."""
    gate = Gate(verified={b"Basic dmVyaWZpZWQ=": "ci"})
    gate.policy.update(rules=None, has_users=True)
    assert gate.takes(post("a=1", "Authorization: Basic dmVyaWZpZWQ=")) == 1
    assert gate.takes(post("a=1", "Authorization: Basic bmV3")) == 0
    assert gate.takes(bearer("s3cret")) == 0
    assert gate.takes(PLAIN) == 0


def test_the_option_allow_emit_holds_as_well() -> None:
    """A token that leaked would be good from everywhere."""
    gate = Gate(AccessPolicy(emit=Networks.parse(["192.0.2.0/24"]))).rules(TOKEN)
    assert gate.takes(bearer("s3cret"), NEAR) == 1
    assert gate.takes(bearer("s3cret"), FAR) == 0
    assert not gate.matcher.admits(FAR[0])


def test_a_credential_that_the_routes_have_verified_is_taken_from_then_on() -> None:
    """A user would stay on the slow way for ever, because the first request was."""
    gate = Gate().rules(emit(1, user="ci"))
    data = post("a=1", "Authorization: Basic bmV3")
    assert gate.takes(data) == 0
    gate.verified[b"Basic bmV3"] = "ci"
    assert gate.takes(data) == 1
    asked = gate.asked
    assert gate.takes(data) == 1
    assert gate.asked == asked  # the rule is remembered


def test_a_new_policy_holds_for_the_next_request_of_an_open_connection() -> None:
    """A token that was taken away would be good until its client hangs up, which may be never."""
    gate = Gate()
    data = bearer("s3cret")
    for rules, is_taken in (
        ((TOKEN,), True),
        ((), False),
        ((TOKEN,), True),
        (None, True),
        ((emit(1, token_sha256=digest("other")),), False),
        ((emit(1), TOKEN), False),  # the first rule that fits decides, and asks for no token
    ):
        gate.policy.update(rules=rules, has_users=False)
        assert gate.takes(data) == is_taken
        assert gate.takes(data) == is_taken


def test_without_files_nothing_is_asked() -> None:
    """An open daemon would pay for locks that it does not have."""
    gate = Gate()
    for data in (PLAIN, bearer("s3cret"), PLAIN * 3):
        assert gate.takes(data) > 0
        assert gate.takes(data, FAR) > 0
    assert gate.asked == 0
    assert gate.taken == []


def test_the_rate_of_a_rule_is_asked_for_each_batch() -> None:
    """What is remembered would let a client send without a limit."""
    gate = Gate(rate={1: 5}).rules(TOKEN, emit(2, token_sha256=digest("other")))
    assert gate.takes(bearer("s3cret")) == 1
    assert gate.takes(bearer("s3cret")) == 1
    assert gate.takes(bearer("s3cret") * 4) == 0
    assert gate.takes(bearer("s3cret") * 3) == 3
    assert gate.takes(bearer("s3cret")) == 0
    assert gate.takes(bearer("other")) == 1
    assert gate.taken == [(1, 1), (1, 1), (1, 3), (2, 1)]


def test_pipelined_requests_of_several_tokens_are_taken_rule_by_rule() -> None:
    """The second client of a proxy would send under the first one's rule, and at its rate."""
    gate = Gate().rules(TOKEN, emit(2, token_sha256=digest("other")))
    several = bearer("s3cret") * 2 + bearer("other") + bearer("wrong") + bearer("s3cret")
    assert gate.takes(several) == 2
    several = several[2 * len(bearer("s3cret")) :]
    assert gate.takes(several) == 1
    several = several[len(bearer("other")) :]
    assert gate.takes(several) == 0
    assert gate.taken == [(1, 2), (2, 1)]


def _each(gate: Gate, requests: Iterable[tuple[bytes, Caller]]) -> list[bool]:
    return [found is not None for found in gate.matcher.recognize_each(list(requests))]


def test_connections_of_one_turn_are_each_judged_by_their_address() -> None:
    """Connections that arrive together are compared together, and may come from everywhere."""
    gate = Gate().rules(emit(1, network=Networks.parse(["192.0.2.0/24"])))
    data = post("a=1", "Connection: close")
    assert _each(gate, [(data, NEAR)]) == [True]
    for _ in range(150):  # until requests like these are compared by one expression
        assert _each(gate, [(data, NEAR), (data, FAR), (data, MAPPED)]) == [True, False, True]
    assert _each(gate, [(data, NEAR)] * 5) == [True] * 5
    assert gate.taken[-1] == (1, 5)
    assert gate.taken[-2] == (1, 1)


def test_connections_of_one_turn_count_for_their_own_rules() -> None:
    """Clients of one network would use up the rate of another one."""
    near, far = Networks.parse(["192.0.2.0/24"]), Networks.parse(["198.51.100.0/24"])
    gate = Gate().rules(emit(1, network=near), emit(2, network=far))
    data = post("a=1", "Connection: close")
    for _ in range(150):
        assert _each(gate, [(data, NEAR)]) == [True]
    gate.taken.clear()
    assert _each(gate, [(data, NEAR), (data, FAR), (data, NEAR)]) == [True] * 3
    assert sorted(gate.taken) == [(1, 1), (1, 1), (2, 1)]


def test_connections_of_one_turn_are_within_the_rate_together() -> None:
    """A client that opens a connection for each event would have no limit."""
    gate = Gate(rate={1: 203}).rules(TOKEN)
    data = bearer("s3cret", "Connection: close")
    for _ in range(200):
        assert _each(gate, [(data, NEAR)]) == [True]
    assert _each(gate, [(data, NEAR)] * 5) == [True] * 3 + [False] * 2
    assert gate.rate[1] == 0


def test_a_request_that_goes_to_a_channel_is_counted_there() -> None:
    """A kept connection's first event would count twice against the rate."""
    gate = Gate().rules(TOKEN)
    for data in (bearer("s3cret"), bearer("s3cret") * 2, bearer("s3cret", "Connection: close") + b"x"):
        assert _each(gate, [(data, NEAR)]) == [False]
        assert _each(gate, [(data, NEAR)] * 3) == [False] * 3
    assert gate.taken == []


def test_without_an_authenticator_a_credential_is_for_the_routes() -> None:
    """A matcher that is made without one would take any token for none."""
    assert without_users(None, "192.0.2.7", NO_SANS) == Client(address="192.0.2.7")
    assert without_users(b"Bearer s3cret", "192.0.2.7", NO_SANS) is None


def test_addresses_and_headers_without_end_take_no_memory() -> None:
    """A client with one good token may invent headers, and one with IPv6 has addresses without end."""
    gate = Gate().rules(TOKEN)
    blocks = gate.matcher._blocks
    for number in range(MAX_RULES + 10):
        assert gate.takes(bearer("s3cret"), (f"2001:db8::{number:x}", NO_SANS)) == 1
        assert len(blocks._rules) <= MAX_RULES
    for number in range(2 * MAX_BLOCKS):
        assert gate.takes(bearer("s3cret", f"User-Agent: {number}")) == 1
    assert len(blocks._blocks) <= MAX_BLOCKS
    assert len(blocks._rules) <= MAX_RULES


_TOKENS = st.sampled_from(["s3cret", "other", "wrong", None])
_CALLERS = st.sampled_from([NEAR, FAR, MAPPED, SHOP, OTHER_SHOP])
_ENDS = st.sampled_from([("Connection: close",), ()])
_POLICIES = st.one_of(
    st.none(),
    st.lists(
        st.builds(
            lambda **bounds: {key: value for key, value in bounds.items() if value is not None},
            token_sha256=st.sampled_from([None, digest("s3cret"), digest("other")]),
            network=st.sampled_from([None, Networks.parse(["192.0.2.0/24"])]),
            san=st.sampled_from([None, "shop.example"]),
            labels=st.sampled_from([None, None, {"team": "shop"}]),
        ),
        max_size=4,
    ).map(lambda several: [emit(number, **bounds) for number, bounds in enumerate(several, 1)]),
)
_STEPS = st.lists(
    st.one_of(_POLICIES.map(lambda rules: (rules,)), st.tuples(_TOKENS, _CALLERS, _ENDS)), max_size=30
)


@given(_STEPS)
def test_what_is_remembered_never_decides_for_another(steps: list[tuple[Any, ...]]) -> None:
    """Whatever came before, a request is taken exactly if a matcher that knows nothing would take it."""
    gate = Gate()
    for step in steps:
        if len(step) == 1:
            gate.policy.update(rules=step[0], has_users=False)
            continue
        token, caller, end = step
        data = post("a=1", *end) if token is None else bearer(token, *end)
        fresh = Gate(gate.policy)
        assert gate.takes(data, caller) == fresh.takes(data, caller)
        assert gate.taken[-1:] == fresh.taken[-1:] or not fresh.taken
        assert _each(gate, [(data, caller)] * 2) == _each(fresh, [(data, caller)] * 2)

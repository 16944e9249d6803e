"""Who a client is: users with bcrypt hashes, and bearer tokens."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import define, field
from support.credentials import COST, basic, bearer, hashed, token_hash
from support.threads import Threads
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.access import users as users_module
from oneshotd.access.check_queue import MAX_WAITING_OF_ADDRESS
from oneshotd.access.credentials import Password
from oneshotd.access.failed_attempts import BURST, SECONDS_PER_ATTEMPT
from oneshotd.access.passwords import Authenticator
from oneshotd.access.rules import Client
from oneshotd.access.users import BCRYPT_BYTES, Users, matches
from oneshotd.errors import ConfigError, Refused

USERS = {"ci": hashed("secret"), "ann": hashed("word")}
CI = Client(address="192.0.2.7", user="ci")


@define(eq=False)
class Bench:
    """An authenticator with threads that work when a test says so."""

    users: Mapping[str, bytes] = field(factory=lambda: dict(USERS))
    tokens: tuple[str, ...] = ()
    clock: Clock = field(factory=Clock)
    threads: Threads = field(factory=Threads)
    authenticator: Authenticator = field(init=False)

    def __attrs_post_init__(self) -> None:
        hashes = {token_hash(token) for token in self.tokens}
        self.authenticator = Authenticator(
            self.users, self.threads, self.clock, has_token=hashes.__contains__
        )

    def begin(self, *headers: bytes, address: str = "192.0.2.7") -> Deferred[Client]:
        return Deferred.fromCoroutine(self.authenticator.identify(headers, address))

    def ask(self, *headers: bytes, address: str = "192.0.2.7") -> Client | Refused:
        """Return the client, or why it is refused; do all work that is there."""
        asked = self.begin(*headers, address=address)
        self.threads.work_all()
        found: Client | Refused = outcome(asked)
        return found

    def known(self, header: bytes | None) -> Client | None:
        return self.authenticator.known(header, "192.0.2.7")


def outcome(asked: Deferred[Client]) -> Any:
    """Return the result of an answered request for a client."""
    found: list[Client | Failure] = []
    asked.addBoth(found.append)
    assert found, "no answer yet"
    return found[0].value if isinstance(found[0], Failure) else found[0]


def status(found: Client | Refused) -> int:
    return found.status if isinstance(found, Refused) else 200


def test_a_user_is_known_by_its_password() -> None:
    """Users would be locked out, or anybody let in."""
    bench = Bench()
    assert bench.ask(basic("ci", "secret")) == CI
    for wrong in (basic("ci", "word"), basic("ann", "secret"), basic("bob", "secret"), basic("ci", "")):
        assert status(bench.ask(wrong)) == 401
    assert bench.ask() == Client(address="192.0.2.7")


def test_a_refusal_tells_no_secret_and_no_user() -> None:
    """A guesser would learn which users there are."""
    bench = Bench()
    one, other = bench.ask(basic("ci", "wrong")), bench.ask(basic("bob", "wrong"))
    assert isinstance(one, Refused) and isinstance(other, Refused)
    assert one.text == other.text == "Authorization: user or password is wrong"


def test_certificate_names_stay_with_the_client() -> None:
    """A rule for a user with a certificate would never fit."""
    bench, sans = Bench(tokens=("t",)), frozenset(["ci.example"])
    for header in (None, bearer("t")):
        client = bench.authenticator.known(header, "::1", sans)
        assert client is not None and client.sans == sans and client.address == "::1"
    asked = Deferred.fromCoroutine(bench.authenticator.identify([basic("ci", "secret")], "::1", sans))
    bench.threads.work_all()
    assert outcome(asked).sans == sans


def test_a_right_password_is_checked_once() -> None:
    """Each scrape would cost a comparison, and wait behind those of guessers."""
    bench = Bench()
    assert bench.known(basic("ci", "secret")) is None
    bench.ask(basic("ci", "secret"))
    assert bench.known(basic("ci", "secret")) == CI
    assert outcome(bench.begin(basic("ci", "secret"))) == CI
    assert not bench.threads.jobs


def test_what_is_remembered_is_the_whole_credential() -> None:
    """A client could choose a user and a password that together look like a known pair (CVE-2022-46146)."""
    bench = Bench(users={"ci": hashed("secret"), "cis": hashed("other"), "c": hashed("x")})
    bench.ask(basic("ci", "secret"))
    for user, password in (("cis", "ecret"), ("c", "isecret"), ("cisecret", ""), ("", "cisecret")):
        assert bench.known(basic(user, password)) is None
        assert status(bench.ask(basic(user, password))) == 401
    ci = Password(user="ci", password=b"secret")
    assert Users(USERS).key(ci) != Users(USERS).key(ci), "the key is of this process"


def test_requests_with_the_same_password_share_a_check() -> None:
    """A hundred clients that start together would each wait for the others' comparisons."""
    bench = Bench()
    asked = [bench.begin(basic("ci", "secret")) for _ in range(100)]
    assert bench.threads.work_all() == 1
    assert [outcome(each) for each in asked] == [CI] * 100


def test_a_known_client_is_answered_while_its_address_is_blocked() -> None:
    """A guesser on the same machine would stop the scraper."""
    bench = Bench(tokens=("t",))
    bench.ask(basic("ci", "secret"))
    statuses = [status(bench.ask(basic("ci", f"guess{number}"))) for number in range(BURST + 5)]
    assert statuses == [401] * BURST + [429] * 5
    assert bench.ask(basic("ci", "secret")) == CI
    assert status(bench.ask(bearer("t"))) == 200
    assert status(bench.ask(basic("ann", "word"))) == 429, "a right one that is not known could be a guess"
    assert bench.ask(basic("ann", "word"), address="192.0.2.8") == Client(address="192.0.2.8", user="ann")
    assert status(bench.ask(basic("ann", "word"))) == 429, "a guesser would learn what others have sent"


def test_guesses_that_arrive_together_are_counted_like_others() -> None:
    """A guesser would send a thousand guesses at once and pay for ten."""
    bench = Bench()
    asked = [bench.begin(basic("ci", f"guess{number}")) for number in range(MAX_WAITING_OF_ADDRESS + 1)]
    assert bench.threads.work_all() == BURST
    assert [status(outcome(each)) for each in asked] == [401] * BURST + [429] * (len(asked) - BURST)


def test_a_blocked_address_is_unblocked() -> None:
    """A person who mistyped would be locked out until the next restart."""
    bench = Bench()
    for number in range(BURST):
        bench.ask(basic("ci", f"guess{number}"))
    refused = bench.ask(basic("ci", "secret"))
    assert isinstance(refused, Refused) and refused.retry_after == SECONDS_PER_ATTEMPT
    bench.clock.advance(SECONDS_PER_ATTEMPT)
    assert bench.ask(basic("ci", "secret")) == CI


@pytest.mark.parametrize("header", [basic("ci", "old"), basic("nobody", "old"), bearer("old")])
def test_a_client_that_repeats_a_wrong_credential_makes_one_attempt(header: bytes) -> None:
    """A forgotten job with an old password would lock out all clients of its machine."""
    bench = Bench()
    statuses = {status(bench.ask(header)) for _ in range(10 * BURST)}
    assert statuses == {401}
    assert bench.ask(basic("ci", "secret")) == CI


def test_tokens_are_known_to_rules() -> None:
    """A client with a token would be refused, or one with any word let in."""
    bench = Bench(tokens=("t0ken",))
    assert bench.ask(bearer("t0ken")) == Client(address="192.0.2.7", token=token_hash("t0ken"))
    refused = bench.ask(bearer("t0keN"))
    assert isinstance(refused, Refused) and refused.text == "Authorization: the bearer token is wrong"
    assert bench.known(bearer("t0ken")) is not None and bench.known(bearer("t0keN")) is None
    assert not bench.threads.jobs


def test_guessed_tokens_are_failed_attempts() -> None:
    """A guesser would have attempts without end."""
    bench = Bench(tokens=("t",))
    statuses = [status(bench.ask(bearer(f"guess{number}"))) for number in range(BURST + 1)]
    assert statuses == [401] * BURST + [429]


def test_without_users_no_password_is_right_and_none_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon with tokens only would need bcrypt."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    bench = Bench(users={})
    begun = bench.begin(basic("ci", "secret"))
    assert not bench.threads.jobs and status(outcome(begun)) == 401
    assert not bench.authenticator.has_users


def test_users_without_bcrypt_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator would see a traceback, or each request would fail."""
    bench = Bench(users={})
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(ConfigError, match="pip install 'oneshotd\\[auth\\]'"):
        Bench()
    with pytest.raises(ConfigError):
        bench.authenticator.replace(USERS)
    assert not bench.authenticator.has_users


def test_a_malformed_header_is_no_attempt() -> None:
    """A client with a slip in its configuration would lock out the others of its machine."""
    bench = Bench()
    for _ in range(3 * BURST):
        assert status(bench.ask(b"Basic nonsense")) == 401
        assert bench.known(b"Basic nonsense") is None
    assert bench.ask(basic("ci", "secret")) == CI


def test_an_unknown_user_costs_what_a_known_one_costs() -> None:
    """A guesser would find out by the time which users there are."""
    users = Users({"cheap": hashed("a", COST), "dear": hashed("b", COST + 2)})
    costs = {users.hash_for(f"nobody{number}") for number in range(100)}
    assert costs == {users.hash_for("cheap"), users.hash_for("dear")}, "as the known ones have them"
    assert users.hash_for("nobody") == users.hash_for("nobody")


def test_the_password_of_a_decoy_lets_nobody_in() -> None:
    """An unknown user with the password of a known one would be taken for a user."""
    bench = Bench(users={"ci": hashed("secret")})
    assert status(bench.ask(basic("nobody", "secret"))) == 401
    assert bench.known(basic("nobody", "secret")) is None


def test_a_new_password_replaces_the_old_one() -> None:
    """A password that was withdrawn would go on working; users who keep theirs would have to wait."""
    bench = Bench()
    for header in (basic("ci", "secret"), basic("ann", "word")):
        bench.ask(header)
    bench.ask(basic("ci", "new"))
    bench.authenticator.replace({**USERS, "ci": hashed("new")})
    assert bench.known(basic("ci", "secret")) is None
    assert bench.known(basic("ann", "word")) is not None
    assert status(bench.ask(basic("ci", "secret"))) == 401
    assert bench.ask(basic("ci", "new")) == CI
    bench.authenticator.replace({"ci": USERS["ci"]})
    assert bench.known(basic("ann", "word")) is None
    assert status(bench.ask(basic("ann", "word"))) == 401


def test_a_check_that_runs_while_users_are_replaced_counts_for_the_new_ones() -> None:
    """A client with the old password would be let in after it was withdrawn."""
    bench = Bench()
    old, new = bench.begin(basic("ci", "secret")), bench.begin(basic("ci", "new"), address="::1")
    bench.threads.work()
    bench.authenticator.replace({"ci": hashed("new")})
    again = bench.begin(basic("ci", "secret"))
    assert outcome(old) == CI, "it was right when it was checked"
    bench.threads.work_all()
    assert outcome(new) == Client(address="::1", user="ci")
    assert status(outcome(again)) == 401
    late = bench.begin(basic("ci", "later"))
    bench.authenticator.replace({"ci": hashed("later")})
    bench.threads.work_all()
    assert outcome(late) == CI
    last = bench.begin(basic("ci", "none"))
    bench.authenticator.replace({})
    bench.threads.work_all()
    assert status(outcome(last)) == 401


def test_a_client_that_hangs_up_leaves_no_check() -> None:
    """Clients that hang up at once would fill the queue; or their guesses would not count."""
    bench = Bench()
    running = bench.begin(basic("ci", "guess"))
    waiting = [bench.begin(basic("ci", f"guess{number}")) for number in range(3)]
    for asked in (running, *waiting):
        asked.cancel()
        assert isinstance(outcome(asked), CancelledError)
    assert bench.threads.work_all() == 1
    assert status(outcome(bench.begin(basic("ci", "guess")))) == 401, "the guess that ran is remembered"
    assert bench.authenticator._checks == {}


def test_a_client_that_hangs_up_does_not_cancel_the_check_of_others() -> None:
    """One impatient client would make the others of its kind fail."""
    bench = Bench()
    blocker = bench.begin(basic("ann", "word"))
    asked = [bench.begin(basic("ci", "secret")) for _ in range(3)]
    asked[0].cancel()
    bench.threads.work_all()
    assert isinstance(outcome(asked[0]), CancelledError)
    assert [outcome(each) for each in asked[1:]] == [CI, CI]
    assert status(outcome(blocker)) == 200
    assert bench.authenticator._checks == {}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guesser would fill the memory."""
    monkeypatch.setattr(users_module, "MAX_WRONG", 50)
    monkeypatch.setattr(users_module, "MAX_RIGHT", 50)
    users = Users(USERS)
    for number in range(1000):
        users.remember_wrong(b"wrong%d" % number)
        users.remember_right(b"right%d" % number, "ci")
        assert users.remembered(b"right0") is True, "what is used is kept"
    assert users.remembered(b"wrong949") is None and users.remembered(b"wrong950") is False
    assert users.remembered(b"right950") is None and users.remembered(b"right951") is True


@pytest.mark.parametrize(
    ("password", "made"),
    [
        (b"U*U", b"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        (b"\xff\xff\xa3", b"$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e"),
        (b"\xff\xff\xa3", b"$2b$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e"),
    ],
)
def test_hashes_of_other_programs_are_understood(password: bytes, made: bytes) -> None:
    """A file that htpasswd (2y), PHP or an old library (2a) has made would let nobody in."""
    assert matches(password, made)
    assert not matches(password + b"x", made)


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
def test_each_spelling_of_a_hash_works(prefix: bytes) -> None:
    """A user whose hash htpasswd has made would be locked out."""
    assert matches(b"secret", hashed("secret", prefix=prefix))


def test_of_a_long_password_the_first_72_bytes_count() -> None:
    """A user with a long password, which other exporters take, would be locked out, or cause an error."""
    long = "s" * BCRYPT_BYTES
    made = hashed(long)
    assert matches(long.encode() + b"t", made) and matches(b"s" * 1000, made)
    assert not matches(long.encode()[:-1] + b"t", made)

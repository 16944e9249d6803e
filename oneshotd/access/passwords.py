"""Authenticates requests: users with bcrypt hashes, and bearer tokens.

A right password costs a check in a thread once; from then on it is answered from memory. So passwords that
are guessed delay no client that has sent a right one, not even a client at the same address.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from oneshotd.access.check_queue import CheckQueue, DeferToThread
from oneshotd.access.credentials import Password, Token, read_credential
from oneshotd.access.failed_attempts import FailedAttempts, attempts_key
from oneshotd.access.rules import Client
from oneshotd.access.users import Users, matches
from oneshotd.errors import Refused

#: Pairs of an address and a right password that it has sent; beyond them, the oldest is forgotten.
MAX_ACCEPTED = 10_000


class Authenticator:
    """Finds out who a client is, by its Authorization header.

    :param users: names to bcrypt hashes.
    :param defer_to_thread: runs a function in a thread (`check_queue.PasswordThreads`).
    :param has_token: whether a rule names the token with this SHA-256 (`AccessPolicy.has_token`).
    :raises ConfigError: there are users, and the package bcrypt is missing.
    """

    def __init__(
        self,
        users: Mapping[str, bytes],
        defer_to_thread: DeferToThread,
        clock: IReactorTime,
        *,
        has_token: Callable[[str], bool] = lambda token: False,
    ) -> None:
        self._users = Users(users)
        self._has_token = has_token
        self._attempts = FailedAttempts(clock)
        self._queue = CheckQueue(defer_to_thread)
        self._checks: dict[tuple[str, bytes], _Check] = {}  # by network and key
        self._accepted: OrderedDict[tuple[str, bytes], None] = OrderedDict()  # network and key

    @property
    def has_users(self) -> bool:
        """Whether there is a user whose password can be right."""
        return bool(self._users)

    def replace(self, users: Mapping[str, bytes]) -> None:
        """Replace the users; a user with another hash has to show its password again.

        :raises ConfigError: there are users, and the package bcrypt is missing; nothing was replaced.
        """
        self._users.replace(users)

    def known(
        self, authorization: bytes | None, address: str, sans: frozenset[str] = frozenset()
    ) -> Client | None:
        """Return the client, if that needs no check of a password; None: ask `identify`.

        :param authorization: the value of the only header of that name; None: the request has none.
        :param address: the client's.
        :param sans: subject alternative names of its verified certificate.
        """
        try:
            credential = read_credential(() if authorization is None else (authorization,))
        except Refused:
            return None
        return self._known(credential, address, sans)

    async def identify(
        self, authorization: Sequence[bytes], address: str, sans: frozenset[str] = frozenset()
    ) -> Client:
        """Return the client; without a credential its address and certificate are what is known.

        :param authorization: the values of all headers of that name.
        :raises Refused: the credential is malformed or wrong (401), too many wrong ones came from this
            address (429), or too many passwords are being checked (429, 503).
        """
        credential = read_credential(authorization)
        client = self._known(credential, address, sans)
        if client is not None:
            return client
        assert credential is not None
        if not await self._is_right(credential, address):
            what = "the bearer token" if isinstance(credential, Token) else "user or password"
            raise Refused(f"Authorization: {what} is wrong", reason="unauthorized", status=401)
        assert isinstance(credential, Password)
        return Client(address=address, user=credential.user, sans=sans)

    def _known(
        self, credential: Password | Token | None, address: str, sans: frozenset[str]
    ) -> Client | None:
        if credential is None:
            return Client(address=address, sans=sans)
        if isinstance(credential, Token):
            valid = self._has_token(credential.sha256)
            return Client(address=address, token=credential.sha256, sans=sans) if valid else None
        key = self._users.key(credential)
        if self._users.remembered(key) and self._is_accepted_from(address, key):
            return Client(address=address, user=credential.user, sans=sans)
        return None

    def _is_accepted_from(self, address: str, key: bytes) -> bool:
        """Return whether a password that is known to be right is accepted from this address now.

        An address that has no attempt left has to have sent it before: it could try any number of
        passwords against those that other addresses have sent.
        """
        where = attempts_key(address), key
        if where in self._accepted:
            self._accepted.move_to_end(where)
            return True
        if self._attempts.wait(address) > 0:
            return False
        self._accept(where)
        return True

    def _accept(self, where: tuple[str, bytes]) -> None:
        self._accepted[where] = None
        if len(self._accepted) > MAX_ACCEPTED:
            self._accepted.popitem(last=False)

    async def _is_right(self, credential: Password | Token, address: str) -> bool:
        """Check a password; requests that present the same one meanwhile share the check."""
        key = self._users.key(credential)
        remembered = self._users.remembered(key)
        if remembered is False:
            return (
                False  # a client that repeats a wrong credential guesses nothing: it made one failed attempt
            )
        if remembered:
            self._attempts.check(address)
            return True
        if isinstance(credential, Token) or not self._users:  # nothing to compare with
            self._attempts.check(address)
            self._attempts.failed(address)
            self._users.remember_wrong(key)
            return False
        where = attempts_key(address), key
        check = self._checks.get(where)
        if check is None:
            check = self._checks[where] = _Check(
                credential, key, address, users=self._users, attempts=self._attempts, queue=self._queue
            )
            check.ended.addCallback(lambda _: self._checks.pop(where))
            check.enqueue()
        is_right = await check.result()
        if is_right:
            self._accept(where)
        return is_right


class _Check:
    """The check of one password, for all requests from its address that present it meanwhile.

    If all of them are gone it is given up, unless it is running: a guess counts.

    :ivar ended: fires once, with None.
    """

    def __init__(
        self,
        credential: Password,
        key: bytes,
        address: str,
        *,
        users: Users,
        attempts: FailedAttempts,
        queue: CheckQueue,
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self._credential = credential
        self._key = key
        self._address = address
        self._users = users
        self._attempts = attempts
        self._queue = queue
        self._hashed: bytes | None = None  # what the password is being compared with
        self._result: bool | Failure | None = None
        self._waiting: list[Deferred[bool]] = []

    def enqueue(self) -> None:
        """Put it into the queue; if that is full, its result is the refusal."""
        try:
            self._queue.add(attempts_key(self._address), self)
        except Refused:
            self._end(Failure())

    def result(self) -> Deferred[bool]:
        """Return a Deferred of the result; to cancel it is to give up waiting."""
        waiting: Deferred[bool] = Deferred(self._give_up)
        if self._result is None:
            self._waiting.append(waiting)
        else:
            waiting.callback(self._result)
        return waiting

    def begin(self) -> Callable[[], bool] | bool:
        """Return the comparison, unless the result is known by now, or the address has no attempt left."""
        remembered = self._users.remembered(self._key)
        if remembered is False:
            return False
        self._attempts.check(self._address)
        if remembered:
            return True
        self._hashed = self._users.hash_for(self._credential.user)
        return self._hashed is not None and partial(matches, self._credential.password, self._hashed)

    def finish(self, result: bool | Failure) -> None:
        """Judge the result of a comparison, remember it, and pass it on."""
        compared, self._hashed = self._hashed, None
        if isinstance(result, bool) and compared is not None:
            user = self._credential.user
            if self._users.hash_for(user) != compared:  # the users were replaced meanwhile
                self.enqueue()
                return
            result = result and user in self._users
            if result:
                self._users.remember_right(self._key, user)
            else:
                self._users.remember_wrong(self._key)
                self._attempts.failed(self._address)
        self._end(result)

    def _give_up(self, waiting: Deferred[bool]) -> None:
        self._waiting.remove(waiting)
        if not self._waiting and self._queue.drop(attempts_key(self._address), self):
            self._end(False)

    def _end(self, result: bool | Failure) -> None:
        self._result = result
        waiting, self._waiting = self._waiting, []
        self.ended.callback(None)
        for each in waiting:
            each.callback(result)

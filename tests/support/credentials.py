"""Users, tokens and threads for tests of authentication."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import bcrypt
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

#: The lowest cost that bcrypt has: a comparison takes about a millisecond.
COST = 4


def hashed(password: str, cost: int = COST, prefix: bytes = b"2b") -> bytes:
    """Return a bcrypt hash of a password, as a web configuration file has it."""
    made = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))
    return b"$" + prefix + made[3:]


def basic(user: str, password: str) -> bytes:
    """Return the value of an Authorization header."""
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def bearer(token: str) -> bytes:
    """Return the value of an Authorization header."""
    return b"Bearer " + token.encode()


def token_hash(token: str) -> str:
    """Return what an access file has of a token."""
    return sha256(token.encode()).hexdigest()


class Threads:
    """Threads that work when the test says so.

    :ivar jobs: what they have to do, in the order in which it came.
    """

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((lambda: function(*args), done))
        return done

    def work(self) -> None:
        """Do the oldest job."""
        function, done = self.jobs.pop(0)
        try:
            result = function()
        except Exception:
            done.errback(Failure())
        else:
            done.callback(result)

    def work_all(self) -> int:
        """Do jobs until there are none; return how many were done."""
        count = 0
        while self.jobs:
            self.work()
            count += 1
            assert count < 10_000, "jobs without end"
        return count


def at_once(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run a function in this thread, in place of a thread."""
    done: Deferred[Any] = Deferred()
    try:
        result = function(*args)
    except Exception:
        done.errback(Failure())
    else:
        done.callback(result)
    return done

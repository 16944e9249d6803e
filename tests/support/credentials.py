"""Users and tokens for tests of authentication."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import bcrypt

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

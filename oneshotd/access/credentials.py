"""Read the Authorization header: Basic (RFC 7617) or Bearer (RFC 6750).

A refusal quotes nothing of the header: a password or a token may stand in any part of a malformed one.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from hashlib import sha256

from attrs import field, frozen

from oneshotd.errors import Refused

#: Bytes of the header's value; tokens with claims in them (JWT) have some thousand.
MAX_AUTHORIZATION = 4096

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1


@frozen(kw_only=True)
class Password:
    """A user and the password that a client sent for it; not checked."""

    user: str
    password: bytes = field(repr=False)


@frozen(kw_only=True)
class Token:
    """A bearer token, as its SHA-256 in hexadecimal; not checked."""

    sha256: str


def read_credential(headers: Sequence[bytes]) -> Password | Token | None:
    """Return the credential in a request's Authorization headers; None if there is none.

    :param headers: the values of all headers of that name.
    :raises Refused: malformed, or several (401).
    """
    if not headers:
        return None
    if len(headers) > 1:
        raise _malformed(f"expected one, got {len(headers)}")
    if len(headers[0]) > MAX_AUTHORIZATION:
        raise _malformed(f"expected at most {MAX_AUTHORIZATION} bytes")
    scheme, _, value = headers[0].strip(b" \t").partition(b" ")
    value = value.strip(b" ")
    if scheme.lower() == b"basic":
        return _password(value)
    if scheme.lower() == b"bearer":
        if not _TOKEN.fullmatch(value):
            raise _malformed("expected one token of letters, digits and -._~+/ after Bearer")
        return Token(sha256=sha256(value).hexdigest())
    raise _malformed("expected Basic or Bearer and a credential")


def _password(value: bytes) -> Password:
    try:
        pair = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raise _malformed("expected base64 after Basic") from None
    user, colon, password = pair.partition(b":")
    if not colon:
        raise _malformed("expected USER:PASSWORD in the base64 after Basic")
    if _CONTROL.search(pair):
        raise _malformed("expected no control characters in user and password")
    try:
        return Password(user=user.decode("utf-8"), password=password)
    except UnicodeDecodeError:
        raise _malformed("expected the user in UTF-8") from None


def _malformed(text: str) -> Refused:
    return Refused(f"Authorization: {text}", reason="unauthorized", status=401)

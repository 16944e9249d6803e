"""The Authorization header: what is read, and what is refused."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.credentials import basic, bearer, token_hash

from oneshotd.access.credentials import MAX_AUTHORIZATION, Password, Token, read_credential
from oneshotd.errors import Refused


def encoded(pair: bytes) -> bytes:
    return b"Basic " + b64encode(pair)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (basic("ci", "secret"), Password(user="ci", password=b"secret")),
        (basic("ci", "a:b:c"), Password(user="ci", password=b"a:b:c")),
        (basic("ci", ""), Password(user="ci", password=b"")),
        (basic("", "secret"), Password(user="", password=b"secret")),
        (basic("jürgen", "pä"), Password(user="jürgen", password="pä".encode())),
        (encoded(b"ci:\xff\xfe"), Password(user="ci", password=b"\xff\xfe")),
        (b"bAsIc   " + b64encode(b"a:b") + b" ", Password(user="a", password=b"b")),
        (bearer("abc.DEF-1_~+/=="), Token(sha256=token_hash("abc.DEF-1_~+/=="))),
        (b"BEARER abc", Token(sha256=token_hash("abc"))),
    ],
)
def test_a_credential_is_read(header: bytes, found: Password | Token) -> None:
    """A client with a right credential would be refused."""
    assert read_credential([header]) == found


def test_a_request_without_the_header_has_none() -> None:
    """A client that a network rule admits would be refused."""
    assert read_credential([]) is None


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([b""], "expected Basic or Bearer and a credential"),
        ([b"secret"], "expected Basic or Bearer and a credential"),
        ([b"Digest username=secret"], "expected Basic or Bearer and a credential"),
        ([b"Basicc2VjcmV0"], "expected Basic or Bearer and a credential"),
        ([b"Basic\tsecret"], "expected Basic or Bearer and a credential"),
        ([b"Basic"], "expected USER:PASSWORD"),
        ([b"Basic secret"], "expected base64 after Basic"),
        ([b"Basic ci:secret"], "expected base64 after Basic"),
        ([b"Basic Y2k6c2VjcmV0 Y2k6c2VjcmV0"], "expected base64 after Basic"),
        ([b"Basic Y2k6c2VjcmV0c2Vj\xff"], "expected base64 after Basic"),
        ([encoded(b"secret")], "expected USER:PASSWORD"),
        ([encoded(b"c\xe9:secret")], "expected the user in UTF-8"),
        ([encoded(b"ci:sec\0ret")], "expected no control characters"),
        ([encoded(b"ci:secret\n")], "expected no control characters"),
        ([encoded(b"c\ri:secret")], "expected no control characters"),
        ([b"Bearer"], "expected one token"),
        ([b"Bearer "], "expected one token"),
        ([b"Bearer secret secret"], "expected one token"),
        ([b"Bearer sec\xffret"], "expected one token"),
        ([b"Bearer =secret"], "expected one token"),
        ([b'Bearer "secret"'], "expected one token"),
        ([b"Bearer secret,Bearer secret"], "expected one token"),
        ([b"Bearer secret", b"Bearer secret"], "expected one, got 2"),
        ([b"Bearer " + b"s" * MAX_AUTHORIZATION], "expected at most 4096 bytes"),
        ([b"Basic " + b"c2Vj" * 2048], "expected at most 4096 bytes"),
        ([encoded(b"ci:" + b"secret" * 1000)], "expected at most 4096 bytes"),
    ],
)
def test_a_malformed_header_is_refused_with_its_fault(headers: list[bytes], says: str) -> None:
    """A person would search for the slip for hours; or find the password in the log of a proxy."""
    with pytest.raises(Refused) as refused:
        read_credential(headers)
    assert (refused.value.status, refused.value.reason) == (401, "unauthorized")
    assert refused.value.text.startswith("Authorization: ") and says in refused.value.text
    assert "secret" not in refused.value.text


@given(st.lists(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"Basic " + tail)))
def test_any_bytes_are_read_or_refused(headers: list[bytes]) -> None:
    """A client could cause errors in the log with each request."""
    status = 401
    try:
        read_credential(headers)
    except Refused as refused:
        status = refused.status
    assert status == 401


def test_a_password_is_not_shown() -> None:
    """A traceback with the record in it would tell the password."""
    assert "secret" not in repr(read_credential([basic("ci", "secret")]))
    assert "secret" not in repr(read_credential([bearer("secret")]))

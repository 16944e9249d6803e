"""How the Twisted client reads an error of OpenSSL."""

from __future__ import annotations

import pytest
from OpenSSL import SSL
from twisted.python.failure import Failure

from oneshotd.emit.answers import EmitDenied, EmitError, EmitRefused, EmitUnavailable
from oneshotd.emit.deferred_tls import tls_failure
from oneshotd.emit.settings import Credentials

STALE = ("system library", "", "")


@pytest.mark.parametrize(
    ("queue", "kind", "text"),
    [
        ([("SSL routines", "", "certificate verify failed")], EmitRefused, "not accepted"),
        ([STALE, ("SSL routines", "", "certificate verify failed")], EmitRefused, "not accepted"),
        ([("x509", "", "no start line"), ("SSL", "", "tlsv1 alert unknown ca")], EmitDenied, "certificate"),
        ([STALE], EmitUnavailable, "TLS: failed"),
    ],
)  # fmt: skip
def test_an_error_of_an_earlier_call_is_not_taken_for_the_reason(
    queue: list[tuple[str, str, str]], kind: type[EmitError], text: str
) -> None:
    """The queue of OpenSSL may hold older errors: an untrusted daemon would be asked again for hours."""
    failure = Failure(SSL.Error(queue))
    error = tls_failure([failure], Credentials())
    assert type(error) is kind and text in str(error)

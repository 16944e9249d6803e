"""TLS of a sender: its connections, and what their errors mean.

Needs pyOpenSSL and service_identity, without which Twisted has no TLS or checks names badly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure

from oneshotd.delivery.remote_write.destination import Destination
from oneshotd.errors import ConfigError

# The newest error is last; before it may be those of other calls.
_NEWEST = -1


def connection_creator(host: str, destination: Destination) -> IOpenSSLClientConnectionCreator:
    """Return what secures connections to this host.

    :raises ConfigError: a package is missing, a file cannot be used, or the key is not the certificate's.
    """
    try:
        import service_identity  # noqa: F401  (Twisted would check names without it, badly, and warn)
        from OpenSSL import crypto
        from twisted.internet import ssl
    except ImportError as error:
        raise ConfigError(
            f"{destination.url} needs pyOpenSSL and service_identity ({error}): pip install"
            " 'oneshotd[tls]', or Debian's python3-openssl and python3-service-identity"
        ) from None
    from oneshotd.access.pem import check_pair, load_certificates, load_private_key

    trusted = None
    if destination.ca is not None:
        authorities = load_certificates(destination.ca)
        trusted = ssl.trustRootFromCertificates(
            [ssl.Certificate(crypto.X509.from_cryptography(each)) for each in authorities]
        )
    own: dict[str, Any] = {}
    if destination.cert is not None:
        file = destination.key or destination.cert
        chain, key = load_certificates(destination.cert), load_private_key(file)
        check_pair(destination.cert, chain, file, key)
        # pyOpenSSL from 24.3 on takes these, and warns of its own types.
        own = {"certificate": chain[0], "privateKey": key, "extraCertChain": list(chain[1:])}
    return ssl.optionsForClientTLS(host, trusted, extraCertificateOptions=own)


def untrusted(reasons: Iterable[Failure]) -> str | None:
    """Return why the receiver's certificate was not accepted, so that no byte was sent; None: it was."""
    from OpenSSL import SSL
    from service_identity import VerificationError

    for reason in reasons:
        error = reason.value
        if isinstance(error, VerificationError):
            return "the receiver's certificate is for another host"
        if isinstance(error, SSL.Error) and error.args and error.args[0]:
            texts = [text for _, _, text in error.args[0] if text]
            if "certificate verify failed" in texts:
                return "the receiver's certificate has ended, or its authority is not trusted (ca-file)"
            if texts and _spelled(texts[_NEWEST]) in _NOT_TLS:
                return "the receiver does not speak TLS there, expected http://"
    return None


def wants_certificate(reasons: Iterable[Failure]) -> bool:
    """Return whether the receiver has ended the connection for want of a client certificate, or by ours."""
    from OpenSSL import SSL

    for reason in reasons:
        error = reason.value
        if isinstance(error, SSL.Error) and error.args and error.args[0]:
            texts = [_spelled(text) for _, _, text in error.args[0] if text]
            if any("alert" in text and ("certificate" in text or "unknown ca" in text) for text in texts):
                return True
    return False


#: Errors that mean that the other side does not speak TLS; OpenSSL spells them in words.
_NOT_TLS = ("wrong version number", "http request", "packet length too long", "record layer failure")


def _spelled(text: str) -> str:
    return text.replace("_", " ").lower()

"""TLS of the Twisted client: its connections, made of files, and their errors.

Needs pyOpenSSL and service_identity, without which Twisted has no TLS or checks names badly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure

from oneshotd.emit.answers import EmitError
from oneshotd.emit.pem_files import check
from oneshotd.emit.settings import Credentials, SettingsError
from oneshotd.emit.tls_errors import tls_error, untrusted


def connection_creator(host: str, credentials: Credentials) -> IOpenSSLClientConnectionCreator:
    """Return what secures connections to this host; the files are read now.

    :raises SettingsError: a file cannot be used, or the key is not that of the certificate.
    """
    check(credentials)
    trusted = None
    if credentials.ca_file:
        authorities = _certificates("ca-file", credentials.ca_file)
        trusted = ssl.trustRootFromCertificates(
            [ssl.Certificate(crypto.X509.from_cryptography(each)) for each in authorities]
        )
    own = _own(credentials.cert, credentials.key or credentials.cert) if credentials.cert else {}
    return ssl.optionsForClientTLS(host, trusted, extraCertificateOptions=own)


def _own(cert: str, key_file: str) -> dict[str, Any]:
    """Return the client's certificate, its chain and its key as options of Twisted."""
    first, *chain = _certificates("cert", cert)
    try:
        with open(key_file, "rb") as opened:
            key = load_pem_private_key(opened.read(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(f"key: {key_file}: OpenSSL cannot use it") from None
    if key.public_key() != first.public_key():
        raise SettingsError(f"key: {key_file}: not the key of the certificate {cert}")
    # pyOpenSSL from 24.3 on takes these, and warns of its own types.
    return {"certificate": first, "privateKey": key, "extraCertChain": chain}


def _certificates(option: str, file: str) -> list[Certificate]:
    try:
        with open(file, "rb") as opened:
            return load_pem_x509_certificates(opened.read())
    except (OSError, ValueError):
        raise SettingsError(f"{option}: {file}: OpenSSL cannot use it") from None


def tls_failure(reasons: Iterable[Failure], credentials: Credentials) -> EmitError | None:
    """Return the error if one of the reasons for which a request failed is of TLS."""
    for reason in reasons:
        error = reason.value
        if isinstance(error, VerificationError):
            return untrusted("it is for another host", credentials)
        if isinstance(error, SSL.Error) and error.args and error.args[0]:
            # The newest is last; before it may be errors of other calls, of which nobody has asked.
            texts = [text for _, _, text in error.args[0] if text]
            if "certificate verify failed" in texts:
                # pyOpenSSL does not tell which.
                return untrusted("it has ended, or its authority is not trusted", credentials)
            return tls_error(texts[-1] if texts else "", credentials)
    return None

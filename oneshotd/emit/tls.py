"""TLS of the blocking client: its context, made of files, and its errors."""

from __future__ import annotations

import ssl

from oneshotd.emit.answers import EmitError, EmitUnavailable
from oneshotd.emit.pem_files import check
from oneshotd.emit.settings import Credentials, SettingsError
from oneshotd.emit.tls_errors import tls_error, untrusted

# X509_V_ERR_CERT_NOT_YET_VALID: the clock of this machine may be wrong until it is set after the start.
_NOT_YET_VALID = 9


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context that verifies the server, and has the client's certificate.

    :raises SettingsError: a file cannot be read, or the key is not that of the certificate.
    """
    check(credentials)
    try:
        context = ssl.create_default_context(cafile=credentials.ca_file or None)
    except ssl.SSLError as error:
        raise SettingsError(f"ca-file: {credentials.ca_file}: {_reason(error)}") from None
    # Python 3.13 and newer set this, older ones, Twisted and curl do not: it refuses many own authorities.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert := credentials.cert:
        try:
            context.load_cert_chain(cert, credentials.key or None, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                key = credentials.key or cert
                raise SettingsError(f"key: {key}: not the key of the certificate {cert}") from None
            files = " or ".join(filter(None, [cert, credentials.key]))
            raise SettingsError(f"cert: {files}: {_reason(error)}") from None
    return context


def tls_failure(error: OSError, credentials: Credentials) -> EmitError:
    """Return what an error of a connection with TLS means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        passing = error.verify_code == _NOT_YET_VALID
        return untrusted(error.verify_message.rstrip("."), credentials, passing=passing)
    if isinstance(error, ssl.SSLEOFError):
        return EmitUnavailable("the connection was closed without notice")
    if isinstance(error, ssl.SSLError):
        return tls_error(error.reason or str(error), credentials)
    return EmitUnavailable(error.strerror or str(error))


def _reason(error: ssl.SSLError) -> str:
    return f"OpenSSL cannot use it: {(error.reason or 'malformed').replace('_', ' ').lower()}"

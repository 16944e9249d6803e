"""Explain an error of TLS: who has to change something, and whether another attempt may help.

The blocking and the Twisted client share this module. Python's ``ssl`` and pyOpenSSL spell OpenSSL's
reasons differently, and OpenSSL changes them: ``SSLV3_ALERT_BAD_CERTIFICATE``, ``ssl/tls alert bad
certificate``.
"""

from __future__ import annotations

import re

from oneshotd.emit.answers import EmitDenied, EmitError, EmitRefused, EmitUnavailable
from oneshotd.emit.settings import Credentials

#: Alerts about the client's certificate (RFC 8446 section 6.2).
_CERTIFICATE_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for one",
    "NO_CERTIFICATE": "it asks for one",
    "BAD_CERTIFICATE": "it is not valid there",
    "UNSUPPORTED_CERTIFICATE": "its kind is not supported",
    "CERTIFICATE_REVOKED": "it is revoked",
    "CERTIFICATE_EXPIRED": "it has ended",
    "CERTIFICATE_UNKNOWN": "it is not accepted there",
    "UNKNOWN_CA": "its authority is not known there",
    "ACCESS_DENIED": "it gives no access",
    "DECRYPT_ERROR": "its signature is wrong",
}
#: Alerts and errors that the next attempt would get, too.
_LASTING = (
    "PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "INSUFFICIENT_SECURITY",
    "HANDSHAKE_FAILURE",
    "UNRECOGNIZED_NAME",
)
#: Errors that mean that the other side does not speak TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


def tls_error(reason: str, credentials: Credentials) -> EmitError:
    """Return the error for the reason that OpenSSL gives."""
    spelled = re.sub(r"[^A-Z0-9]+", "_", reason.upper()).strip("_")
    alert = spelled.partition("ALERT_")[2]
    if (why := _CERTIFICATE_ALERTS.get(alert)) is not None:
        if credentials.cert:
            return EmitDenied(f"the server refuses the certificate of {credentials.cert} (cert): {why}")
        return EmitDenied("the server asks for a certificate, see the options cert and key")
    if alert == "HANDSHAKE_FAILURE" and not credentials.cert:  # TLS 1.2 has no alert of its own for this
        return EmitDenied("the server refuses the handshake: probably it asks for a certificate, option cert")
    if spelled in _NOT_TLS:
        return EmitRefused("the server does not speak TLS there, expected http:// or another port")
    shown = f"TLS: {spelled.replace('_', ' ').lower() or 'failed'}"
    if spelled in _LASTING or alert in _LASTING:
        return EmitRefused(shown)
    return EmitUnavailable(shown)


def untrusted(why: str, credentials: Credentials, *, passing: bool = False) -> EmitError:
    """Return the error for a server's certificate that is not accepted.

    :param why: one line.
    :param passing: another attempt may help.
    """
    trusted = f"the authorities of {credentials.ca_file}" if credentials.ca_file else "those of the system"
    text = f"the server's certificate is not accepted: {why} (ca-file: {trusted})"
    return EmitUnavailable(text) if passing else EmitRefused(text)

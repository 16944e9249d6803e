"""Say in plain lines what the web configuration does: TLS, users, headers, the rate limit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from oneshotd.access.packages import require
from oneshotd.access.tls import make_context, subject_alternative_names
from oneshotd.access.tls_names import ClientAuth, TLSVersion
from oneshotd.access.tls_settings import PEM, TLSSettings
from oneshotd.access.web_config import WebConfig
from oneshotd.ctl.describe import duration_text

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: A certificate that ends within so many seconds is noted.
SOON = 14 * 86400

_VERSIONS = {TLSVersion.TLS12: "1.2", TLSVersion.TLS13: "1.3"}

_CLIENT_AUTH = {
    ClientAuth.NONE: "are not asked for",
    ClientAuth.REQUEST: "are asked for, and not verified",
    ClientAuth.REQUIRE_ANY: "are required, and not verified",
    ClientAuth.VERIFY_IF_GIVEN: "are verified if there are any",
    ClientAuth.REQUIRE_AND_VERIFY: "are required and verified",
}


@frozen(kw_only=True)
class OwnCertificate:
    """The daemon's certificate.

    :param starts, ends: Unix seconds.
    :param names: its subject alternative names, sorted.
    """

    starts: float
    ends: float
    names: tuple[str, ...]


def own_certificate(settings: TLSSettings) -> OwnCertificate:
    """Load certificate, key and authorities as the daemon does, and return what is in the certificate.

    :raises ConfigError: the daemon could not start with them.
    """
    make_context(settings)
    from oneshotd.access.pem import load_certificates

    certificate: Certificate = load_certificates(settings.cert)[0]
    return OwnCertificate(
        starts=certificate.not_valid_before_utc.timestamp(),
        ends=certificate.not_valid_after_utc.timestamp(),
        names=tuple(sorted(subject_alternative_names(certificate))),
    )


def check_packages(web: WebConfig) -> None:
    """Check that passwords can be compared.

    :raises ConfigError: a package is missing; the text names it.
    """
    if web.users:
        require("bcrypt")


def web_lines(web: WebConfig, certificate: OwnCertificate | None, now: float) -> Iterator[str]:
    """Yield what the web configuration does.

    :param certificate: None: without TLS.
    :param now: Unix seconds.
    """
    yield f"web configuration: {web.path}"
    if web.tls is not None and certificate is not None:
        yield from _tls_lines(web.tls, certificate, now)
    yield f"users: {', '.join(web.users) or 'none'}"
    if web.headers:
        yield f"headers: {', '.join(web.headers)}"
    if web.rate_limit is not None:
        each = duration_text(web.rate_limit.interval)
        yield f"rate limit: a request each {each}, {web.rate_limit.burst} at once, of all clients together"


def _tls_lines(tls: TLSSettings, certificate: OwnCertificate, now: float) -> Iterator[str]:
    lowest, highest = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    yield f"TLS: {lowest}" + (f" to {highest}" if highest != lowest else "")
    yield f"certificate: {_place(tls.cert)}, for {', '.join(certificate.names) or 'no name'}"
    yield f"certificate: ends {_time(certificate.ends)}, {_distance(certificate.ends, now)}"
    has_authorities = tls.client_ca is not None and tls.client_auth.verifies
    authorities = f", by the authorities {_place(tls.client_ca)}" if has_authorities else ""
    yield f"client certificates: {_CLIENT_AUTH[tls.client_auth]}{authorities}"
    if tls.allowed_sans is not None:
        yield f"client certificates: only those for {', '.join(sorted(tls.allowed_sans))}"


def web_notes(web: WebConfig, certificate: OwnCertificate | None, now: float) -> Iterator[str]:
    """Yield what has no effect, and what will go wrong."""
    yield from web.notes
    if web.tls is None or certificate is None:
        return
    cert, key = web.tls.cert, web.tls.key
    if certificate.ends <= now:
        yield f"{cert.place}: the certificate has ended {_time(certificate.ends)}: clients refuse it"
    elif certificate.ends - now < SOON:
        yield f"{cert.place}: the certificate ends {_distance(certificate.ends, now)}"
    if certificate.starts > now:
        yield f"{cert.place}: the certificate is not valid before {_time(certificate.starts)}"
    if not certificate.names:
        yield f"{cert.place}: the certificate has no subject alternative name: clients refuse it"
    path = key.path or web.path
    if _all_may_read(path):
        yield f"{key.place}: every user of this machine may read the key"


def _all_may_read(path: Path) -> bool:
    return bool(os.stat(path).st_mode & stat.S_IROTH)


def _place(pem: PEM | None) -> str:
    return "in the web configuration" if pem is None or pem.path is None else f"in {pem.path}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _distance(seconds: float, now: float) -> str:
    """Return how far away a time is: ``in 89 days``, ``2 hours ago``."""
    left = abs(seconds - now)
    text = "less than a minute"
    for size, unit in ((60, "minute"), (3600, "hour"), (86400, "day")):
        if number := int(left // size):
            text = f"{number} {unit}{'' if number == 1 else 's'}"
    return f"in {text}" if seconds > now else f"{text} ago"

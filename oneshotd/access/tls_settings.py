"""The section `tls_server_config` of the web configuration: its record, and its rules.

The files that it names are read by `access/tls.py`, each time that a context is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from attrs import field, frozen

from oneshotd.access.small_files import read_small
from oneshotd.access.tls_names import (
    CLIENT_AUTH,
    CURVES,
    OLD_VERSIONS,
    TLS12_CIPHERS,
    TLS13_CIPHERS,
    ClientAuth,
    TLSVersion,
)
from oneshotd.access.yaml_nodes import Value, brief
from oneshotd.errors import ConfigError

#: The keys of the section.
KEYS = (
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
)


@frozen(kw_only=True)
class PEM:
    """Certificates or a key: in a file, or inline.

    :param where: file, line and key of the web configuration that name it, for errors.
    :param path: its file; None: inline.
    :param inline: the text, if it is inline.
    """

    where: str = field(eq=False)
    path: Path | None = None
    inline: str = field(default="", repr=False)

    def read(self) -> bytes:
        """Return the content, which is at most 1 MiB.

        :raises ConfigError: the file cannot be read; the text names the key and the file.
        """
        if self.path is None:
            return self.inline.encode()
        return read_small(self.path, where=self.place)

    @property
    def place(self) -> str:
        """Name the key, and the file if there is one, for errors."""
        return self.where if self.path is None else f"{self.where}: {self.path}"


@frozen(kw_only=True)
class TLSSettings:
    """How the daemon speaks TLS.

    :param where: file, line and key of the section, for errors.
    :param cert: the certificate, followed by intermediate ones.
    :param key: its private key.
    :param client_ca: authorities of client certificates.
    :param allowed_sans: the certificate of a client has to have one of these names; None: any name.
    :param ciphers: of TLS 1.2, by OpenSSL's names, in order of preference.
    :param curve: the one curve of the key exchange, by its name in `cryptography`; None: OpenSSL's own.
    :param prefer_server_ciphers: the order of the daemon's cipher suites decides, not the client's.
    """

    where: str = field(eq=False)
    cert: PEM
    key: PEM
    client_auth: ClientAuth = ClientAuth.NONE
    client_ca: PEM | None = None
    allowed_sans: frozenset[str] | None = None
    min_version: TLSVersion = TLSVersion.TLS12
    max_version: TLSVersion = TLSVersion.TLS13
    ciphers: tuple[str, ...] = tuple(TLS12_CIPHERS.values())
    curve: str | None = None
    prefer_server_ciphers: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that a context is made from."""
        return tuple(pem.path for pem in (self.cert, self.key, self.client_ca) if pem and pem.path)


def read_tls_settings(section: Value, folder: Path, notes: list[str]) -> TLSSettings | None:
    """Return the settings of `tls_server_config`; None: the section is empty, so TLS is off.

    A section with any key but without a certificate is an error: exporter-toolkit would speak plain HTTP.

    :param folder: relative paths start there.
    :param notes: what is accepted without effect is appended.
    :raises ConfigError: names file, line and key.
    """
    fields = section.fields(KEYS)
    if not fields:
        return None
    cert = _pem(fields, "cert", folder)
    key = _pem(fields, "key", folder)
    if cert is None or key is None:
        missing, given = ("cert", key) if cert is None else ("key", cert)
        raise ConfigError(
            f"{given.where if given else section.where}: {missing}_file (or {missing}) is missing: "
            "TLS needs a certificate and its key"
        )
    client_auth = _client_auth(fields)
    client_ca = _pem(fields, "client_ca", folder)
    _check_client_ca(fields, client_auth, client_ca, notes)
    minimum, maximum = _versions(fields)
    return TLSSettings(
        where=section.where,
        cert=cert,
        key=key,
        client_auth=client_auth,
        client_ca=client_ca,
        allowed_sans=_allowed_sans(fields, client_auth),
        min_version=minimum,
        max_version=maximum,
        ciphers=_ciphers(fields, minimum, maximum, notes),
        curve=_curve(fields),
        prefer_server_ciphers=_flag(fields, "prefer_server_cipher_suites", default=True),
    )


_Fields = Mapping[str, Value]


def _text(fields: _Fields, name: str) -> str:
    return fields[name].text() if name in fields else ""


def _flag(fields: _Fields, name: str, *, default: bool) -> bool:
    return fields[name].flag(default) if name in fields else default


def _pem(fields: _Fields, name: str, folder: Path) -> PEM | None:
    inline, path = _text(fields, name), _text(fields, f"{name}_file")
    if inline and path:
        raise fields[name].error(f"expected one of {name} and {name}_file, got both")
    if "-----BEGIN" in path:
        raise fields[f"{name}_file"].error(f"expected a path: its content belongs to {name}")
    if inline:
        return PEM(where=fields[name].where, inline=inline)
    return PEM(where=fields[f"{name}_file"].where, path=folder / path) if path else None


def _client_auth(fields: _Fields) -> ClientAuth:
    name = _text(fields, "client_auth_type")
    if name not in CLIENT_AUTH:
        names = ", ".join(member.value for member in ClientAuth)
        raise fields["client_auth_type"].error(f"expected one of {names}, got {brief(name)}")
    return CLIENT_AUTH[name]


def _check_client_ca(
    fields: _Fields, client_auth: ClientAuth, client_ca: PEM | None, notes: list[str]
) -> None:
    if client_auth.verifies and client_ca is None:
        # Go would trust the authorities of the system: anybody who has a web site would be let in.
        raise fields["client_auth_type"].error(f"{client_auth.value} needs client_ca_file (or client_ca)")
    if client_ca is None or client_auth.verifies:
        return
    if client_auth is ClientAuth.NONE:
        raise ConfigError(
            f"{client_ca.where}: needs a client_auth_type that verifies, such as RequireAndVerifyClientCert"
        )
    notes.append(f"{client_ca.where}: {client_auth.value} asks for a certificate, and does not verify it")


def _allowed_sans(fields: _Fields, client_auth: ClientAuth) -> frozenset[str] | None:
    if "client_allowed_sans" not in fields or fields["client_allowed_sans"].is_empty:
        return None
    names = fields["client_allowed_sans"]
    if client_auth is not ClientAuth.REQUIRE_AND_VERIFY:
        raise names.error("needs client_auth_type: RequireAndVerifyClientCert")
    found = set()
    for item in names.items():
        text = item.text()
        if not text:
            raise item.error("expected a DNS name, an e-mail address, an IP address or a URI, got nothing")
        found.add(_canonical_san(text))
    if not found:
        raise names.error("expected at least one name: an empty list admits no client")
    return frozenset(found)


def _canonical_san(text: str) -> str:
    """Return an IP address in the one spelling that `peer_sans` has; any other name as it is."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def _versions(fields: _Fields) -> tuple[TLSVersion, TLSVersion]:
    minimum = _version(fields, "min_version", TLSVersion.TLS12)
    maximum = _version(fields, "max_version", TLSVersion.TLS13)
    if minimum > maximum:
        raise fields["min_version"].error(f"expected at most max_version, {maximum.name}, got {minimum.name}")
    return minimum, maximum


def _version(fields: _Fields, name: str, default: TLSVersion) -> TLSVersion:
    text = _text(fields, name)
    if not text:
        return default
    if text in OLD_VERSIONS:
        raise fields[name].error(
            f"expected TLS12 or TLS13: OpenSSL does not allow {text}, which is not secure"
        )
    if text not in TLSVersion.__members__:
        raise fields[name].error(f"expected TLS12 or TLS13, got {brief(text)}")
    return TLSVersion[text]


def _ciphers(fields: _Fields, minimum: TLSVersion, maximum: TLSVersion, notes: list[str]) -> tuple[str, ...]:
    value = fields.get("cipher_suites")
    items = value.items() if value else ()
    if not value or not items:
        return tuple(TLS12_CIPHERS.values())
    found: list[str] = []
    for item in items:
        name = item.text()
        if name not in TLS12_CIPHERS and name not in TLS13_CIPHERS:
            raise item.error(f"unknown cipher suite {brief(name)}: expected one of Go's tls.CipherSuites()")
        if name in TLS12_CIPHERS:
            found.append(TLS12_CIPHERS[name])
    if maximum is TLSVersion.TLS12 and not found:
        raise value.error("expected a cipher suite of TLS 1.2, the max_version, got none")
    if minimum is TLSVersion.TLS12 and not found:
        raise value.error("has suites of TLS 1.3 only: set min_version: TLS13 instead")
    if maximum is TLSVersion.TLS13 and len(found) < len(items):
        notes.append(f"{value.where}: those of TLS 1.3 are always all allowed, as in Go")
    if minimum is TLSVersion.TLS13:
        notes.append(f"{value.where}: without effect, because min_version is TLS13")
    return tuple(dict.fromkeys(found)) or tuple(TLS12_CIPHERS.values())


def _curve(fields: _Fields) -> str | None:
    value = fields.get("curve_preferences")
    items = value.items() if value else ()
    if not value or not items:
        return None
    for item in items:
        if item.text() not in CURVES:
            raise item.error(f"unknown curve {brief(item.text())}: expected one of {', '.join(CURVES)}")
    curve = CURVES[items[0].text()]
    if len(items) > 1 or curve is None:
        able = ", ".join(name for name, known in CURVES.items() if known)
        raise value.error(
            f"pyOpenSSL can set one of {able} alone; without this key, OpenSSL's curves are used, "
            "X25519 before CurveP256, CurveP384 and CurveP521"
        )
    return curve

"""The daemon's side of TLS: contexts made from the settings, and connections made from the newest context.

TLS 1.2 and 1.3, ALPN http/1.1, no compression, no renegotiation. Sessions are not resumed: each connection
shows its certificate again, and is checked by the settings in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from attrs import frozen
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from oneshotd.access.packages import require
from oneshotd.access.tls_names import TLSVersion
from oneshotd.access.tls_settings import TLSSettings
from oneshotd.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL.crypto import X509
    from OpenSSL.SSL import Connection, Context
    from twisted.protocols.tls import TLSMemoryBIOProtocol

_ALPN = b"http/1.1"
# SSL_OP_NO_RENEGOTIATION, which pyOpenSSL 25.0 has no name for.
_NO_RENEGOTIATION = 1 << 30
_NO_SANS: frozenset[str] = frozenset()


@frozen(kw_only=True)
class _Facts:
    """Facts about a context that its connections need; the context's app data.

    :param verifies: whether the certificate of a connected client has been verified.
    :param not_after: end of the server's certificate, in Unix seconds.
    """

    verifies: bool
    not_after: float


def make_context(settings: TLSSettings) -> Context:
    """Return a context; its files are read now, so that a new one has their present content.

    :raises ConfigError: a file cannot be read, certificate and key do not fit, or a package is missing.
    """
    require("OpenSSL")
    from OpenSSL import SSL

    from oneshotd.access.pem import check_pair, load_certificates, load_private_key

    chain = load_certificates(settings.cert)
    key = load_private_key(settings.key)
    check_pair(settings.cert, chain, settings.key, key)
    _check_ciphers(settings, key)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        context.use_certificate(chain[0])
        for intermediate in chain[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error as error:
        raise ConfigError(f"{settings.cert.place}: OpenSSL refuses it: {_reason(error)}") from None
    try:
        _set_protocol(context, settings)
        _set_client_auth(context, settings)
    except MemoryError:  # the callbacks that pyOpenSSL sets are made by libffi
        raise ConfigError(
            f"{settings.where}: TLS needs memory that is writable and executable, which"
            " MemoryDenyWriteExecute= of the systemd unit forbids"
        ) from None
    context.set_app_data(
        _Facts(verifies=settings.client_auth.verifies, not_after=chain[0].not_valid_after_utc.timestamp())
    )
    return context


def _check_ciphers(settings: TLSSettings, key: object) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    prefix, kind = ("ECDHE-RSA", "RSA") if isinstance(key, RSAPrivateKey) else ("ECDHE-ECDSA", "ECDSA")
    fits = any(name.startswith(prefix) for name in settings.ciphers)
    if settings.max_version is TLSVersion.TLS12 and not fits:
        raise ConfigError(f"{settings.where}.cipher_suites: expected one for the {kind} key, got none")


def _reason(error: Exception) -> str:
    return str(error.args[0][-1][2]) if error.args and error.args[0] else "no reason given"


def _set_protocol(context: Context, settings: TLSSettings) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from OpenSSL import SSL

    context.set_min_proto_version(int(settings.min_version))
    context.set_max_proto_version(int(settings.max_version))
    options = SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET | _NO_RENEGOTIATION
    if settings.prefer_server_ciphers:
        options |= SSL.OP_CIPHER_SERVER_PREFERENCE
    context.set_options(options)
    # The record buffers, 34 KB, are freed while a connection is idle.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # With TLS 1.3, OpenSSL still sends two tickets, with which nothing can be resumed.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    try:
        context.set_cipher_list(":".join(settings.ciphers).encode("ascii"))
    except SSL.Error:
        if settings.min_version < TLSVersion.TLS13:
            raise ConfigError(f"{settings.where}.cipher_suites: OpenSSL supports none of them") from None
    if settings.curve is not None:
        context.set_tmp_ecdh(getattr(ec, settings.curve)())
    context.set_alpn_select_callback(_select_protocol)


def _select_protocol(connection: Connection, offered: Sequence[bytes]) -> bytes:
    from OpenSSL import SSL

    if _ALPN in offered:
        return _ALPN
    # RFC 7301, section 3.2: a fatal alert, no_application_protocol.
    raise SSL.Error([("SSL routines", "", "no application protocol")])


def _set_client_auth(context: Context, settings: TLSSettings) -> None:
    from OpenSSL import SSL
    from OpenSSL.crypto import X509, X509StoreFlags

    from oneshotd.access.pem import load_certificates

    if settings.client_ca is not None:
        store = context.get_cert_store()
        assert store is not None
        # As in Go, any certificate of the file is an anchor, also an intermediate or a client's own.
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
        for certificate in load_certificates(settings.client_ca):
            # The names of the authorities are sent, so that a client can choose its certificate.
            context.add_client_ca(certificate)
            if settings.client_auth.verifies:
                store.add_cert(X509.from_cryptography(certificate))
    mode = SSL.VERIFY_NONE
    if settings.client_auth.asks:
        mode = SSL.VERIFY_PEER
    if settings.client_auth.requires:
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    if not settings.client_auth.verifies:
        context.set_verify(mode, _accept_any)
    else:
        context.set_verify(mode, _Verify(settings.allowed_sans))


def _accept_any(connection: Connection, cert: X509, error: int, depth: int, ok: int) -> bool:
    return True


#: Why OpenSSL refuses a certificate (x509_vfy.h), in words for the log.
_REFUSALS = {
    7: "is not signed by the authority that it names",
    9: "is not valid yet",
    10: "has ended",
    18: "is of an authority that is not in client_ca_file",
    19: "is of an authority that is not in client_ca_file",
    20: "is of an authority that is not in client_ca_file",
    21: "is of an authority that is not in client_ca_file",
    24: "is signed by one that is no authority",
    26: "is not for clients (extended key usage)",
}


@frozen
class _Verify:
    """OpenSSL's callback for each certificate of a client's chain; at depth 0 it is the client's own.

    :param allowed: names of which the client's own has to have one; None: any names.
    """

    allowed: frozenset[str] | None

    def __call__(self, connection: Connection, cert: X509, error: int, depth: int, ok: int) -> bool:
        whose = "an authority's certificate" if depth else "the client's certificate"
        if not ok:
            connection.set_app_data(f"{whose} {_REFUSALS.get(error, f'is refused, X509 error {error}')}")
            return False
        if depth or self.allowed is None or not self.allowed.isdisjoint(_names(cert)):
            return True
        connection.set_app_data(f"{whose} has no name of client_allowed_sans")
        return False


def refusal(connection: Connection) -> str | None:
    """Return why a certificate of the client was refused, in words; None: none was."""
    found = connection.get_app_data()
    return found if isinstance(found, str) else None


def _names(cert: X509) -> frozenset[str]:
    try:
        return subject_alternative_names(cert.to_cryptography())
    except ValueError:
        return _NO_SANS


def subject_alternative_names(certificate: Certificate) -> frozenset[str]:
    """Return the DNS names, e-mail addresses, IP addresses and URIs of a certificate.

    A certificate whose names cannot be parsed has none.
    """
    from cryptography.x509 import (
        DNSName,
        DuplicateExtension,
        ExtensionNotFound,
        IPAddress,
        RFC822Name,
        SubjectAlternativeName,
        UniformResourceIdentifier,
        UnsupportedGeneralNameType,
    )

    found = set()
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, DuplicateExtension, UnsupportedGeneralNameType, ValueError):
        return _NO_SANS
    for name in names:
        if isinstance(name, DNSName | RFC822Name | UniformResourceIdentifier):
            found.add(name.value)
        elif isinstance(name, IPAddress) and isinstance(name.value, IPv4Address | IPv6Address):
            found.add(str(name.value))
    return frozenset(found)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the daemon's TLS connections; `replace` swaps in a new context while it runs.

    :ivar settings: of the context for new connections. Open connections keep theirs.
    """

    def __init__(self, context: Context, settings: TLSSettings) -> None:
        self.settings = settings
        self._context = context
        self._sans: WeakKeyDictionary[Connection, frozenset[str]] = WeakKeyDictionary()

    def replace(self, context: Context, settings: TLSSettings) -> None:
        """Use this context for new connections."""
        self.settings = settings
        self._context = context

    @property
    def not_after(self) -> float:
        """End of the server's certificate, in Unix seconds."""
        return _facts(self._context).not_after

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """Return the OpenSSL connection for a new TCP connection."""
        from OpenSSL import SSL

        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection

    def peer_sans(self, transport: Any) -> frozenset[str]:
        """Return the subject alternative names of the client's certificate, if it was verified.

        None for a connection without TLS, before its handshake has ended, or without a certificate, and for
        policies that do not verify one (`RequestClientCert`, `RequireAnyClientCert`).

        :param transport: a Twisted transport; its `getHandle` returns the OpenSSL connection.
        """
        from OpenSSL import SSL

        get_handle = getattr(transport, "getHandle", None)
        connection = get_handle() if get_handle is not None else None
        if not isinstance(connection, SSL.Connection):
            return _NO_SANS
        found = self._sans.get(connection)
        if found is None:
            # Before the end of the handshake, the signature with the certificate's key is not checked yet.
            if connection.get_peer_finished() is None:
                return _NO_SANS
            found = self._sans[connection] = _verified_sans(connection)
        return found


def _facts(context: Context) -> _Facts:
    facts = context.get_app_data()
    assert isinstance(facts, _Facts)
    return facts


def _verified_sans(connection: Connection) -> frozenset[str]:
    if not _facts(connection.get_context()).verifies:
        return _NO_SANS
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except ValueError:
        return _NO_SANS
    return _NO_SANS if certificate is None else subject_alternative_names(certificate)

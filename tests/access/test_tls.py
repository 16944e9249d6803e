"""Handshakes: versions, cipher suites, ALPN, renegotiation, and a certificate that is replaced."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from support.certificates import Authority, Pair
from support.tls_in_memory import client_context, connect, server_tls, tls_settings
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface.verify import verifyObject

from oneshotd.access.tls import ServerTLS, make_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


Server = Callable[..., ServerTLS]


@pytest.fixture
def server(tmp_path: Path, pair: Pair) -> Server:
    def make(**keys: Any) -> ServerTLS:
        return server_tls(tmp_path, pair, **keys)

    return make


def limited(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that speaks this version alone."""
    context = client_context(authority.cert)
    context.minimum_version = context.maximum_version = version
    # The security level of the system may be above what TLS 1.1 needs.
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize(
    ("keys", "speaks"),
    [
        ({}, {"TLSv1.2", "TLSv1.3"}),
        ({"min_version": "TLS13"}, {"TLSv1.3"}),
        ({"max_version": "TLS12"}, {"TLSv1.2"}),
    ],
)
def test_the_versions_of_tls_are_those_of_the_settings(
    server: Server, authority: Authority, keys: dict[str, str], speaks: set[str]
) -> None:
    """A scraper with one of the two versions could not connect, or an operator's limit would not hold."""
    tls = server(**keys)
    outcomes = [
        connect(tls, limited(authority, version))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    ]
    assert {outcome.version for outcome in outcomes if outcome.error is None} == speaks
    assert {outcome.error for outcome in outcomes} <= {None, "TLSV1_ALERT_PROTOCOL_VERSION"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_older_versions_are_refused(server: Server, authority: Authority) -> None:
    """A client that was talked down to TLS 1.1 would send its password under a broken cipher."""
    outcome = connect(server(), limited(authority, ssl.TLSVersion.TLSv1_1))
    assert outcome.error in ("TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1")],
)
def test_http_1_1_is_chosen_by_alpn(
    server: Server, authority: Authority, offered: list[str], chosen: str | None
) -> None:
    """Go's client, which offers h2 first, would speak HTTP/2 to a daemon that has only HTTP/1.1."""
    outcome = connect(server(), client_context(authority.cert, alpn=offered))
    assert (outcome.error, outcome.alpn) == (None, chosen)


def test_a_client_without_http_1_1_gets_an_alert(server: Server, authority: Authority) -> None:
    """A client of another protocol would send its bytes into an HTTP parser (RFC 7301, ALPACA)."""
    outcome = connect(server(), client_context(authority.cert, alpn=["h2"]))
    assert outcome.error is not None
    assert "ALERT_NO_APPLICATION_PROTOCOL" in outcome.error


SUITES = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
OF_CLIENT = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"


@pytest.mark.parametrize(
    ("keys", "cipher"),
    [
        ({}, "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ({"cipher_suites": SUITES}, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (
            {"cipher_suites": SUITES, "prefer_server_cipher_suites": False},
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            {"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]},
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
    ],
)
def test_the_cipher_suite_is_chosen_by_the_settings(
    server: Server, authority: Authority, keys: dict[str, Any], cipher: str
) -> None:
    """An operator who has to allow certain suites only would find others in an audit."""
    context = limited(authority, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(OF_CLIENT)
    assert connect(server(**keys), context).cipher == cipher


def test_a_client_without_a_common_suite_is_refused(server: Server, authority: Authority) -> None:
    """A client with weak suites only would be let in."""
    context = limited(authority, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    tls = server(cipher_suites=["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"])
    assert connect(tls, context).error == "SSLV3_ALERT_HANDSHAKE_FAILURE"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("curve", "works"), [("prime256v1", False), ("secp384r1", True)])
def test_the_one_curve_is_that_of_the_settings(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion, curve: str, works: bool
) -> None:
    """An operator who has to use P-384 would use another curve without noticing."""
    context = limited(authority, version)
    context.set_ecdh_curve(curve)
    # The curve of an ECDSA key has to be one of the client's, too.
    pair = authority.issue("rsa", use_rsa=True)
    outcome = connect(server_tls(tmp_path, pair, curve_preferences=["CurveP384"]), context)
    assert (outcome.error is None) is works


def test_renegotiation_is_refused(server: Server, authority: Authority) -> None:
    """A client of TLS 1.2 could make the daemon compute handshakes without end on one connection."""
    tls = server(max_version="TLS12")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    connection = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
    pump(client, connection)
    assert client.get_protocol_version_name() == "TLSv1.2"
    before = connection.get_finished()
    assert before
    client.renegotiate()
    with pytest.raises(SSL.Error):
        pump(client, connection)
    assert connection.get_finished() == before
    assert connection.total_renegotiations() == 0


def pump(client: SSL.Connection, server: SSL.Connection) -> None:
    """Shake hands; raise the error of the client."""
    for _ in range(6):
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        move(client, server)
        try:
            server.do_handshake()
            server.recv(100)
        except SSL.Error:
            pass
        move(server, client)


def move(source: SSL.Connection, target: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        target.bio_write(source.bio_read(2**16))


def test_no_session_is_resumed(server: Server, authority: Authority) -> None:
    """A client could go on with a certificate that the newest settings refuse."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls, context = server(), limited(authority, version)
        first = connect(tls, context)
        assert first.error is None
        again = connect(tls, context, first.session)
        assert (again.error, again.reused) == (None, False)


def test_a_replaced_certificate_is_shown_to_the_next_client(tmp_path: Path, authority: Authority) -> None:
    """A renewed certificate would need a restart, and scrapes would fail when the old one ends."""
    pair = authority.issue("server", valid=timedelta(days=1))
    tls = server_tls(tmp_path, pair)
    before = connect(tls, client_context(authority.cert))
    end = tls.not_after
    authority.issue("server", valid=timedelta(days=3))
    assert connect(tls, client_context(authority.cert)).certificate == before.certificate
    tls.replace(make_context(tls.settings), tls.settings)
    after = connect(tls, client_context(authority.cert))
    assert after.error is None
    assert after.certificate != before.certificate
    assert tls.not_after == pytest.approx(end + 2 * 86400, abs=60)


def test_an_open_connection_outlives_a_replacement(
    tmp_path: Path, server: Server, authority: Authority
) -> None:
    """A scrape that is running while the certificate is renewed would fail."""
    tls = server()
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    connection = tls.serverConnectionForTLS(None)  # type: ignore[arg-type]
    pump(client, connection)
    authority.issue("server")
    settings = tls.settings
    tls.replace(make_context(settings), settings)
    connection.send(b"the rest")
    move(connection, client)
    assert client.recv(100) == b"the rest"


def test_a_chain_file_is_sent_whole(tmp_path: Path, authority: Authority) -> None:
    """A client that trusts the root alone could not verify a certificate of an intermediate authority."""
    intermediate = Authority(tmp_path / "intermediate", "intermediate", issuer=authority)
    pair = intermediate.issue("server")
    pair.cert.write_bytes(pair.cert.read_bytes() + intermediate.cert.read_bytes())
    assert connect(server_tls(tmp_path, pair), client_context(authority.cert)).error is None


def test_certificate_and_key_may_be_inline(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    """A configuration of exporter-toolkit with an inline certificate would not work."""
    settings = tls_settings(tmp_path, cert=pair.cert.read_text(), key=pair.key.read_text())
    assert connect(ServerTLS(make_context(settings), settings), client_context(authority.cert)).error is None


HOSTILE = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a hello of 16 MB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(0x4000 - 4),
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(0xFFFF),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "data before the hello": b"\x17\x03\x03\x00\x05hello",
    "SSL 2": b"\x80\x2e\x01\x00\x02" + bytes(43),
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_hello_ends_the_connection(server: Server, sent: bytes) -> None:
    """A client would fill the memory with one message that never ends."""
    connection = server().serverConnectionForTLS(None)  # type: ignore[arg-type]
    connection.bio_write(sent)
    with pytest.raises(SSL.Error) as raised:
        connection.do_handshake()
    assert not isinstance(raised.value, SSL.WantReadError)


def test_twisted_closes_a_connection_whose_handshake_fails(server: Server) -> None:
    """A client without a common protocol would fill the log with tracebacks, or keep its connection."""
    tls = server()
    verifyObject(IOpenSSLServerConnectionCreator, tls)
    factory = TLSMemoryBIOFactory(tls, False, Factory.forProtocol(Protocol))
    protocol = factory.buildProtocol(None)
    transport = StringTransportWithDisconnection()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([b"h2"])
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    protocol.dataReceived(client.bio_read(2**16))
    assert transport.disconnecting or not transport.connected
    client.bio_write(transport.value())
    with pytest.raises(SSL.Error, match="no application protocol"):
        client.do_handshake()

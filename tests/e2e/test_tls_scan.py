"""What a scanner finds: `openssl s_client` against the daemon's TLS with the default settings."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL
from support.certificates import Authority
from support.tls_in_memory import server_tls

from oneshotd.access.tls import ServerTLS
from oneshotd.access.tls_names import TLS12_CIPHERS

pytestmark = pytest.mark.e2e

#: Seconds for one run of openssl.
TIMEOUT = 30


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server with an ECDSA certificate, which answers nothing after the handshake."""
    tls = server_tls(tmp_path, Authority(tmp_path / "ca").issue("server"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener, tls))
    thread.start()
    yield listener.getsockname()[1]
    # Ends accept(), which closing alone does not.
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(TIMEOUT)
    listener.close()
    assert not thread.is_alive()


def serve(listener: socket.socket, tls: ServerTLS) -> None:
    """Serve one connection after the other, until the listener is closed."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        peer.settimeout(TIMEOUT)
        with peer:
            talk(peer, tls.serverConnectionForTLS(None))  # type: ignore[arg-type]


def talk(peer: socket.socket, connection: SSL.Connection) -> None:
    """Shake hands, and read until the client closes or breaks a rule."""
    open_ = True
    while open_:
        try:
            received = peer.recv(2**16)
            connection.bio_write(received)
            connection.do_handshake()
            open_ = bool(received and connection.recv(2**16))
        except SSL.WantReadError:
            open_ = bool(received)
        except (SSL.Error, OSError):
            open_ = False
        try:
            peer.sendall(connection.bio_read(2**16))
        except (SSL.WantReadError, OSError):
            continue


def scan(port: int, *options: str, typed: str = "") -> str:
    """Return what s_client prints, with its errors."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(
        command, input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT
    )
    return done.stdout


def negotiated(said: str) -> str | None:
    """Return the cipher suite that was agreed upon; None: the handshake failed."""
    # The version that stands there is the first one that had the suite, not that of the connection.
    found = re.search(r"^New, \S+, Cipher is (\S+)$", said, re.MULTILINE)
    assert found, said
    return None if found[1] == "(NONE)" else found[1]


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_not_offered(port: int, version: str) -> None:
    """A scan for PCI DSS would fail."""
    assert negotiated(scan(port, version, "-cipher", "ALL:@SECLEVEL=0")) is None


def test_the_suites_of_tls_1_2_are_those_of_go(port: int) -> None:
    """A scan would find suites without forward secrecy, or anonymous ones."""
    accepted: list[str] = []
    for _ in range(len(TLS12_CIPHERS) + 1):
        offered = ":".join(["ALL:COMPLEMENTOFALL", *(f"!{name}" for name in accepted), "@SECLEVEL=0"])
        name = negotiated(scan(port, "-tls1_2", "-cipher", offered))
        if name is None:
            break
        accepted.append(name)
    assert accepted == [name for name in TLS12_CIPHERS.values() if "ECDSA" in name]


def test_tls_1_3_and_alpn(port: int) -> None:
    """Clients would fall back to TLS 1.2, or to a protocol that the daemon does not speak."""
    said = scan(port, "-tls1_3", "-alpn", "h2,http/1.1")
    assert negotiated(said) in (
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    )
    assert "ALPN protocol: http/1.1" in said


def test_no_compression_and_secure_renegotiation_that_is_refused(port: int) -> None:
    """CRIME reads a token from compressed requests; renegotiation is a cheap way to load the daemon."""
    said = scan(port, "-tls1_2", typed="R\n")
    assert negotiated(said)
    assert "Compression: NONE" in said
    assert "Secure Renegotiation IS supported" in said
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_session_is_resumed(port: int, version: str) -> None:
    """A revoked or replaced certificate of a client would go on to count."""
    said = scan(port, version, "-reconnect")
    assert said.count("New, TLSv1") > 1
    assert "Reused, " not in said

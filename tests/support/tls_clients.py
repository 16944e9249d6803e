"""Clients of a TLS port that do what no honest client does, and a daemon that has one."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path

from OpenSSL import SSL
from support.bare_scraper import AT_ONCE
from support.certificates import Authority
from support.daemon import Daemon

#: Types of a TLS record: a handshake message, and a warning or the end (RFC 8446 section 5.1).
HANDSHAKE, ALERT = 22, 21

#: The type of an extension that nobody has.
UNKNOWN_EXTENSION = 0xFDE8

#: Bytes of a record at most.
RECORD = 1 << 14


def encrypted_daemon(folder: Path, *options: str) -> Daemon:
    """Return a daemon with a certificate, not started yet."""
    authority = Authority(folder / "tls")
    pair = authority.issue("server")
    config = folder / "web.yml"
    config.write_text(f"tls_server_config:\n  cert_file: {pair.cert}\n  key_file: {pair.key}\n")
    daemon = Daemon(folder, ca=authority.cert)
    daemon.process.command = (*daemon.process.command, f"--web-config={config}", *options)
    return daemon


def hello() -> bytes:
    """Return the first bytes of a TLS client, as they are sent."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def records(message: bytes) -> bytes:
    """Return handshake bytes cut into records."""
    cut = [message[at : at + RECORD] for at in range(0, len(message), RECORD)]
    return b"".join(struct.pack("!BHH", HANDSHAKE, 0x0301, len(part)) + part for part in cut)


def large_hello(size: int) -> bytes:
    """Return a hello with an extension of so many bytes, below 65,000.

    Servers ignore an extension that they do not know (RFC 8446 section 4.2).
    """
    message = hello()[5:]
    (extensions,) = struct.unpack_from("!H", message, _extensions_at(message))
    at = _extensions_at(message)
    unknown = struct.pack("!HH", UNKNOWN_EXTENSION, size) + bytes(size)
    body = message[4:at] + struct.pack("!H", extensions + len(unknown)) + message[at + 2 :] + unknown
    return records(message[:1] + struct.pack("!I", len(body))[1:] + body)


def _extensions_at(message: bytes) -> int:
    """Return where the length of the extensions is in a hello (RFC 8446 section 4.1.2)."""
    at = 4 + 2 + 32
    at += 1 + message[at]  # session
    at += 2 + struct.unpack_from("!H", message, at)[0]  # cipher suites
    return int(at + 1 + message[at])  # compression methods


def drop(port: int, data: bytes, *, answer: bool = False, reset: bool = False) -> None:
    """Connect, send this, and go.

    :param answer: after the first byte of an answer.
    :param reset: with a reset.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        if answer:
            sock.recv(1)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)


class Renegotiator:
    """A client of TLS 1.2 that asks for another handshake within its connection."""

    def __init__(self, port: int) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._sock.settimeout(None)  # a blocking descriptor, below Python's timeouts
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 20, 0))
        self._tls = SSL.Connection(context, self._sock)
        self._tls.set_connect_state()
        self._tls.do_handshake()

    def ask(self) -> bytes:
        """Return the whole answer to a request: bytes that are left unread would disturb a handshake."""
        self._tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nok\n"):
            answer += self._tls.recv(RECORD)
        return answer

    def renegotiate(self) -> str | None:
        """Ask for another handshake; return why there was none, or None if there was one."""
        try:
            self._tls.renegotiate()
            self._tls.do_handshake()
        except SSL.Error as error:
            return str(error.args[0][-1][-1]) if error.args and error.args[0] else repr(error)
        assert self._tls.total_renegotiations() > 0
        return None

    def close(self) -> None:
        self._sock.close()

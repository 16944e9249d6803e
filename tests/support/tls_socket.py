"""TLS on a client's socket, a record at a time, so that a test knows which bytes its kernel still holds.

The records that were not asked for stay in the kernel, and close_notify is sent without reading an answer, as
clients written in Go do.
"""

from __future__ import annotations

import io
import socket
import ssl
from contextlib import suppress
from typing import Any


class TLSSocket:
    """The part of `socket.socket` that `bare_scraper.Scraper` uses.

    :param sock: connected, with a timeout.
    """

    def __init__(self, sock: socket.socket, version: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._sock = sock
        self._record = bytearray()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)

    def do_handshake(self) -> None:
        """Do the handshake to its end."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                assert self._feed(), "the connection ended in the handshake"
            else:
                self._flush()
                return

    def hello(self) -> bytes:
        """Return the first bytes of the handshake."""
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def encrypted(self, data: bytes) -> bytes:
        """Return records to be sent by `send_raw`."""
        self._tls.write(data)
        return self._outgoing.read()

    def notice(self) -> bytes:
        """Return the record of close_notify."""
        with suppress(ssl.SSLError):  # the answer is not there
            self._tls.unwrap()
        return self._outgoing.read()

    def send_raw(self, records: bytes) -> None:
        """Send bytes as they are."""
        self._sock.sendall(records)

    def close_notify(self) -> None:
        """Send close_notify, and do not read the answer."""
        self.send_raw(self.notice())

    def sendall(self, data: bytes) -> None:
        self.send_raw(self.encrypted(data))

    def recv(self, size: int) -> bytes:
        """Return decrypted bytes; none at the end of TLS, or at the end of TCP without close_notify."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self._flush()
                if not self._feed():
                    return b""

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Raw(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.send_raw(self._outgoing.read())

    def _feed(self) -> bool:
        """Read one record; return False at the end of TCP.

        :raises BlockingIOError: it has not arrived; what has is kept.
        """
        if not (self._have(5) and self._have(5 + int.from_bytes(self._record[3:5]))):
            assert not self._record, "the connection ended within a record"
            return False
        self._incoming.write(bytes(self._record))
        self._record.clear()
        return True

    def _have(self, size: int) -> bool:
        """Read until the record has this size; return False at the end of TCP."""
        while len(self._record) < size:
            piece = self._sock.recv(size - len(self._record))
            if not piece:
                return False
            self._record += piece
        return True


class _Raw(io.RawIOBase):
    def __init__(self, sock: TLSSocket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._sock.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

"""TLS connections between `ServerTLS` and Python's ssl module, in memory; and settings from a YAML file."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from support.certificates import Pair

from oneshotd.access.tls import ServerTLS, make_context, refusal
from oneshotd.access.tls_settings import TLSSettings
from oneshotd.access.web_config import read_web_config

#: Flights of a handshake, with room for alerts.
ROUNDS = 10


def tls_settings(folder: Path, **keys: Any) -> TLSSettings:
    """Write a web configuration with these keys of `tls_server_config`, and read it."""
    path = folder / "web.yml"
    lines = [f"  {name}: {json.dumps(value)}\n" for name, value in keys.items()]
    path.write_text("tls_server_config:\n" + "".join(lines))
    settings = read_web_config(path).tls
    assert settings is not None
    return settings


def server_tls(folder: Path, pair: Pair, **keys: Any) -> ServerTLS:
    """Return the server's side for this certificate and these keys of `tls_server_config`."""
    settings = tls_settings(folder, cert_file=str(pair.cert), key_file=str(pair.key), **keys)
    return ServerTLS(make_context(settings), settings)


def client_context(ca: Path, pair: Pair | None = None, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Return the context of a client that trusts this authority and shows this certificate."""
    context = ssl.create_default_context(cafile=str(ca))
    # The default of Python 3.13.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@frozen(kw_only=True)
class Outcome:
    """What client and server see of a connection.

    :param error: OpenSSL's reason at the client; None: a message went each way.
    :param sans: what `peer_sans` returns.
    :param refusal: why the server has refused the client's certificate.
    :param reused: whether the session was resumed.
    """

    error: str | None
    version: str | None = None
    alpn: str | None = None
    cipher: str | None = None
    certificate: bytes | None = None
    sans: frozenset[str] = frozenset()
    refusal: str | None = None
    session: ssl.SSLSession | None = None
    reused: bool | None = None


@frozen
class Transport:
    """As Twisted's TLS transport, the way to its OpenSSL connection."""

    connection: SSL.Connection

    def getHandle(self) -> SSL.Connection:
        return self.connection


def connect(server: ServerTLS, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Outcome:
    """Shake hands, and exchange a message each way.

    :param session: of an earlier connection, which the client tries to resume.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    # ServerTLS needs nothing of Twisted's protocol.
    connection = server.serverConnectionForTLS(None)  # type: ignore[arg-type]
    greeted = answered = False
    for _ in range(ROUNDS):
        try:
            client.do_handshake()
            if not greeted:
                greeted = client.write(b"hello") == 5
            if client.read(100) == b"welcome":
                certificate = client.getpeercert(binary_form=True)
                cipher = client.cipher()
                assert cipher is not None
                return Outcome(
                    error=None,
                    version=client.version(),
                    alpn=client.selected_alpn_protocol(),
                    cipher=cipher[0],
                    certificate=certificate,
                    sans=server.peer_sans(Transport(connection)),
                    session=client.session,
                    reused=client.session_reused,
                )
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            # A reason that Python has no name for is in the text alone.
            reason = error.reason or str(error).upper().replace(" ", "_")
            sans = server.peer_sans(Transport(connection))
            return Outcome(error=reason, sans=sans, refusal=refusal(connection))
        if to_server.pending:
            connection.bio_write(to_server.read())
        try:
            connection.do_handshake()
            if not answered and connection.recv(100) == b"hello":
                answered = connection.send(b"welcome") == 7
        except SSL.Error:
            pass  # WantReadError; or a failure, whose alert the client reads.
        with contextlib.suppress(SSL.WantReadError):
            to_client.write(connection.bio_read(2**16))
    raise AssertionError(f"the handshake did not end in {ROUNDS} rounds")

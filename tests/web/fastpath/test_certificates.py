"""The fast path over real TLS connections: the certificate of a connection decides, and of no other one."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bare_scraper import PATIENCE
from support.certificates import Authority
from support.fastpath_requests import post
from support.memory_site import MemoryServer, open_server, reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role, Rule
from oneshotd.access.tls import ServerTLS, make_context
from oneshotd.access.web_config import read_web_config
from oneshotd.core.parsing.formats import Rules
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.transport.tls import tls_factory

CLOSE = "Connection: close"

WEB_CONFIG = """\
tls_server_config:
  cert_file: authority/server.pem
  key_file: authority/server.key
  client_auth_type: VerifyClientCertIfGiven
  client_ca_file: authority/ca.pem
"""


class TLSClients:
    """A port with TLS in front of a server, and clients of it by their names; None has no certificate."""

    def __init__(self, server: MemoryServer, folder: Path) -> None:
        self._authority = Authority(folder / "authority")
        self._authority.issue("server")
        (folder / "web.yml").write_text(WEB_CONFIG)
        settings = read_web_config(folder / "web.yml").tls
        assert settings is not None
        tls = ServerTLS(make_context(settings), settings)
        self.policy = server.doors.access = AccessPolicy()
        self.policy.update(rules=[Rule(number=1, role=Role.EMIT, san="shop.example")], has_users=False)
        self.taken: list[str] = []
        matcher = RequestMatcher(server.site.matcher.ingest, Rules(), self.policy, peer_sans=tls.peer_sans)
        recognize = matcher.recognize

        def noted(*args: Any, **options: Any) -> Any:
            found = recognize(*args, **options)
            self.taken += found[0]
            return found

        matcher.recognize = noted  # type: ignore[method-assign]
        server.site.matcher = matcher
        self.port = reactor.listenTCP(0, tls_factory(server.site, tls, reactor), interface="127.0.0.1")

    @contextmanager
    def connection(self, name: str | None) -> Iterator[Any]:
        """Return a function that sends a request, and returns the status of its answer."""
        context = ssl.create_default_context(cafile=str(self._authority.cert))
        if name is not None:
            pair = self._authority.issue("client", sans=(name,))
            context.load_cert_chain(pair.cert, pair.key)
        port = self.port.getHost().port
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            tls: list[ssl.SSLSocket] = []

            def ask(data: bytes) -> int:
                if not tls:
                    tls.append(context.wrap_socket(sock, server_hostname="localhost"))
                tls[0].sendall(data)
                with HTTPResponse(tls[0], method="POST") as answer:
                    answer.begin()
                    answer.read()
                    return answer.status

            try:
                yield lambda data: deferToThread(ask, data)
            finally:
                for each in tls:
                    each.close()


@pytest.mark.parametrize("more", [(), (CLOSE,)], ids=["kept", "closed"])
@pytest_twisted.ensureDeferred
async def test_the_certificate_of_each_connection_decides(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Whoever connects after the shop would send events in its name."""
    async with open_server(tmp_path) as server:
        clients = TLSClients(server, tmp_path)
        try:
            for name, status in (("shop.example", 200), ("other.example", 403), (None, 403)) * 2:
                with clients.connection(name) as ask:
                    assert await ask(post("a=1", *more)) == status
                    if not more:
                        assert await ask(post("a=1")) == status
            assert len(clients.taken) == (2 if more else 4)
            assert (await server.store.stats()).events == len(clients.taken)
        finally:
            await maybeDeferred(clients.port.stopListening)


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_lost_its_rule_is_refused_on_the_connection_that_is_open(
    tmp_path: Path,
) -> None:
    """A client that never hangs up would keep what was taken away."""
    async with open_server(tmp_path) as server:
        clients = TLSClients(server, tmp_path)
        try:
            with clients.connection("shop.example") as ask:
                assert await ask(post("a=1")) == 200
                clients.policy.update(rules=[], has_users=False)
                assert await ask(post("a=1")) == 403
            assert len(clients.taken) == 1
        finally:
            await maybeDeferred(clients.port.stopListening)

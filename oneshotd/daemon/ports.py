"""The sites that a daemon serves, and its sockets: bound before the reactor runs, open until the stop."""

from __future__ import annotations

from functools import partial
from socket import socket
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.web.pages import notFound

from oneshotd.daemon.config import Config
from oneshotd.daemon.sockets import adopt, affordable, http_ports, listen_backup, speaks_tls, udp_sockets
from oneshotd.metrics.registry import Telemetry
from oneshotd.web.fastpath.channel import FastPathChannel
from oneshotd.web.fastpath.listener import Listener
from oneshotd.web.routes.hooks import body_limit
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site

#: Most connections to the backup socket at a time.
MAX_BACKUP_CONNECTIONS = 10


class Ports:
    """The listening sockets of a daemon.

    :ivar site: of all HTTP addresses; `backup_site`: of the backup socket. Their resources are set later.
    :ivar has_fast_path: whether `site` has the fast path, which logs no requests.
    :ivar all: HTTP addresses and the backup socket.
    :ivar tls: those of `all` that speak TLS.
    :ivar udp: datagram sockets.
    """

    def __init__(self, reactor: Any, config: Config, telemetry: Telemetry) -> None:
        self._reactor = reactor
        self._config = config
        self._telemetry = telemetry
        self.all: list[IListeningPort] = []
        self.tls: list[IListeningPort] = []
        self.udp: list[socket] = []
        self.site = self._make_site(affordable(config.max_connections))
        self.site.body_limit = body_limit(config.max_hook_body)
        self.backup_site = self._make_site(MAX_BACKUP_CONNECTIONS)
        self.has_fast_path = config.fast_path and not config.access_log
        if self.has_fast_path:
            self.site.protocol = FastPathChannel

    def _make_site(self, max_connections: int) -> Site:
        return Site(
            notFound(),
            requestFactory=partial(OneshotRequest, refused=self._telemetry.refused_request),
            reactor=self._reactor,
            max_connections=max_connections,
            request_timeout=self._config.request_timeout,
            idle_timeout=self._config.idle_timeout,
            access_log=self._config.access_log,
        )

    def bind(self, tls: Any) -> None:
        """Bind all sockets.

        :param tls: of the web configuration; None: it has no TLS.
        :raises OneshotError: one cannot be bound.
        """
        try:
            for address in self._config.udp:
                self.udp += udp_sockets(address)
            self.all = [port for where in self._config.http for port in self._listen(where, tls)]
            if self._config.backup_socket is not None:
                self.all.append(listen_backup(self._reactor, self._config.backup_socket, self.backup_site))
        except BaseException:
            for sock in self.udp:
                sock.close()  # removes the file of a UNIX socket
            raise

    def _listen(self, where: str, tls: Any) -> list[IListeningPort]:
        """Open an HTTP address, with TLS where the web configuration has it and the address can."""
        if tls is None or not speaks_tls(where):
            # The listener of the fast path accepts by itself, and reads what has no TLS.
            return http_ports(self._reactor, where, self.site, Listener if self.has_fast_path else adopt)
        from oneshotd.web.transport.tls_handshake import handshake_factory  # needs pyOpenSSL

        ports = http_ports(self._reactor, where, handshake_factory(self.site, tls, self._reactor))
        self.tls.extend(ports)
        return ports

"""Open the daemon's sockets: ports are bound here, other addresses are Twisted endpoints.

A bare port is bound for all addresses, IPv4 and IPv6, by one dual-stack socket, whatever
``net.ipv6.bindv6only`` is. A port of localhost is bound at both loopback addresses, because clients
differ in which one they try first. A failure to bind raises `OneshotError` at once; Twisted's own
endpoint service would log it and run without a socket.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, UNIXServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.daemon.datagram_sockets import systemd_socket, unix_socket
from oneshotd.daemon.option_values import (
    LOCALHOST,
    DatagramAddress,
    SystemdSocket,
    UdpAddress,
    UnixAddress,
)
from oneshotd.errors import ConfigError, OneshotError

_log = Logger()

#: Most connections that wait for accept(); the default of net.core.somaxconn since Linux 5.4.
BACKLOG = 4096
#: Receive buffer of a UDP socket, for tens of thousands of small datagrams. Linux limits it to
#: net.core.rmem_max, often 208 KiB.
RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024

#: File descriptors beside those of connections: one for each of 200 deliveries in flight, connections
#: without a transport (`web/fastpath/listener.py`), connections above the limit that one iteration of
#: the reactor accepts before it closes them, files and listening sockets.
SPARE_DESCRIPTORS = 512

# Errors of a kernel without IPv6, or with IPv6 disabled by sysctl.
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def affordable(connections: int) -> int:
    """Raise the soft limit of file descriptors, and return how many connections it allows.

    A process without free descriptors cannot accept connections, reopen its store, or watch for
    acknowledgements.

    :param connections: the number that is wanted; the result is not larger.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    fewer = max(1, soft - min(SPARE_DESCRIPTORS, soft // 2))
    if fewer >= connections:
        return connections
    _log.warn(
        "HTTP: at most {fewer} connections instead of {connections}: the process may have no more"
        " than {soft} file descriptors (RLIMIT_NOFILE, LimitNOFILE= in a systemd unit)",
        fewer=fewer,
        connections=connections,
        soft=soft,
    )
    return fewer


def adopt(reactor: Any, sock: socket.socket, factory: Any) -> IListeningPort:
    """Return Twisted's port for a bound, listening, non-blocking socket; the port owns the socket."""
    family, where = sock.family, str(sock.getsockname()[1])
    descriptor = sock.detach()  # the endpoint duplicates it for the reactor, and closes this one
    endpoint = AdoptedStreamServerEndpoint(reactor, descriptor, family)
    return _at_once(where, endpoint.listen(factory))


#: Makes the port of a socket, as `adopt` does.
PortMaker = Callable[[Any, socket.socket, Any], IListeningPort]


def http_ports(
    reactor: Any, where: str, factory: Factory[Any], make: PortMaker = adopt
) -> list[IListeningPort]:
    """Serve as `listen_http` does; ``localhost:PORT`` gives two ports if there is IPv6.

    :raises OneshotError: the address and the reason.
    """
    host, _, port = where.partition(":")
    if host != LOCALHOST:
        return [listen_http(reactor, where, factory, make)]
    sockets = _loopback("HTTP", socket.SOCK_STREAM, int(port))
    return [make(reactor, sock, factory) for sock in sockets]


def listen_http(reactor: Any, where: str, factory: Factory[Any], make: PortMaker = adopt) -> IListeningPort:
    """Serve `factory` at a bare port number (0: a free one) or a Twisted endpoint string.

    :param make: makes the port of a bare number.
    :raises OneshotError: the address and the reason.
    """
    if not where.isdecimal():
        return _listen_endpoint(reactor, where, factory)
    return make(reactor, _every_address("HTTP", socket.SOCK_STREAM, int(where)), factory)


def speaks_tls(where: str) -> bool:
    """Return whether an HTTP address speaks TLS if the web configuration has ``tls_server_config``.

    UNIX sockets do not: the permissions of the file protect them.

    :raises ConfigError: it is an endpoint of another kind, which cannot be wrapped, or has TLS of its own.
    """
    kind, colon, rest = where.partition(":")
    if kind == "unix" or (kind == "systemd" and not {"UNIX", "domain=UNIX"}.isdisjoint(rest.split(":"))):
        return False
    if not colon or kind in (LOCALHOST, "tcp", "tcp6", "systemd"):
        return True
    expected = "PORT, localhost:PORT, tcp:, tcp6:, systemd: or unix:"
    raise ConfigError(
        f"--http: with tls_server_config in the web configuration, expected {expected}, got {where}"
    )


def listen_backup(reactor: Any, path: str, factory: Factory[Any]) -> IListeningPort:
    """Serve `factory` at a UNIX socket that only its owner and root can use.

    A stale socket of a killed daemon is replaced.

    :raises OneshotError: the address and the reason.
    """
    endpoint = UNIXServerEndpoint(reactor, path, mode=0o600, wantPID=True)
    return _at_once(f"unix:{path}", endpoint.listen(factory))


def udp_sockets(address: DatagramAddress) -> list[socket.socket]:
    """Bind as `udp_socket` does; localhost gives two sockets if there is IPv6.

    :raises OneshotError: the address and the reason.
    """
    if isinstance(address, UnixAddress):
        return [unix_socket(address)]
    if isinstance(address, SystemdSocket):
        return [systemd_socket(address)]
    if address.host != LOCALHOST:
        return [udp_socket(address)]
    sockets = _loopback("UDP", socket.SOCK_DGRAM, address.port)
    for sock in sockets:
        _enlarge(sock)
    return sockets


def udp_socket(address: UdpAddress) -> socket.socket:
    """Return a bound, non-blocking UDP socket; the caller closes it.

    :raises OneshotError: the address and the reason.
    """
    if address.host is None:
        sock = _every_address("UDP", socket.SOCK_DGRAM, address.port)
    else:
        sock = _one_address(address.host, address.port)
    _enlarge(sock)
    return sock


def _every_address(protocol: str, kind: socket.SocketKind, port: int) -> socket.socket:
    """Return a bound socket for IPv4 and IPv6, or for IPv4 only; a stream socket listens."""
    try:
        return _bound(socket.AF_INET6, kind, ("::", port), v6only=False)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise _busy(protocol, kind, port, error) from error
    _log.info("{protocol}: no IPv6, listening on IPv4 only, port {port}", protocol=protocol, port=port)
    try:
        return _bound(socket.AF_INET, kind, ("0.0.0.0", port))
    except OSError as error:
        raise _busy(protocol, kind, port, error) from error


def _loopback(protocol: str, kind: socket.SocketKind, port: int) -> list[socket.socket]:
    """Return sockets bound to 127.0.0.1 and ::1 at the same port, or to 127.0.0.1 only."""
    try:
        first = _bound(socket.AF_INET, kind, ("127.0.0.1", port))
    except OSError as error:
        raise _busy(protocol, kind, port, error, "127.0.0.1") from error
    port = first.getsockname()[1]
    try:
        return [first, _bound(socket.AF_INET6, kind, ("::1", port))]
    except OSError as error:
        if error.errno in _NO_IPV6:
            _log.info(
                "{protocol}: no IPv6, listening on 127.0.0.1 only, port {port}", protocol=protocol, port=port
            )
            return [first]
        first.close()
        raise _busy(protocol, kind, port, error, "::1") from error


def _one_address(host: str, port: int) -> socket.socket:
    try:
        # Numeric: no DNS. getaddrinfo parses the scope of fe80::1%eth0.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        family, kind, _, _, where = found[0]
        return _bound(family, kind, where)
    except OSError as error:
        raise _busy("UDP", socket.SOCK_DGRAM, port, error, host) from error


def _bound(
    family: socket.AddressFamily, kind: socket.SocketKind, where: Any, v6only: bool = True
) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        if kind == socket.SOCK_STREAM:
            # Allows a restart while connections are in TIME_WAIT. For UDP it would let a second
            # daemon receive the datagrams of the first.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _enlarge(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    # Linux reports twice the usable size (socket(7)).
    got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if got < RECEIVE_BUFFER_BYTES:
        _log.info(
            "UDP: receive buffer of {got} bytes instead of {asked}; net.core.rmem_max is the limit",
            got=got,
            asked=RECEIVE_BUFFER_BYTES,
        )


class _SeesTLS:
    """The reactor for Twisted's ``ssl:`` endpoints, with connections whose end the site can see."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(
        self, port: int, factory: Factory[Any], contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen as `IReactorSSL.listenSSL` does."""
        from oneshotd.web.transport.tls import tls_factory  # needs pyOpenSSL

        tls = tls_factory(factory, contextFactory, self._reactor)
        listening: IListeningPort = self._reactor.listenTCP(port, tls, backlog, interface)
        return listening


def _listen_endpoint(reactor: Any, where: str, factory: Factory[Any]) -> IListeningPort:
    # Twisted's default backlog is 50; a client that meets a full one retries after a second.
    kind = where.partition(":")[0]
    suffix = f":backlog={BACKLOG}" if kind in ("tcp", "tcp6", "ssl") and ":backlog=" not in where else ""
    try:
        seeing = _SeesTLS(reactor) if "ssl:" in where else reactor
        listening = serverFromString(seeing, where + suffix).listen(factory)
    except Exception as error:
        # The parsers of endpoint strings raise ValueError, TypeError, KeyError, OSError for a missing
        # certificate, and OpenSSL's own errors.
        if kind == "systemd" and isinstance(error, LookupError):
            # $LISTEN_FDS is missing or has no such name: the socket unit is not started.
            raise OneshotError(f"HTTP: {where}: systemd has passed no such socket ($LISTEN_FDS)") from error
        raise OneshotError(f"HTTP: {where}: {str(error) or type(error).__name__}") from error
    return _at_once(where, listening)


def _at_once(where: str, listening: Any) -> IListeningPort:
    """Return the port of a listening endpoint; all of Twisted's endpoints listen or fail at once."""
    results: list[IListeningPort | Failure] = []
    listening.addBoth(results.append)
    if not results:
        listening.cancel()
        raise OneshotError(f"HTTP: {where}: the endpoint does not listen at once")
    (result,) = results
    if not isinstance(result, Failure):
        return result
    error = result.value
    if isinstance(error, CannotListenError):
        if isinstance(error.socketError, OSError) and isinstance(error.port, int):
            host = error.interface or None
            raise _busy("HTTP", socket.SOCK_STREAM, error.port, error.socketError, host) from error
        raise OneshotError(f"HTTP: {where}: {error.socketError}") from error
    raise OneshotError(f"HTTP: {where}: {error}") from error


def _busy(
    protocol: str, kind: socket.SocketKind, port: int, error: OSError, host: str | None = None
) -> OneshotError:
    socket_name = f"{'tcp' if kind == socket.SOCK_STREAM else 'udp'} port {port}"
    if host is not None:
        socket_name += f" of {host}"
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror or error}"
    return OneshotError(f"{protocol}: {socket_name} {why}")

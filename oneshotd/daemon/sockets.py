"""Where the daemon listens: sockets made by us for ports, endpoint strings for the rest.

A bare port means every address, IPv4 and IPv6, through one dual-stack socket: what
``net.ipv6.bindv6only`` says does not count. A port of localhost means both loopback addresses, so
that no client depends on which one it tries first. Every failure to bind is raised at once, as
`OneshotError`: Twisted's own endpoint service would log it and stay up, listening on nothing.
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

from oneshotd.daemon.config import LOCALHOST, UdpAddress
from oneshotd.errors import OneshotError

_log = Logger()

#: Connections that wait to be accepted; Linux' own bound (net.core.somaxconn) since 5.4.
BACKLOG = 4096
#: Bytes asked of the kernel for datagrams that wait to be read: tens of thousands of small ones.
#: Linux gives at most net.core.rmem_max, often 208 KiB.
RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024

#: File descriptors beside those of connections: two hundred deliveries under way (each keeps one of
#: its own), connections without a transport (`web/fastpath/listener.py`), what one turn of the reactor
#: accepts above the limit before it closes it, and the rest.
SPARE_DESCRIPTORS = 512

# What the kernel says where IPv6 is not built in, or is off by sysctl.
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def affordable(connections: int) -> int:
    """How many connections there can be at a time, at most so many, without running out of file
    descriptors; the process's own limit (the soft one) is raised for them as far as it may be.

    One that runs out can accept nobody, and can neither open its store again nor see a receipt.
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
    """Twisted's own port for a bound, listening, non-blocking socket, which goes to it."""
    family, where = sock.family, str(sock.getsockname()[1])
    descriptor = sock.detach()  # the endpoint closes it when the reactor has its duplicate
    endpoint = AdoptedStreamServerEndpoint(reactor, descriptor, family)
    return _at_once(where, endpoint.listen(factory))


#: Makes the port of a socket, as `adopt` does.
PortMaker = Callable[[Any, socket.socket, Any], IListeningPort]


def http_ports(
    reactor: Any, where: str, factory: Factory[Any], make: PortMaker = adopt
) -> list[IListeningPort]:
    """As `listen_http`, and at ``localhost:PORT``, which takes two ports where there is IPv6.

    :raises OneshotError: it cannot listen there; the text says where and why.
    """
    host, _, port = where.partition(":")
    if host != LOCALHOST:
        return [listen_http(reactor, where, factory, make)]
    sockets = _loopback("HTTP", socket.SOCK_STREAM, int(port))
    return [make(reactor, sock, factory) for sock in sockets]


def listen_http(reactor: Any, where: str, factory: Factory[Any], make: PortMaker = adopt) -> IListeningPort:
    """Serve `factory` at a bare port number (0: a free one) or a Twisted endpoint string.

    :param make: makes the port of a bare number.
    :raises OneshotError: it cannot listen there; the text says where and why.
    """
    if not where.isdecimal():
        return _listen_endpoint(reactor, where, factory)
    return make(reactor, _every_address("HTTP", socket.SOCK_STREAM, int(where)), factory)


def listen_backup(reactor: Any, path: str, factory: Factory[Any]) -> IListeningPort:
    """Serve `factory` at a UNIX socket to which its owner (and root) alone may write.

    A socket that a killed daemon has left there is taken over.

    :raises OneshotError: it cannot listen there; the text says where and why.
    """
    endpoint = UNIXServerEndpoint(reactor, path, mode=0o600, wantPID=True)
    return _at_once(f"unix:{path}", endpoint.listen(factory))


def udp_sockets(address: UdpAddress) -> list[socket.socket]:
    """As `udp_socket`, and for localhost, which takes two sockets where there is IPv6.

    :raises OneshotError: it cannot listen there; the text says where and why.
    """
    if address.host != LOCALHOST:
        return [udp_socket(address)]
    sockets = _loopback("UDP", socket.SOCK_DGRAM, address.port)
    for sock in sockets:
        _enlarge(sock)
    return sockets


def udp_socket(address: UdpAddress) -> socket.socket:
    """A bound, non-blocking socket for the datagrams that come to the address; the caller's to close.

    :raises OneshotError: it cannot listen there; the text says where and why.
    """
    if address.host is None:
        sock = _every_address("UDP", socket.SOCK_DGRAM, address.port)
    else:
        sock = _one_address(address.host, address.port)
    _enlarge(sock)
    return sock


def _every_address(door: str, kind: socket.SocketKind, port: int) -> socket.socket:
    """A bound socket (and listening, if it is a stream) for both families, or IPv4 alone."""
    try:
        return _bound(socket.AF_INET6, kind, ("::", port), v6only=False)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise _busy(door, kind, port, error) from error
    _log.info("{door}: no IPv6 here, listening on IPv4 only, port {port}", door=door, port=port)
    try:
        return _bound(socket.AF_INET, kind, ("0.0.0.0", port))
    except OSError as error:
        raise _busy(door, kind, port, error) from error


def _loopback(door: str, kind: socket.SocketKind, port: int) -> list[socket.socket]:
    """Bound sockets for 127.0.0.1 and ::1, or the first alone, at the same port."""
    try:
        first = _bound(socket.AF_INET, kind, ("127.0.0.1", port))
    except OSError as error:
        raise _busy(door, kind, port, error, "127.0.0.1") from error
    port = first.getsockname()[1]
    try:
        return [first, _bound(socket.AF_INET6, kind, ("::1", port))]
    except OSError as error:
        if error.errno in _NO_IPV6:
            _log.info("{door}: no IPv6 here, listening on 127.0.0.1 only, port {port}", door=door, port=port)
            return [first]
        first.close()
        raise _busy(door, kind, port, error, "::1") from error


def _one_address(host: str, port: int) -> socket.socket:
    try:
        # Numeric, so nothing is looked up; this knows how a scope (fe80::1%eth0) is given.
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
            # Connections in TIME_WAIT do not hinder a restart. Not for UDP: there it would let a
            # second daemon take the datagrams of the first.
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
    # Linux doubles what it gives, for its bookkeeping, and reports that (socket(7)).
    got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if got < RECEIVE_BUFFER_BYTES:
        _log.info(
            "UDP: receive buffer of {got} bytes, {asked} asked; net.core.rmem_max sets the most",
            got=got,
            asked=RECEIVE_BUFFER_BYTES,
        )


def _listen_endpoint(reactor: Any, where: str, factory: Factory[Any]) -> IListeningPort:
    # Twisted's own backlog is 50; who finds it full knocks again after a second.
    kind = where.partition(":")[0]
    more = f":backlog={BACKLOG}" if kind in ("tcp", "tcp6", "ssl") and ":backlog=" not in where else ""
    try:
        listening = serverFromString(reactor, where + more).listen(factory)
    except Exception as error:
        # A wrong string raises whatever its parser stumbled over: ValueError, TypeError, KeyError,
        # OSError for a missing certificate, OpenSSL's own.
        if kind == "systemd" and isinstance(error, LookupError):
            # Nothing was passed, or not under that name: the socket unit is not started.
            raise OneshotError(f"HTTP: {where}: systemd has passed no such socket ($LISTEN_FDS)") from error
        raise OneshotError(f"HTTP: {where}: {str(error) or type(error).__name__}") from error
    return _at_once(where, listening)


def _at_once(where: str, listening: Any) -> IListeningPort:
    """The port of an endpoint that is up already; Twisted's own endpoints all are or fail."""
    results: list[IListeningPort | Failure] = []
    listening.addBoth(results.append)
    if not results:
        listening.cancel()
        raise OneshotError(f"HTTP: {where}: does not say at once whether it listens")
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
    door: str, kind: socket.SocketKind, port: int, error: OSError, host: str | None = None
) -> OneshotError:
    what = f"{'tcp' if kind == socket.SOCK_STREAM else 'udp'} port {port}"
    if host is not None:
        what += f" of {host}"
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror or error}"
    return OneshotError(f"{door}: {what} {why}")

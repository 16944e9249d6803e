"""Addresses at which the daemon serves, as the log and its default name have them."""

from __future__ import annotations

import os
import socket
from collections.abc import Container, Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort


def default_name(ports: Sequence[IListeningPort]) -> str:
    """Return the host's name and the first HTTP address, which no other process of the host has."""
    return f"{socket.gethostname()} {format_address(ports[0].getHost())}"


def http_addresses(ports: Sequence[IListeningPort], with_tls: Container[IListeningPort]) -> str:
    """Return the addresses by protocol: ``HTTPS on 192.0.2.7:8090, HTTP on …``."""
    by_protocol = (
        ("HTTPS", [port for port in ports if port in with_tls]),
        ("HTTP", [port for port in ports if port not in with_tls]),
    )
    return ", ".join(
        f"{protocol} on {', '.join(format_address(port.getHost()) for port in some)}"
        for protocol, some in by_protocol
        if some
    )


def format_address(address: Any) -> str:
    """Return an address for the log: TCP as ``host:port``, others as their own text."""
    return host_port(address.host, address.port) if hasattr(address, "port") else str(address)


def datagram_socket(sock: socket.socket) -> str:
    """Return the address of a datagram socket for the log: ``host:port`` or ``unix:PATH``."""
    name = sock.getsockname()
    return host_port(*name) if isinstance(name, tuple) else f"unix:{os.fsdecode(name)}"


def udp_port(sockets: Iterable[socket.socket]) -> int | None:
    """Return the port of the first UDP socket; None: there is none."""
    names = (sock.getsockname() for sock in sockets)
    return next((name[1] for name in names if isinstance(name, tuple)), None)


def host_port(host: str, port: int, *_: object) -> str:
    """Return ``192.0.2.7:8090`` or ``[2001:db8::7]:8090``; a socket of IPv6 has two more parts."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

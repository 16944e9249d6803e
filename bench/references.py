"""The bare servers that oneshotd is compared with.

Run as ``python -m bench.references http|udp PORT``, or ``… https PORT CERTIFICATE KEY``.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import DatagramProtocol
from twisted.web import resource, server


class Ok(resource.Resource):
    """What `twisted.web` needs for an answer, and no more."""

    isLeaf = True

    def render_POST(self, request: server.Request) -> bytes:
        return b"ok"


class Counter(DatagramProtocol):
    """Counts datagrams; one ``?`` asks for the figure."""

    def __init__(self) -> None:
        self.datagrams = 0

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if datagram == b"?":
            assert self.transport is not None
            self.transport.write(b"%d" % self.datagrams, addr)
        else:
            self.datagrams += 1


def main(kind: str, port: int, *files: str) -> None:
    """Serve until killed."""
    from typing import Any, cast

    reactor = cast(Any, global_reactor)
    if kind in ("http", "https"):
        site = server.Site(Ok())
        site.log = lambda request: None  # type: ignore[method-assign]
        where = f"tcp:{port}:interface=127.0.0.1:backlog=4096"
        if kind == "https":
            cert, key = files
            where = f"ssl:{port}:interface=127.0.0.1:backlog=4096:certKey={cert}:privateKey={key}"
        serverFromString(reactor, where).listen(site)
    else:
        from oneshotd.daemon.option_values import UdpAddress
        from oneshotd.daemon.sockets import udp_socket

        # The same receive buffer as the daemon's.
        with udp_socket(UdpAddress(host="127.0.0.1", port=port)) as sock:
            reactor.adoptDatagramPort(sock.fileno(), sock.family, Counter(), 65536)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])

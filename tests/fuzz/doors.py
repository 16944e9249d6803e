"""Whole connections: any bytes, through the real channel, parser and doors, in memory."""

from __future__ import annotations

from typing import Any, cast

from fuzz.response import RULES, check
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from web_fakes import FakeDelivery, FakeIntake, FakeShipment, FakeStore, FakeTelemetry, failures_logged

from oneshotd.core.address import Networks
from oneshotd.core.scraper import Visit
from oneshotd.delivery import Wanted
from oneshotd.web.app import Doors, Shipment
from oneshotd.web.channel import Site, send
from oneshotd.web.request import OneshotRequest

#: Seconds after which a connection on which nothing happens is gone, whatever it waits for.
LONG = 100_000.0

_CLIENT, _SERVER = IPv4Address("TCP", "192.0.2.7", 40000), IPv4Address("TCP", "192.0.2.1", 8090)


class Settled(FakeShipment):
    """A response of which the receipt says how it ended, in one of the orders that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def delivered(self) -> None:
        self.told.append("delivered")

    def returned(self, uncertain: bool) -> None:
        self.told.append("returned")

    def revoked(self) -> None:
        self.told.append("revoked")

    def final(self) -> None:
        self.told.append("final")


class Deliveries(FakeDelivery):
    """Remembers its shipments."""

    def __init__(self) -> None:
        super().__init__()
        self.shipments: list[Settled] = []

    async def scrape(self, visit: Visit, wanted: Wanted, *, timeout: float) -> Shipment:
        self.shipments.append(Settled())
        return self.shipments[-1]


class Transport(StringTransport):
    """Asks a pull producer for more as long as there is one, as a fast reader's socket would."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        while not streaming and self.producer is producer:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = self.streaming = None  # twice is fine, as for a socket's transport

    def abortConnection(self) -> None:
        self.disconnected = self.disconnecting = True

    def loseWriteConnection(self) -> None:
        """The client does not mind."""


def serve(data: bytes) -> None:
    """Send the bytes over one connection, the first of them saying in which pieces.

    :raises AssertionError: the daemon failed on them, or stored what it cannot give out.
    """
    clock = Clock()
    intake, deliveries = FakeIntake(), Deliveries()
    telemetry = FakeTelemetry()
    doors = Doors(
        intake=intake,
        delivery=deliveries,
        store=FakeStore(),
        telemetry=telemetry,
        send=send,
        ready=lambda: None,
        clock=clock,
        rules=RULES,
        trusted_proxies=Networks.parse(["192.0.2.0/24"]),
        allow_emit=Networks.parse([]),
        allow_scrape=Networks.parse([]),
    )

    def request(*args: Any) -> OneshotRequest:
        return OneshotRequest(*args, refused=telemetry.refused)

    site = Site(doors.resource(), requestFactory=cast(Any, request), reactor=clock)
    transport = Transport(hostAddress=_SERVER, peerAddress=_CLIENT)
    channel = cast(Any, site.buildProtocol(_CLIENT))
    with failures_logged() as failures:
        channel.makeConnection(transport)
        size, sent = data[0] if data else 0, data[1:]
        step = size or max(1, len(sent))
        for start in range(0, len(sent), step):
            if transport.disconnecting:
                break
            channel.dataReceived(sent[start : start + step])
        clock.advance(LONG)
        channel.connectionLost(Failure(ConnectionDone()))
        clock.advance(LONG)
    assert not failures, [event["log_failure"].getTraceback() for event in failures]
    assert not clock.getDelayedCalls()
    answer = transport.value()
    assert not answer or answer.startswith(b"HTTP/1."), answer
    assert b"HTTP/1.1 500" not in answer
    for shipment in deliveries.shipments:
        assert shipment.told in (["delivered", "final"], ["returned"], ["delivered", "revoked"])
    for group, _ in intake.groups:
        check(group.events)

"""Whole connections: any bytes, through the real channel, parser and HTTP API, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import frozen
from fuzz.response import RULES, check
from support.fake_queries import FakeQueries
from support.fake_telemetry import FakeTelemetry
from support.web_fakes import (
    FakeDelivery,
    FakeIngest,
    FakeShipment,
    FakeStore,
    failures_logged,
)
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.networks import Networks
from oneshotd.core.origin import Origin
from oneshotd.core.parsing.formats import MAX_HOOK_BODY_BYTES
from oneshotd.core.scrape_request import Wanted
from oneshotd.ingest.waiting import SubmitCallback
from oneshotd.web.app import HTTPApi
from oneshotd.web.fastpath.channel import FastPathChannel
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.routes.hooks import body_limit
from oneshotd.web.transport.channel import send
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site

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

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        self.told.append("returned")

    def revoked(self, uncertain: bool = False) -> None:
        self.told.append("revoked")

    def final(self) -> None:
        self.told.append("final")


class Deliveries(FakeDelivery):
    """Remembers its shipments."""

    def __init__(self) -> None:
        super().__init__()
        self.shipments: list[Settled] = []

    async def scrape(self, visit: Visit, wanted: Wanted, *, timeout: float, origin: Origin) -> FakeShipment:
        self.shipments.append(Settled())
        return self.shipments[-1]


class Transport(StringTransport):
    """Asks a pull producer for more as long as there is one, as a fast reader's socket would."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        pulled: Any = producer
        while not streaming and self.producer is producer:
            pulled.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = self.streaming = None  # twice is fine, as for a socket's transport

    def abortConnection(self) -> None:
        self.disconnected = self.disconnecting = True

    def loseWriteConnection(self) -> None:
        """The client does not mind."""


class Ingest(FakeIngest):
    """Stores what takes the short way, too, in the next turn of the reactor."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def submit_series(self, series: Sequence[str], callback: SubmitCallback) -> bool:
        def stored() -> None:
            self.groups.extend((Group(events=[NewEvent(each)]), "http") for each in series)
            callback.on_stored(self._clock.seconds())

        self._clock.callLater(0, stored)
        return True


@frozen
class Outcome:
    """What became of the bytes.

    :param answer: its lines; their order within the headers means nothing.
    :param stored: the events, and the key of their group.
    """

    answer: Sequence[bytes]
    stored: Sequence[tuple[Sequence[NewEvent], str | None]]
    refusals: Mapping[str, int]


def serve(data: bytes) -> int:
    """Send the bytes over one connection, the first of them saying in which pieces.

    :returns: how many requests were granted.
    :raises AssertionError: the daemon failed on them, stored what it cannot give out, or the short
        way (`web/fastpath/requests.py`) has done something else than the long one.
    """
    outcome = _serve(data, short_way=True)
    assert outcome == _serve(data, short_way=False)
    for events, _ in outcome.stored:
        check(events)
    return outcome.answer.count(b"HTTP/1.1 200 OK")


def _serve(data: bytes, short_way: bool) -> Outcome:
    clock = Clock()
    ingest, deliveries, telemetry = Ingest(clock), Deliveries(), FakeTelemetry()
    access = AccessPolicy()
    api = HTTPApi(
        ingest=cast(Any, ingest),
        delivery=cast(Any, deliveries),
        store=cast(Any, FakeStore()),
        queries=cast(Any, FakeQueries()),
        telemetry=cast(Any, telemetry),
        send=send,
        ready=lambda: None,
        clock=clock,
        rules=RULES,
        trusted_proxies=Networks.parse(["192.0.2.0/24"]),
        access=access,
        bounds=EventBounds(access=access, limits=RULES, seconds=clock.seconds),
        now_ms=lambda: 1_700_000_000_000,
        hold=3600.0,
        udp_port=None,
    )

    def request(*args: Any) -> OneshotRequest:
        return OneshotRequest(*args, refused=telemetry.refused_request)

    site = Site(
        api.resource(),
        requestFactory=cast(Any, request),
        reactor=clock,
        body_limit=body_limit(MAX_HOOK_BODY_BYTES),
    )
    site.protocol = FastPathChannel
    if short_way:
        site.matcher = RequestMatcher(cast(Any, ingest), RULES, AccessPolicy())
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
            clock.advance(0)
        clock.advance(LONG)
        channel.connectionLost(Failure(ConnectionDone()))
        clock.advance(LONG)
    assert not failures, [event["log_failure"].getTraceback() for event in failures]
    assert not clock.getDelayedCalls()
    assert (site._held, site._large) == (0, 0)
    lines: list[bytes] = transport.value().split(b"\r\n")
    assert lines[0] == b"" or lines[0].startswith(b"HTTP/1."), lines
    # Also what no parser takes, or what is not complete in time, gets an answer.
    assert lines[0] != b"" or not sent.strip(b"\r\n"), sent
    assert not any(line.startswith((b"HTTP/1.0 500", b"HTTP/1.1 500")) for line in lines)
    for shipment in deliveries.shipments:
        assert shipment.told in (["delivered", "final"], ["returned"], ["delivered", "revoked"])
    return Outcome(
        answer=sorted(line for line in lines if not line.startswith(b"Date: ")),
        stored=[(list(group.events), group.key) for group, _ in ingest.groups],
        refusals=telemetry.refusals,
    )

"""``GET /metrics``: deliver pending events to a scraper, or show them without delivering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from attrs import define
from klein import Klein
from twisted.internet.interfaces import IReactorTime

from oneshotd.core.negotiation import accepts_gzip
from oneshotd.core.scrape_request import PARAMETERS, read_scrape_request
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import Delivery
from oneshotd.errors import Refused
from oneshotd.web.compression import MIN_COMPRESSED_SIZE, compressed
from oneshotd.web.error_responses import answer
from oneshotd.web.routes.clients import Clients
from oneshotd.web.transport.request import OneshotRequest, parameters


class Send(Protocol):
    """Sends a delivery; `oneshotd.web.transport.channel.send`, and fakes in tests."""

    def __call__(
        self, request: OneshotRequest, delivery: InFlightDelivery, /, *, deadline: float
    ) -> Awaitable[None]:
        """Send the body; status and headers are set. Return when the request may be finished.

        :param deadline: seconds from `request.arrived`.
        """


@define(kw_only=True, eq=False)
class ScrapeRoutes:
    """Answers scrapes and looks.

    :param delivery: makes the responses.
    :param send: sends a response with events and tracks its acknowledgement.
    """

    delivery: Delivery
    send: Send
    clock: IReactorTime
    clients: Clients

    async def metrics(self, request: OneshotRequest) -> bytes:
        """Answer a scrape, or a look at its response."""
        address = self.clients.check_reader(request)
        scrape = read_scrape_request(
            method=request.method,
            parameters=parameters(request.query, PARAMETERS),
            header=request.header,
            address=address,
            local=getattr(request.getHost(), "host", ""),
            timeout_expected=self.delivery.timed_before,
        )
        if scrape.own_only:
            body = await self.delivery.own_metrics(scrape.visit, scrape.wanted)
            return await encoded(request, body, scrape.wanted.format.content_type, self.clock)
        if scrape.look is not None:
            response = await self.delivery.look(scrape.visit, scrape.wanted, scrape.look)
            request.setHeader(b"Oneshotd-Look", b"1")
            return await encoded(request, response.body, response.content_type, self.clock)
        self.clients.check_scraper(request, scrape.visit)
        if self.delivery.is_receiver(scrape.visit.name):
            raise Refused(
                f"scraper: {scrape.visit.name} is a receiver of remote write, to which the daemon itself"
                " sends events; events=0 has the daemon's own metrics alone",
                reason="query",
            )
        delivery = await self.delivery.scrape(
            scrape.visit, scrape.wanted, timeout=scrape.deadline, origin=scrape.origin
        )
        if delivery.is_look:
            request.setHeader(b"Oneshotd-Look", b"1")
        try:
            delivery.body = await encoded(request, delivery.body, delivery.content_type, self.clock)
        except BaseException:  # Klein cancels this coroutine if the client hangs up (klein#840)
            if delivery.awaits_receipt:
                delivery.returned(uncertain=False)
            raise
        await self.send(request, delivery, deadline=scrape.deadline)
        return b""


async def encoded(request: OneshotRequest, body: bytes, content_type: str, clock: IReactorTime) -> bytes:
    """Set the headers for a body in an exposition format; return the body, perhaps compressed."""
    request.setHeader(b"Vary", b"Accept, Accept-Encoding")
    if len(body) >= MIN_COMPRESSED_SIZE and accepts_gzip(request.header(b"Accept-Encoding")):
        body = await compressed(body, clock)
        request.setHeader(b"Content-Encoding", b"gzip")
    return answer(request, body, content_type=content_type.encode("ascii"))


def register(app: Klein, routes: Callable[[Any], ScrapeRoutes]) -> None:
    """Add this route to `app`.

    :param routes: finds it in the object that `app` is bound to.
    """

    @app.route("/metrics", methods=["GET"])
    async def metrics(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).metrics(request)

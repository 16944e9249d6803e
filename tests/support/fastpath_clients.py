"""Clients of the fast path's listener."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import define, field
from support.bare_scraper import Scraper
from support.fastpath_requests import post
from support.memory_site import House, reactor, until

from oneshotd.ingest.pipeline import SubmitCallback

EVENT = post("a=1", "Connection: close")


@define
class HeldIntake:
    """Keeps who waits, until the test answers."""

    room: int = 1000
    events: list[str] = field(factory=list)
    takers: list[SubmitCallback] = field(factory=list)

    def take(self, series: Sequence[str], taker: SubmitCallback) -> bool:
        if len(self.events) + len(series) > self.room:
            return False
        self.events += series
        self.takers.append(taker)
        return True

    async def hold(self, count: int) -> None:
        """Wait until so many events are here."""
        await until(lambda: len(self.events) == count, lambda: f"{len(self.events)} are here")

    def stored(self) -> None:
        """Answer all."""
        takers, self.takers, self.events = self.takers, [], []
        for taker in takers:
            taker.stored(reactor.seconds())


def held(house: House) -> HeldIntake:
    """From now on the short way of this house ends here."""
    intake = HeldIntake()
    house.site.shortcut.intake = intake
    return intake


def knock(house: House, data: bytes = EVENT) -> Scraper:
    client = house.scraper()
    client.send(data)
    return client


async def heard(client: Scraper) -> bytes:
    """All that comes back; the time of day may differ, and the order of headers."""
    try:
        answer = await client.rest()
    except ConnectionResetError:
        return b"reset"
    lines = [re.sub(rb"^Date: .*", b"Date: -", line) for line in answer.split(b"\r\n")]
    return b"\r\n".join(sorted(lines))


async def ask(house: House, data: bytes) -> bytes:
    """All that comes back for these bytes."""
    with knock(house, data) as client:
        client.finish_sending()
        return await heard(client)

"""Clients of the fast path's listener."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import define, field
from support.bare_scraper import Scraper
from support.fastpath_requests import post
from support.memory_site import MemoryServer, reactor, until

from oneshotd.ingest.waiting import SubmitCallback

EVENT = post("a=1", "Connection: close")


@define
class HeldIngest:
    """Keeps submitted series and their callbacks until the test answers."""

    room: int = 1000
    events: list[str] = field(factory=list)
    callbacks: list[SubmitCallback] = field(factory=list)

    def submit_series(self, series: Sequence[str], callback: SubmitCallback) -> bool:
        if len(self.events) + len(series) > self.room:
            return False
        self.events += series
        self.callbacks.append(callback)
        return True

    async def hold(self, count: int) -> None:
        """Wait until so many events have been submitted."""
        await until(lambda: len(self.events) == count, lambda: f"{len(self.events)} are here")

    def stored(self) -> None:
        """Tell all callbacks that their events are stored."""
        callbacks, self.callbacks, self.events = self.callbacks, [], []
        for callback in callbacks:
            callback.on_stored(reactor.seconds())


def held(server: MemoryServer) -> HeldIngest:
    """Make the fast path of this site submit to a held ingest."""
    ingest = HeldIngest()
    server.site.matcher.ingest = ingest
    return ingest


def knock(server: MemoryServer, data: bytes = EVENT) -> Scraper:
    client = server.scraper()
    client.send(data)
    return client


async def heard(client: Scraper) -> bytes:
    """Return the whole answer, without its date and with its headers sorted."""
    try:
        answer = await client.rest()
    except ConnectionResetError:
        return b"reset"
    lines = [re.sub(rb"^Date: .*", b"Date: -", line) for line in answer.split(b"\r\n")]
    return b"\r\n".join(sorted(lines))


async def ask(server: MemoryServer, data: bytes) -> bytes:
    """Return the whole answer to these bytes."""
    with knock(server, data) as client:
        client.finish_sending()
        return await heard(client)

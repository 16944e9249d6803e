"""The short way before there is a transport, on real sockets: answered as any other, and bounded."""

from __future__ import annotations

import random
import re
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest_twisted
from attrs import define, field
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from web.bare_scraper import Scraper
from web.house import House, open_house, reactor, until
from web.test_shortcut import ODD, QUICK, mutant, post

from oneshotd.core.address import Networks
from oneshotd.core.wire import Rules
from oneshotd.intake import Taker
from oneshotd.web import quick_port
from oneshotd.web.shortcut import Shortcut

EVENT = post("a=1", "Connection: close")

#: Twisted's own port.
PLAIN = "tcp:0:interface=127.0.0.1"


@define
class HeldIntake:
    """Keeps who waits, until the test answers."""

    room: bool = True
    takers: list[Taker] = field(factory=list)

    def take(self, series: Sequence[str], taker: Taker) -> bool:
        if self.room:
            self.takers.append(taker)
        return self.room

    async def hold(self, count: int) -> None:
        """Wait until so many are here."""
        await until(lambda: len(self.takers) == count, lambda: f"{len(self.takers)} are here")


def held(house: House) -> HeldIntake:
    """From now on the short way of this house ends here."""
    intake = HeldIntake()
    house.site.shortcut.intake = intake
    return intake


def knock(house: House, data: bytes = EVENT) -> Scraper:
    client = house.scraper()
    client.send(data)
    return client


async def ask(house: House, data: bytes) -> bytes:
    """All that comes back for these bytes; the time of day may differ, and the order of headers."""
    with knock(house, data) as client:
        client.finish_sending()
        try:
            answer = await client.rest()
        except ConnectionResetError:
            return b"reset"
    lines = [re.sub(rb"^Date: .*", b"Date: -", line) for line in answer.split(b"\r\n")]
    return b"\r\n".join(sorted(lines))


@pytest_twisted.ensureDeferred
async def test_no_transport_is_made_for_one_event(tmp_path: Path) -> None:
    """It would cost twice as much."""
    async with open_house(tmp_path) as house:
        intake = held(house)
        with knock(house) as client:
            await intake.hold(1)
            assert not house.site._channels
            intake.takers.pop().stored(reactor.seconds())
            assert (await client.rest()).startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")


@pytest_twisted.ensureDeferred
async def test_every_request_is_answered_as_by_twisteds_own_port(tmp_path: Path) -> None:
    """Ordinary ones, odd ones, and hundreds with something wrong in them; and all has the same effect."""
    rng = random.Random(20261123)
    closing = [each.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1) for each in (*QUICK, *ODD)]
    requests = [*QUICK, *ODD, *closing, *(mutant(rng, EVENT, *QUICK) for _ in range(500))]
    (tmp_path / "plain").mkdir()
    async with open_house(tmp_path) as quick, open_house(tmp_path / "plain", PLAIN) as plain:
        plain.site.shortcut = None
        for data in requests:
            assert await ask(quick, data) == await ask(plain, data), data
        stored = [await house.store.events(0, {}, 10_000) for house in (quick, plain)]
        first, second = ([event.series for event in events] for events in stored)
        assert first == second and len(first) > 100


@pytest_twisted.ensureDeferred
async def test_what_the_store_refuses_is_asked_again_on_the_long_way(tmp_path: Path) -> None:
    """Nothing of the request may have been used up."""
    async with open_house(tmp_path) as house:
        intake = held(house)
        with knock(house) as client:
            await intake.hold(1)
            intake.room = False
            intake.takers.pop().not_stored()
            assert b" 200 OK" in await client.rest()
        assert (await house.store.census()).events == 1


@pytest_twisted.ensureDeferred
async def test_there_are_only_so_many_without_a_transport(tmp_path: Path) -> None:
    """While the disk hangs, clients that have long given up would take all descriptors."""
    async with open_house(tmp_path) as house:
        intake = held(house)
        crowd = [knock(house) for _ in range(quick_port.MAX_BARE + 3)]
        await intake.hold(len(crowd))
        assert len(house.site._channels) == 3
        while intake.takers:
            intake.takers.pop().stored(reactor.seconds())
        for client in crowd:
            assert b" 200 OK" in await client.rest()
            client.close()
        with knock(house):
            await intake.hold(1)
            assert not house.site._channels
            intake.takers.pop().stored(reactor.seconds())


@pytest_twisted.ensureDeferred
async def test_a_client_that_has_gone_hurts_nobody(tmp_path: Path) -> None:
    """With FIN or with RST, before the answer or before it is accepted at all."""
    async with open_house(tmp_path) as house:
        intake = held(house)
        for reset in (False, True):
            for wait in (False, True):
                client = knock(house)
                if wait:
                    await intake.hold(1)
                if reset:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4))
                client.close()
                await deferLater(reactor, 0.05)
                while intake.takers:
                    intake.takers.pop().stored(reactor.seconds())
        with knock(house) as client:
            await intake.hold(1)
            intake.takers.pop().stored(reactor.seconds())
            assert b" 200 OK" in await client.rest()


@pytest_twisted.ensureDeferred
async def test_who_may_not_emit_is_told_so(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        networks = Networks.parse(["192.0.2.0/24"])
        house.site.shortcut = Shortcut(house.site.shortcut.intake, Rules(), networks)
        house.doors.allow_emit = networks
        assert b" 403 " in await ask(house, EVENT)


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_those_without_a_transport(tmp_path: Path) -> None:
    """Their events are on disk, and they would not hear of it."""
    async with open_house(tmp_path) as house:
        intake = held(house)
        with knock(house) as client:
            await intake.hold(1)
            finished = house.site.finish()
            assert not finished.called
            intake.takers.pop().stored(reactor.seconds())
            assert finished.called
            assert b" 200 OK" in await client.rest()


@pytest_twisted.ensureDeferred
async def test_who_was_connected_at_the_end_is_still_answered(tmp_path: Path) -> None:
    """A restart would refuse events that have been sent already."""
    async with open_house(tmp_path) as house:
        with knock(house) as client, knock(house, post("a=2")) as other:
            house.port.stopListening()
            finished = house.site.finish()
            for each in (client, other):
                assert b" 200 OK" in await each.rest()
            await finished
        assert (await house.store.census()).events == 2


@contextmanager
def no_descriptors() -> Iterator[None]:
    """The process may open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest_twisted.ensureDeferred
async def test_without_descriptors_it_waits_and_says_so(tmp_path: Path) -> None:
    """The reactor would spin, or the door would stay shut for ever."""
    said: list[str] = []

    def observe(event: Any) -> None:
        said.append(str(event.get("text")))

    async with open_house(tmp_path) as house:
        with knock(house) as client, knock(house, post("a=2")) as other:
            globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
            try:
                with no_descriptors():
                    await deferLater(reactor, 3 * quick_port.RESPITE)
            finally:
                globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
            other.finish_sending()
            for each in (client, other):
                assert b" 200 OK" in await each.rest()
        assert said.count("Too many open files") == 1

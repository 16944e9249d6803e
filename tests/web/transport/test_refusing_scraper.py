"""A scraper on a bare socket that cannot parse one line, and resets the connection there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from support.bare_scraper import Scraper
from support.memory_site import MemoryServer, open_server, until
from support.store_log import held_events
from twisted.internet.threads import deferToThread

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.formats import parse_line
from oneshotd.core.parsing.grammar import Rules
from oneshotd.core.sampling.suspects import REFUSED

#: A line of the text format as this scraper takes it: no snowman in a label's value.
_LINE = re.compile(r'#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\☃]|\\["n\\])*",?)*\})? [0-9.eE+-]+')

RULES = Rules(metric="seen")


def read_lines(scraper: Scraper) -> list[str] | None:
    """The lines of a response; None where one cannot be parsed: then the rest stays unread."""
    data, length, seen = b"", None, 0
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end:
            length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
            lines = body.decode(errors="replace").splitlines()
            whole = lines if len(body) == length else lines[:-1]
            if not all(_LINE.fullmatch(line) for line in whole[seen:]):
                return None
            seen = len(whole)
            if len(body) == length:
                return lines
        piece = scraper.sock.recv(64)
        assert piece, "the connection ended"
        data += piece


async def scrape(server: MemoryServer) -> Counter[str] | None:
    """One scrape: the events in it; None where this scraper has thrown it away."""
    shipments = len(server.shipments)
    with server.scraper() as scraper:
        scraper.ask()
        lines = await deferToThread(read_lines, scraper)
        if len(server.shipments) > shipments and lines is None:
            scraper.close()
            thrown_away = ["returned"], ["delivered", "revoked"]
            await until(lambda: server.last in thrown_away, lambda: str(server.last))
    if lines is not None and len(server.shipments) > shipments:
        await server.fate("delivered", "final")
    if lines is None:
        return None
    found = Counter[str]()
    for line in lines:
        if line.startswith("seen{"):
            series, _, count = line.rpartition(" ")
            found[series] += int(count)
    return found


async def store(server: MemoryServer, *lines: str) -> None:
    events = [parse_line(line.encode(), rules=RULES) for line in lines]
    await server.store.append([Group(events=events)])


@pytest.mark.parametrize("end", ["\r", "\r\n", *"\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"], ids=ascii)
@pytest_twisted.ensureDeferred
async def test_a_scraper_that_splits_at_every_line_end_takes_every_event(tmp_path: Path, end: str) -> None:
    """One event with such a character cost all the others in its response."""
    async with open_server(tmp_path) as server:
        await store(server, *(f"number=x{quote(end)}y&n={number}" for number in "abc"))
        found = await scrape(server)
        assert found == Counter({f'seen{{n="{number}",number="x\\ny"}}': 1 for number in "abc"})


@pytest_twisted.ensureDeferred
async def test_a_line_that_it_cannot_parse_costs_that_event_alone(tmp_path: Path) -> None:
    """The same events would go out for ever, and none of them would be seen."""
    async with open_server(tmp_path) as server:
        good = [NewEvent(f'seen{{n="x{number}"}}') for number in "abcdefghijklmnopqrst"]
        events = [*good[:7], NewEvent('seen{n="☃"}'), *good[7:]]
        await server.store.append([Group(events=events)])
        found, resets, number = Counter[str](), 0, 0
        while not (await server.store.stats()).lost:
            await store(server, f"later=y{number}")
            answer = await scrape(server)
            resets, number = resets + (answer is None), number + 1
            found += answer or Counter()
            assert number < 40, "it is never found"
        while next(s.pending for s in (await server.store.stats()).scrapers):
            found += await scrape(server) or Counter()
        assert found == Counter(
            [*(event.series for event in good), *(f'seen{{later="y{each}"}}' for each in range(number))]
        )
        assert (await server.store.stats()).lost == {("one", REFUSED): 1}
        assert resets <= 12
        assert 'seen{n="☃"}' in [event.series for event in await held_events(server.store)]

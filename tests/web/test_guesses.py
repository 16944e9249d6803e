"""Guessed passwords: what they tell by their time, and whether they delay others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import pytest_twisted
from support import guesser
from support.credentials import basic, hashed
from support.memory_site import open_server, reactor, until
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from oneshotd.access.check_queue import PasswordThreads
from oneshotd.access.failed_attempts import BURST
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.errors import Refused

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

#: What `htpasswd -B` and most programs use is 5 to 12; 10 is Go's default.
COST = 10

#: Addresses that guess, and guesses of each.
GUESSERS, GUESSES = 12, 200

#: Most seconds that an answer to a known scraper may take, and one to a scraper whose password has to be
#: checked. The shortest timeout in use is 1 s, the usual one 10 s.
KNOWN, UNKNOWN = 0.8, 8.0


@pytest.fixture
def threads() -> Any:
    made = PasswordThreads(reactor)
    yield made
    made.stop()


@pytest_twisted.ensureDeferred
async def test_the_time_does_not_tell_which_users_there_are(threads: PasswordThreads) -> None:
    """A guesser would find the users first, and then try passwords of those only."""
    users = {"ann": hashed("a", 7), "ben": hashed("b", 7)}
    authenticator = Authenticator(users, threads, reactor)

    async def seconds(user: str, number: int) -> float:
        began = time.perf_counter()
        with pytest.raises(Refused):
            await authenticator.identify([basic(user, f"guess {number}")], f"2001:db8:{number:x}::1")
        return time.perf_counter() - began

    found: dict[str, list[float]] = {"ann": [], "nobody": [], "ben": [], "a" * 500: []}
    for number in range(31):
        for user, times in found.items():
            times.append(await seconds(user, number))
    medians = sorted(median(times) for times in found.values())
    assert medians[-1] / medians[0] < 1.5, found


def answered(port: int, address: str, password: str) -> float:
    """Return the seconds until a scrape is answered."""
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=30, source_address=(address, 0))
    connection.request("GET", "/metrics", headers={"Authorization": basic("prom", password).decode()})
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 200, response.status
    return time.perf_counter() - began


@pytest_twisted.ensureDeferred
async def test_thousands_of_wrong_passwords_delay_no_scraper(
    tmp_path: Path, threads: PasswordThreads
) -> None:
    """A guesser would make each scrape time out."""
    users = {"ci": hashed("secret", COST), "prom": hashed("right", COST)}
    policy = AccessPolicy()
    policy.update(rules=None, has_users=True)
    authenticator = Authenticator(users, threads, reactor)
    async with open_server(tmp_path, access=policy, authenticator=authenticator) as server:
        here: Any = server.port.getHost()
        scrape: Callable[[str], Deferred[float]] = lambda address: deferToThread(  # noqa: E731
            answered, here.port, address, "right"
        )
        await scrape("127.0.0.1")
        process = guesser.start(here.port, GUESSERS, GUESSES)
        ended = deferToThread(process.communicate)
        times = []
        while not ended.called:
            times.append(await scrape("127.0.0.1"))
        found = {int(status): count for status, count in json.loads((await ended)[0]).items()}
        assert sum(found.values()) == GUESSERS * GUESSES
        assert found.get(200, 0) == 0
        assert BURST * GUESSERS <= found[401] < 3 * BURST * GUESSERS
        assert len(times) > 10 and max(times) < KNOWN, sorted(times)[-5:]


@pytest_twisted.ensureDeferred
async def test_guesses_delay_a_new_client_by_a_turn_of_each_address(
    tmp_path: Path, threads: PasswordThreads
) -> None:
    """After a restart of the daemon, a guesser would make the first scrapes of all scrapers time out."""
    users = {"ci": hashed("secret", COST), "prom": hashed("right", COST)}
    policy = AccessPolicy()
    policy.update(rules=None, has_users=True)
    authenticator = Authenticator(users, threads, reactor)
    async with open_server(tmp_path, access=policy, authenticator=authenticator) as server:
        here: Any = server.port.getHost()
        process = guesser.start(here.port, GUESSERS, 3 * BURST)
        ended = deferToThread(process.communicate)
        queue = authenticator._queue
        await until(lambda: len(queue) > GUESSERS // 2, lambda: f"{len(queue)} guesses wait")
        times = await gatherResults(
            [deferToThread(answered, here.port, f"127.0.0.{number}", "right") for number in range(1, 4)]
        )
        assert not ended.called, "the guesses have ended too early"
        await ended
        assert max(times) < UNKNOWN, times

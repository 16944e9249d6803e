"""A client that cannot wait, or was told nothing, says it again: it still counts once.

What would be noticed if one of these failed: where a disk is slow or fails for a while, counts
are higher than what happened, or lower.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from support.in_process import PATIENCE, Disk, InProcess, SlowCommits, in_thread, io_error, running
from support.keyed_client import UDP, WAYS, Client, Way, as_bytes
from support.processes import until
from support.store_backends import SettableClock
from twisted.internet.defer import gatherResults

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

OVER_HTTP = {name: way for name, way in WAYS.items() if way is not UDP}
#: The status and the answer for what is new.
NEW = {"/event": (200, "ok\n"), "/events": (200, '{"stored": 1, "duplicates": 0}\n')}
CONFLICT = (422, "key 'k' was seen before with other content\n")

over_http = pytest.mark.parametrize("way", OVER_HTTP.values(), ids=OVER_HTTP)
in_doubt = pytest.mark.parametrize("came_through", [True, False], ids=["on disk", "not on disk"])


def new(way: Way) -> tuple[int, str]:
    return NEW[way.path.partition("?")[0]]


@over_http
@pytest_twisted.ensureDeferred
async def test_a_retry_waits_for_the_commit_of_the_first_and_gets_its_answer(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a client whose timeout is shorter than the commit of a slow disk would count twice."""
    async with running(tmp_path, monkeypatch) as daemon:
        client, slow = Client(daemon), SlowCommits()
        daemon.disk.commit = slow
        first = in_thread(client.say, way, "k", "a")
        assert await in_thread(slow.begun.wait, PATIENCE)
        others = [other for other in OVER_HTTP.values() if other is not way]
        retries = gatherResults([in_thread(client.say, other, "k", "a") for other in others])
        conflict = in_thread(client.say, way, "k", "b")
        send_datagram(daemon, "k", "a")
        await in_thread(until, lambda: daemon.waiting() == len(others) + 3, PATIENCE, "all have come")
        assert not (first.called or retries.called or conflict.called)
        slow.may_end.set()
        assert await first == new(way)
        assert await retries == [(200, other.again) for other in others]
        assert await conflict == CONFLICT
        assert await in_thread(client.figure, "oneshotd_events_duplicate_total") == len(others) + 1
        assert await in_thread(client.taken) == Counter(a=1)


@in_doubt
@over_http
@pytest_twisted.ensureDeferred
async def test_after_a_commit_that_failed_the_answer_says_what_is_on_disk(
    way: Way, came_through: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as daemon:
        client = Client(daemon)
        daemon.disk.commit = failing(daemon.disk, came_through, is_there=True)
        status, answer = await in_thread(client.say, way, "k", "a")
        assert (status, answer) == new(way) if came_through else is_refusal(status, answer)
        again = await in_thread(client.say, way, "k", "a")
        assert again == ((200, way.again) if came_through else new(way))
        assert await in_thread(client.say, way, "k", "b") == CONFLICT
        assert await in_thread(client.taken) == Counter(a=1)


@in_doubt
@over_http
@pytest_twisted.ensureDeferred
async def test_a_client_that_gave_up_while_nobody_knew_can_say_it_again(
    way: Way, came_through: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the daemon does not know what is on disk it says neither yes nor no."""
    async with running(tmp_path, monkeypatch) as daemon:
        client = Client(daemon)
        daemon.disk.commit = failing(daemon.disk, came_through, is_there=False)
        with socket.create_connection(("127.0.0.1", daemon.port)) as impatient:
            impatient.sendall(as_bytes(way.request(daemon.url, "k", "a")))
            await in_thread(until, lambda: not daemon.disk.is_there, PATIENCE, "a failed commit")
            for _ in range(3):
                status, answer = await in_thread(client.say, way, "k", "a")
                assert is_refusal(status, answer)
            impatient.setblocking(False)
            with pytest.raises(BlockingIOError):
                impatient.recv(1)
        daemon.disk.mend()
        await in_thread(until, lambda: not daemon.waiting(), PATIENCE, "the first is decided")
        again = await in_thread(client.say, way, "k", "a")
        assert again == ((200, way.again) if came_through else new(way))
        assert await in_thread(client.taken) == Counter(a=1)


def is_refusal(status: int, answer: str) -> bool:
    return status == 503 and answer.startswith("not stored: ") and answer.endswith("disk I/O error\n")


def failing(disk: Disk, came_through: bool, is_there: bool) -> Callable[[Callable[[], object]], None]:
    """The next commit fails in a way that leaves open whether it was done.

    :param is_there: whether the file can be opened afterwards.
    """

    def commit(do: Callable[[], object]) -> None:
        disk.commit = lambda do: do()
        disk.is_there = is_there
        if came_through:
            do()
        raise io_error()

    return commit


def send_datagram(daemon: InProcess, key: str, type_: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(UDP.datagram(key, type_), ("127.0.0.1", daemon.port))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest_twisted.ensureDeferred
async def test_a_key_is_known_for_the_hold_of_up_time_and_free_afterwards(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a daemon that was down for a day nor a step of the wall clock makes a key old."""
    time = SettableClock()
    async with running(tmp_path, monkeypatch, time=time) as daemon:
        await in_thread(Client(daemon).say, way, "k", "a")
        time.advance(1800)
        time.wall += 86400
    time.wall += 86400
    time.monotonic = 7.0
    async with running(tmp_path, monkeypatch, time=time) as daemon:
        client = Client(daemon)
        time.advance(1799)
        await in_thread(client.say, way, "k", "a")
        await in_thread(client.say, way, "k", "b")
        assert await in_thread(client.figure, "oneshotd_events_duplicate_total") == 1
        assert await in_thread(client.conflicts) == 1
        time.advance(2)
        await in_thread(client.say, way, "k", "b")
        assert await in_thread(client.conflicts) == 1
        assert await in_thread(client.taken) == Counter(b=1)

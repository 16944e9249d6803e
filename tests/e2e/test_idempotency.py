"""What a client says again is counted once: through every door, over restarts and crashes.

What would be noticed if one of these failed: after an interruption or a lost answer, a count is
higher than what happened, or lower.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from attrs import frozen
from support.daemon import Daemon
from support.keyed_client import UDP, WAYS, Client, Way, as_bytes

pytestmark = pytest.mark.e2e


@frozen
class Story:
    """Something that happens once, and the ways in which it is said."""

    first: Way
    then: Way
    key: str
    type: str


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as running:
        yield running
        assert running.errors() == []


def test_what_is_said_again_in_any_way_is_known_over_restarts_and_crashes(daemon: Daemon) -> None:
    """The key is what counts, not the door through which it came."""
    client = Client(daemon)
    stories = [
        Story(first, then, f"key-{number}", f"t{number}")
        for number, (first, then) in enumerate(product(WAYS.values(), repeat=2))
    ]
    for story in stories:
        assert client.say(story.first, story.key, story.type)[0] in (0, 200)
    assert client.figure("oneshotd_events_accepted_total") == len(stories)

    def crash() -> None:
        daemon.kill()
        daemon.start()

    for interrupt in (lambda: None, daemon.restart, crash):
        interrupt()
        before = client.figure("oneshotd_events_duplicate_total"), client.conflicts()
        for story in stories:
            status, answer = client.say(story.then, story.key, story.type)
            assert (status, answer) == ((0, "") if story.then is UDP else (200, story.then.again)), story
            status, answer = client.say(story.then, story.key, "other")
            assert status == (0 if story.then is UDP else 422), story
            assert story.then is UDP or answer == f"key '{story.key}' was seen before with other content\n"
        after = client.figure("oneshotd_events_duplicate_total"), client.conflicts()
        assert after == (before[0] + len(stories), before[1] + len(stories))

    assert client.taken() == Counter({story.type: 1 for story in stories})


def test_a_body_of_many_is_one_thing_under_its_key(daemon: Daemon) -> None:
    client = Client(daemon)
    lines = [f"type=t{number}" for number in range(100)]
    answer = (200, '{"stored": 100, "duplicates": 0}\n')
    for restart in (False, True):
        if restart:
            daemon.restart()
        assert client.post(*lines, key="many") == answer
        assert client.post(*lines[:-1], key="many")[0] == 422
        assert client.post(*reversed(lines), key="many")[0] == 422
    assert client.taken() == Counter({f"t{number}": 1 for number in range(100)})


def test_a_body_of_events_with_keys_stores_those_that_are_new(daemon: Daemon) -> None:
    """A client that crashed in the middle sends its whole file again."""
    client = Client(daemon)
    lines = [f"type=t{number}&__id__=file-{number}" for number in range(100)]
    assert client.post(*lines[:40]) == (200, '{"stored": 40, "duplicates": 0}\n')
    daemon.kill()
    daemon.start()
    assert client.post(*lines, *lines) == (200, '{"stored": 60, "duplicates": 140}\n')
    assert client.post(*lines, "type=new", "type=other&__id__=file-7")[0] == 422
    assert client.post(*lines, key="both")[0] == 400
    assert client.taken() == Counter({f"t{number}": 1 for number in range(100)})


def test_what_was_not_answered_before_a_crash_can_be_said_again(daemon: Daemon) -> None:
    """Whether it was on disk or not when the daemon was killed, in the end it is there once."""
    client = Client(daemon)
    chance = random.Random(3)
    expected: Counter[str] = Counter()
    unanswered = 0
    for round_ in range(4):
        said = [
            (way, f"crash-{round_}-{n}-{number}", f"r{round_}-{n}")
            for n in range(10)
            for number, way in enumerate(WAYS.values())
        ]
        chance.shuffle(said)
        expected.update(type_ for _, _, type_ in said)
        unanswered += crash_amid(daemon, said, chance.randrange(1, len(said) // 2))
        daemon.start()
        for story in said:
            status, answer = client.say(*story)
            assert status in (0, 200), answer
    assert unanswered, "no crash came in between: the test shows nothing"
    assert client.taken() == expected


def crash_amid(daemon: Daemon, said: Sequence[tuple[Way, str, str]], answers: int) -> int:
    """Say all at once, and kill the daemon after so many answers; how many did not come."""
    sockets = []
    for way, key, type_ in said:
        if way is UDP:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(way.datagram(key, type_), ("127.0.0.1", daemon.port))
            continue
        sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
        sockets.append(sock)
        sock.sendall(as_bytes(way.request(daemon.url, key, type_)))
    missing = len(sockets)
    for number, sock in enumerate(sockets):
        if number == answers:
            daemon.kill()
        with sock, suppress(ConnectionResetError):
            missing -= sock.recv(13) == b"HTTP/1.1 200 "
    return missing

"""Large webhooks from several clients at once: the daemon serves those whom it knows, in bounded memory."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import pytest
from support.clients import post_many
from support.crowd import Crowd
from support.daemon import Daemon
from support.siege import besieged

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

#: Seconds that a flood lasts; ``make soak`` may ask for more.
SECONDS = float(os.environ.get("ONESHOTD_FLOOD_SECONDS", "1.5"))

MIB = 1 << 20
LARGEST = 25 * MIB

#: MiB: the bodies that fit, the copy that goes to the process that reads it, and what the allocator keeps of
#: blocks that were freed.
GROWTH = 2 * (64 + 2 * 25) + 80

HOOK = """\
each = "/builds"
key = "{/id}"

[labels]
type = "=build"
"""


def daemon_with_hook(folder: Path) -> Daemon:
    hooks = folder / "hooks"
    hooks.mkdir()
    (hooks / "ci.toml").write_text(HOOK, encoding="utf-8")
    return Daemon(folder, more=[f"--hooks={hooks}"])


def whole(size: int) -> bytes:
    """A body of exactly this size with one build."""
    frame = b'{"builds": [{"id": 1, "log": "%b"}]}'
    return frame % (b"x" * (size - len(frame) + 2))


def send(daemon: Daemon, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Post a webhook; return the status and the body of its answer."""
    with closing(HTTPConnection("127.0.0.1", daemon.port, timeout=60)) as connection:
        connection.request("POST", "/hook/ci", body, {**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_the_largest_body_holds_up_nobody(tmp_path: Path, coding: str) -> None:
    """A scrape would fail while a webhook is read."""
    body = whole(LARGEST)
    assert len(body) == LARGEST
    sent = gzip.compress(body, 1) if coding == "gzip" else body
    with daemon_with_hook(tmp_path) as daemon:
        with besieged(daemon, growth=GROWTH, interval=0.02) as siege:
            status, text = send(daemon, sent, **{"Content-Encoding": coding})
        assert (status, json.loads(text)) == (200, {"stored": 1, "duplicates": 0, "ignored": 0})
        assert siege.worst_scrape < 1.0
        status, text = send(daemon, body + b" ")
        assert (status, text) == (413, b"body: expected at most 26214400 bytes\n")
        daemon.stop()


def test_several_large_bodies_share_the_memory(tmp_path: Path) -> None:
    """Eight of them would be 400 MiB; those for which there is no room are told to come again."""
    body, found = whole(LARGEST), Counter[int]()

    def one(daemon: Daemon) -> None:
        try:
            found[send(daemon, body)[0]] += 1
        except OSError:
            found[0] += 1  # refused while it still sends

    with daemon_with_hook(tmp_path) as daemon:
        with besieged(daemon, growth=GROWTH):
            threads = [Thread(target=one, args=(daemon,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(90)
        assert sum(found.values()) == 8 and found[200] >= 1, found
        assert set(found) <= {0, 200, 503}, found
        assert send(daemon, body)[0] == 200  # all memory is given back
        daemon.stop()


def test_large_bodies_that_do_not_end(tmp_path: Path) -> None:
    """Each may have 25 MiB, but all together they may not have a GiB; small webhooks come in meanwhile."""
    head = b"POST /hook/ci HTTP/1.1\r\nHost: a\r\nContent-Length: 26214400\r\n\r\n"
    part = head + b"x" * (24 * MIB)
    with daemon_with_hook(tmp_path) as daemon:
        with (
            besieged(daemon, growth=GROWTH),
            Crowd(daemon.port, 40, says=lambda _: part, once=True).gathered() as crowd,
        ):
            crowd.act(3 * SECONDS)
            status, _ = send(daemon, whole(MIB // 2))
            assert status in (200, 503)  # 503 if the process is busy with another one
        assert any(b" 503 " in answer for answer in crowd.answers)
        assert post_many(daemon, range(1000), padding=900).status == 200
        daemon.stop()


def test_bombs(tmp_path: Path) -> None:
    """A few kilobytes each, a GiB together when they are inflated."""
    bomb = gzip.compress(b"[" + b" " * (LARGEST - 1))
    endless = gzip.compress(bytes(40 * LARGEST), 1)[: MIB // 2]
    head = b"POST /hook/ci HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    sent = [head % len(body) + body for body in (bomb, endless)]
    with daemon_with_hook(tmp_path) as daemon:
        with (
            besieged(daemon, growth=GROWTH),
            Crowd(daemon.port, 40, says=lambda number: sent[number % 2], once=True).gathered() as crowd,
        ):
            crowd.act(2 * SECONDS)
        assert crowd.sent > 40 * len(bomb)
        assert send(daemon, whole(MIB))[0] == 200
        daemon.stop()

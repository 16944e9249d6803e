"""A disk that is full, read-only, failing, slow or has rotted, under a real daemon.

What was acknowledged comes, once; what cannot be stored is refused, and says why; and when the
disk is back, so is the service.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from daemon import Daemon
from e2e.clients import Answer, Scraper, emitting, figures, post, post_many, readiness, send
from e2e.disks import STORE, FaultyDisk, SmallDisk, daemon_with
from processes import until

pytestmark = pytest.mark.e2e

MIB = 1 << 20


def all_came(scraper: Scraper, numbers: Iterable[int]) -> None:
    """Wait until all these have come, each once and nothing else."""
    wanted = dict.fromkeys(numbers, 1)

    def came() -> bool:
        scraper.scrape()
        return len(scraper.numbers) >= len(wanted)

    until(came, 20, lambda: f"all: {len(scraper.numbers)} of {len(wanted)}")
    scraper.scrape()
    assert scraper.numbers == wanted


def refused_for(daemon: Daemon, why: str) -> None:
    """Nothing is accepted through any door, and every place that can say why says so."""
    assert_refusal(post(daemon, "type=late&n=900001"), why)
    assert_refusal(post_many(daemon, range(900_002, 900_004)), why)
    assert_refusal(readiness(daemon), why)
    before = figures(daemon)['oneshotd_refused_total{reason="store"}']
    send(daemon, b"type=late&n=900005\ntype=late&n=900006")
    refused = 'oneshotd_refused_total{reason="store"}'
    until(lambda: figures(daemon)[refused] == before + 2, 10, "two lines counted as refused")
    assert figures(daemon)["oneshotd_store_writable"] == 0
    assert daemon.get("/healthz") == "ok\n"  # a restart would not help


def assert_refusal(answer: Answer, why: str) -> None:
    assert answer.status == 503, answer
    assert why in answer.text
    assert answer.retry_after is not None
    assert answer.text.count("\n") == 1


def gets_nothing_twice(scraper: Scraper) -> None:
    """The end of its last delivery cannot be stored: it is answered, and not with the same again."""
    before = dict(scraper.numbers)
    for _ in range(3):
        assert scraper.scrape() == 0
    assert scraper.numbers == before


def is_back(daemon: Daemon) -> None:
    until(lambda: readiness(daemon).status == 200, 10, lambda: f"ready: {readiness(daemon)}")


def test_a_full_disk_refuses_and_resumes_when_there_is_room(tmp_path: Path) -> None:
    """The disk ran full over night: nobody's event is lost or doubled, nobody has to restart it."""
    disk = SmallDisk(tmp_path, 8 * MIB)
    with daemon_with(tmp_path / "daemon", disk.option, within=disk.within) as daemon:
        ballast = disk.seen_by(daemon) / "ballast"
        ballast.write_bytes(bytes(6 * MIB))
        ann, bob = Scraper(daemon, "ann"), Scraper(daemon, "bob")
        assert ann.scrape() == bob.scrape() == 0
        accepted = 0
        for _ in range(100):
            answer = post_many(daemon, range(accepted, accepted + 100), padding=1000)
            if answer.status != 200:
                break
            accepted += 100
        assert accepted > 0
        assert_refusal(answer, "full")

        refused_for(daemon, "full")
        assert ann.scrape() == accepted
        gets_nothing_twice(ann)
        daemon.kill()  # and it does not come back with less
        daemon.start_again()

        ballast = disk.seen_by(daemon) / "ballast"
        ballast.unlink()
        is_back(daemon)
        assert post_many(daemon, range(accepted, accepted + 100)).status == 200
        all_came(bob, range(accepted + 100))
        daemon.stop()
    assert daemon.process.log_text().count("the store cannot be written") <= 5

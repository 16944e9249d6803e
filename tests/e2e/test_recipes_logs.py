"""docs/recipes.md: rsyslog and the journal, each of them real; and the mapping for Telegraf."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import BROWSER, environment
from support.debian_packages import fetch_with_libraries
from support.disks import skip_or_fail
from support.processes import Process, until
from support.recipe_machine import PATIENCE, Machine, machine
from support.recipes_page import block, promises
from support.rsyslog import Rsyslog

pytestmark = pytest.mark.e2e

BOOT = "0123456789abcdef0123456789abcd00"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def log(server: Rsyslog, priority: int, text: bytes) -> None:
    """Send a message as syslog(3) does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(server.socket))
        sender.send(b"<%d>%s shop: %s" % (priority, time.strftime("%b %d %H:%M:%S").encode(), text))


@pytest.fixture
def rsyslog(here: Machine) -> Iterator[Rsyslog]:
    here.install(here.programs / "rsyslog-oneshotd", block("rsyslog", "sh"))
    (here.programs / "logger").symlink_to("/bin/true")
    config, pauses = re.subn(r'(resumeInterval)="10"', r'\1="1"', here.adapted(block("rsyslog", "rsyslog")))
    assert pauses == 1
    with Rsyslog(here.folder / "rsyslog", config, here.variables["PATH"]) as server:
        yield server


def test_a_message_of_syslog_is_one_event(here: Machine, rsyslog: Rsyslog) -> None:
    """A quotation mark, a byte that is no UTF-8 or a long text would stop all messages behind it."""
    log(rsyslog, 11, b'"quoted" \\ & 100 % = $(id) \xff \xc3\xbc')
    log(rsyslog, 14, b"of severity info")
    log(rsyslog, 11, "ü".encode() * 1500)
    log(rsyslog, 11, b"the last")
    odd, long, last = here.await_events(3, type="log")
    assert odd["detail"]["text"] == ' "quoted" \\ & 100 % = $(id)  ü'
    assert long["detail"]["text"] == " " + "ü" * 999
    assert last["detail"]["text"] == " the last"
    assert odd["detail"]["time"][:4] == time.strftime("%Y")
    name = odd["labels"]["host"]
    assert here.samples() == [promises("rsyslog")[0].replace("web-1", name).replace("} 1", "} 3")]
    assert here.duplicates() == 0


def test_messages_wait_for_the_daemon_also_over_a_restart_of_rsyslog(here: Machine, rsyslog: Rsyslog) -> None:
    """The messages that matter are those of the time in which things break."""
    log(rsyslog, 11, b"before")
    here.await_events(1, type="log")
    here.daemon.stop()
    for number in range(20):
        log(rsyslog, 11, b"meanwhile %d" % number)
    rsyslog.await_received("meanwhile 19")
    spool = rsyslog.folder / "spool"
    rsyslog.process.stop()
    assert any(path.name.startswith("oneshotd") for path in spool.iterdir())
    rsyslog.start()
    here.daemon.start()
    last = " meanwhile 19"
    until(lambda: here.events(type="log")[-1]["detail"]["text"] == last, PATIENCE, "the last message")
    texts = [event["detail"]["text"] for event in here.events(type="log")]
    # Rsyslog loses the one that it is trying to send when it stops (its issue 5364), in older versions.
    assert texts in (
        [" before", *(f" meanwhile {number}" for number in range(first, 20))] for first in (0, 1)
    )


def test_an_answer_that_is_lost_counts_once(here: Machine, rsyslog: Rsyslog) -> None:
    """The message is sent again, with the key that it had."""
    curl = here.programs / "curl"
    real = curl.resolve()
    curl.unlink()
    mark = here.folder / "lost"
    lost = f'if [ ! -e {mark} ]; then touch {mark}; {real} "$@" > /dev/null; printf 000; exit 52; fi'
    curl.write_text(f'#!/bin/sh\n{lost}\nexec {real} "$@"\n')
    curl.chmod(0o755)
    log(rsyslog, 11, b"once")
    until(lambda: here.duplicates() == 1, PATIENCE, "the message is sent again")
    here.await_events(1, type="log")


class Journal:
    """A journal of its own, written by systemd-journal-remote, and `journalctl` for it.

    :param programs: where `journalctl` is to be found.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        folder.mkdir()
        root = fetch_with_libraries("systemd-journal-remote")
        self._writer = next(root.rglob("systemd/systemd-journal-remote"))
        libraries = {str(found.parent) for found in root.rglob("lib*.so*")}
        self._env = {**environment(), "LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))}
        self._written = 0
        real = shutil.which("journalctl")
        if real is None:
            skip_or_fail("journalctl is not installed, and its package needs more of systemd")
        script = programs / "journalctl"
        script.write_text(f'#!/bin/sh\nexec {real} --directory={folder} "$@"\n')
        script.chmod(0o755)

    def write(self, *texts: str | bytes) -> None:
        """Append a record for each text, in the export format of the journal."""
        records = b""
        for text in texts:
            self._written += 1
            now = time.time_ns() // 1000
            fields = {
                "__CURSOR": f"s={BOOT};i={self._written:x};b={BOOT};m={self._written:x};t={now:x};x=1",
                "__REALTIME_TIMESTAMP": now,
                "__MONOTONIC_TIMESTAMP": self._written,
                "_BOOT_ID": BOOT,
                "_HOSTNAME": "web-1",
                "_SYSTEMD_UNIT": "shop.service",
                "PRIORITY": 3,
            }
            records += "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
            data = text if isinstance(text, bytes) else text.encode()
            records += b"MESSAGE\n" + len(data).to_bytes(8, "little") + data + b"\n\n"
        command = (str(self._writer), f"--output={self._folder / 'system.journal'}", "--split-mode=none", "-")
        subprocess.run(
            command, input=records, env=self._env, check=True, capture_output=True, timeout=PATIENCE
        )


def follower(here: Machine) -> Process:
    """Return the program of the recipe, which is not started yet."""
    program = here.install(here.programs / "journal-events", block("The journal of systemd", "python"))
    command = (sys.executable, str(program), str(here.folder / "cursor"))
    return Process("journal-events", command, here.folder, here.variables)


def test_the_journal_is_followed_over_restarts(here: Machine) -> None:
    """Records of the time in which the program did not run are those that are missed."""
    journal = Journal(here.folder / "journal", here.programs)
    journal.write("an old record")
    process = follower(here)
    cursor = here.folder / "cursor"
    process.start(lambda: True)
    try:
        # journalctl begins to follow at some time after its start.
        def followed() -> bool:
            journal.write("first")
            return bool(here.events(type="log"))

        process.until(followed, PATIENCE, "follows the journal")
        until(cursor.exists, PATIENCE, "a cursor")
        begun = len(here.events(type="log"))
        journal.write("x" * 5000, b"no text \xff\x00", 'quoted " & 100 %')
        until(lambda: here.events(type="log")[-1]["detail"]["text"] == 'quoted " & 100 %', PATIENCE, "events")
        texts = [event["detail"]["text"] for event in here.events(type="log")]
        assert "an old record" not in texts
        assert texts[-3] == "null"
        assert json.loads(texts[-2]) == list(b"no text \xff\x00")
        sample = promises("The journal of systemd")[0].replace("} 1", f"}} {len(texts)}")
        assert (here.samples(), len(texts) >= begun + 3) == ([sample], True)
        known = len(here.events(type="log"))
        process.kill()
        journal.write(*(f"missed {number}" for number in range(15)))
        here.daemon.stop()
        process.start(lambda: True)
        here.daemon.start()
        until(lambda: len(here.events(type="log")) >= known + 15, PATIENCE, "the records of that time")
        later = [event["detail"]["text"] for event in here.events(type="log")][known:]
        assert later == [f"missed {number}" for number in range(15)]
        assert here.duplicates() == 0
    finally:
        process.kill()


def test_a_cursor_that_was_not_written_counts_once(here: Machine) -> None:
    """A crash after the answer: the program sends the record again."""
    journal = Journal(here.folder / "journal", here.programs)
    journal.write("first", "second", "third")
    command = (str(here.programs / "journalctl"), "--output=json", "--lines=3")
    records = [json.loads(line) for line in here.run(*command).splitlines()]
    cursor = here.folder / "cursor"
    process = follower(here)
    for expected in (0, 2):
        cursor.write_text(records[0]["__CURSOR"])
        process.start(lambda: cursor.read_text() == records[2]["__CURSOR"], PATIENCE)
        process.kill()
        assert [event["detail"]["text"] for event in here.events(type="log")] == ["second", "third"]
        assert here.duplicates() == expected


def test_systemd_takes_the_unit(here: Machine) -> None:
    """A unit that systemd refuses would follow nothing."""
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed, and needs more of systemd than its package")
    here.install(here.programs / "journal-events", block("The journal of systemd", "python"))
    unit = here.install(here.folder / "journal-events.service", block("The journal of systemd", "systemd"))
    unit.chmod(0o644)
    variables = {"SYSTEMD_UNIT_PATH": f"{here.folder}:"}
    said = here.run("sh", "-c", f"systemd-analyze verify --man=no {unit} 2>&1", **variables)
    assert [line for line in said.splitlines() if unit.name in line] == []


def test_telegraf(tmp_path: Path) -> None:
    """A message as the output plug-in `http` documents it."""
    settings = tomllib.loads(block("Telegraf and the Influx line protocol", "toml", 0))["outputs"]["http"][0]
    assert settings["url"].endswith("/hook/telegraf")
    assert settings["use_batch_format"] is True
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "telegraf.toml").write_text(block("Telegraf and the Influx line protocol", "toml", 1))
    point = {
        "fields": {"seconds": 12.5},
        "name": "deploy",
        "tags": {"host": "web-1", "service": "shop"},
        "timestamp": 1_795_860_000_000_000_001,
    }
    with machine(tmp_path, more=[f"--hooks={hooks}"]) as here:
        for _ in range(2):
            with BROWSER.open(f"{here.daemon.url}/hook/telegraf", json.dumps({"metrics": [point]}).encode()):
                pass
        assert here.samples() == promises("Telegraf and the Influx line protocol")
        assert here.duplicates() == 1

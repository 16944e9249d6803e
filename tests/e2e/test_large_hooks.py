"""A webhook of 25 MB beside scrapes, in a real daemon with files of hooks."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.daemon import BROWSER, Daemon
from support.hook_messages import CI, build
from support.processes import until

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

#: What a scrape may wait beside a large webhook, and attempts: another process may hold this one up.
MOST_SECONDS, ATTEMPTS = 0.05, 4

#: Without values: a scrape takes one value of a series, and with thousands that are queued for the next ones
#: it takes tens of milliseconds by itself.
COUNTED = CI.replace('value = "/seconds"\n', "")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "ci.toml").write_text(COUNTED)
    with Daemon(tmp_path, more=[f"--hooks={hooks}"]) as started:
        yield started


def body(builds: int, size: int, first: int = 0) -> bytes:
    """A body of `COUNTED` of about this size; most of it is not mapped."""
    step = {"name": "step 1", "ok": True, "seconds": 1.5}
    many = {"steps": [step] * (size // builds // len(json.dumps([step])))}
    return json.dumps(
        {"ref": "main", "builds": [{**build(first + number), **many} for number in range(builds)]}
    ).encode()


def post(daemon: Daemon, data: bytes, name: str = "ci") -> Mapping[str, int]:
    request = urllib.request.Request(f"{daemon.url}/hook/{name}", data, {"Content-Type": "application/json"})
    with BROWSER.open(request, timeout=60) as answer:
        found: Mapping[str, int] = json.loads(answer.read())
    return found


def scrape(daemon: Daemon) -> str:
    with BROWSER.open(f"{daemon.url}/metrics?scraper=ann", timeout=20) as answer:
        return str(answer.read().decode())


def slowest_scrape_beside(daemon: Daemon, data: bytes) -> float:
    """Scrape while a webhook is sent and answered; return the seconds of the slowest scrape."""
    answered = threading.Event()
    answers: list[Mapping[str, int]] = []

    def send() -> None:
        try:
            answers.append(post(daemon, data))
        finally:
            answered.set()

    sender = threading.Thread(target=send)
    sender.start()
    seconds = []
    while not answered.wait(0.005):
        before = time.monotonic()
        scrape(daemon)
        seconds.append(time.monotonic() - before)
    sender.join()
    assert answers and len(seconds) > 5
    return max(seconds)


@pytest.mark.parametrize("builds", [100, 10_000])
def test_a_scrape_beside_25_mb_does_not_wait(daemon: Daemon, builds: int) -> None:
    """Each scrape would wait for seconds, and those with a short timeout would have a gap."""
    scrape(daemon)
    slowest: list[float] = []
    for attempt in range(ATTEMPTS):
        data = body(builds, 25_500_000, attempt * builds)
        assert 20_000_000 < len(data) < 25 * 1024 * 1024
        slowest.append(slowest_scrape_beside(daemon, data))
        if slowest[-1] <= MOST_SECONDS:
            break
    assert min(slowest) <= MOST_SECONDS, slowest


def test_ten_thousand_builds_are_events_once(daemon: Daemon) -> None:
    data = body(10_000, 0)
    assert post(daemon, data) == {"stored": 10_000, "duplicates": 0, "ignored": 0}
    assert post(daemon, data) == {"stored": 0, "duplicates": 10_000, "ignored": 0}
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(daemon, body(10_001, 0))
    assert refused.value.code == 413
    refused.value.close()


def processes(daemon: Daemon) -> list[int]:
    """The processes that read large bodies for this daemon."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == daemon.process.pid:
                found.append(int(folder.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def test_no_process_outlives_the_daemon(daemon: Daemon) -> None:
    """After a crash a process would go on, beside the one of the next daemon."""
    sender = threading.Thread(target=_ignore_the_end, args=(daemon, body(100, 25_000_000)))
    sender.start()
    until(lambda: processes(daemon), 30, "a process")
    children = processes(daemon)
    daemon.kill()
    until(lambda: not any(_runs(child) for child in children), 10, "the end of the process")
    sender.join()


def _ignore_the_end(daemon: Daemon, data: bytes) -> None:
    with pytest.raises((OSError, urllib.error.URLError)):
        post(daemon, data)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_changed_file_is_in_force_after_a_moment(daemon: Daemon, tmp_path: Path) -> None:
    """A restart for each change would be a gap for all other senders."""
    new = tmp_path / "hooks" / ".new"
    new.write_text('labels.type = "=changed"')
    new.rename(tmp_path / "hooks" / "cd.toml")
    until(lambda: _is_there(daemon, "cd"), 20, "the new hook")
    assert 'events_to_metrics{type="changed"}' in scrape(daemon)


def _is_there(daemon: Daemon, name: str) -> bool:
    try:
        return bool(post(daemon, b"{}", name)["stored"])
    except urllib.error.HTTPError as error:
        error.close()
        code = error.code
    assert code == 404
    return False

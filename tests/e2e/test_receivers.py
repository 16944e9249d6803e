"""Real receivers of remote write as the judge: each event once, at its own millisecond, and then gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.disks import SmallDisk
from support.postgresql_server import running_server
from support.processes import free_port, until
from support.prometheus import Prometheus, scrape_config
from support.pushed_events import PATIENCE, SELECTOR, accepted, await_all, lines, lost, pending, post
from support.receiver_line import ReceiverLine
from support.receivers import STORES, Store, receiver, receivers_file, samples

pytestmark = pytest.mark.e2e

NEWEST = next(store for store in STORES if store.name == "prometheus-sid")
PROMETHEUSES = [store for store in STORES if store.is_prometheus and store.name != "prometheus-window"]
#: Seconds for which a Prometheus sees the newest sample of a series that has no marker.
LOOKBACK = 300


@pytest.fixture(params=STORES, ids=lambda store: store.name)
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.param
    return found


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Prometheus]:
    with receiver(store, tmp_path / "server") as running:
        yield running


def test_each_event_once_at_its_own_time_and_then_gone(
    store: Store, server: Prometheus, tmp_path: Path
) -> None:
    """An event would have the time of something else, linger for five minutes, or be counted twice."""
    file = receivers_file(tmp_path / "receivers.toml", {"r": server.port}, visible='"3s"', **store.keys)
    with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
        post(daemon, *lines(0))
        post(daemon, "type=x&n=last&value=7&job=cron&instance=db")
        await_all(daemon, server)
        assert lost(daemon) == {}
        (last,) = accepted(daemon)["last"]
        at = last[0] / 1000
        until(lambda: 'markers_total{result="accepted"' in daemon.look(), 5, "the metrics")
        selector = SELECTOR.replace("}", ',n="last",exported_job="cron",exported_instance="db"}')
        visible = [
            bool(server.query(f"{selector} @ {at + seconds:.3f}")) for seconds in (-0.001, 0, 1, 2.999)
        ]
        assert visible == [False, True, True, True]
        until(lambda: not server.query(f"{selector} @ {at + 3:.3f}"), 15, "the end of the series")
        assert not server.query(f"{selector} @ {at + 100:.3f}")
        [count] = server.query(f"count_over_time(({selector})[20s:1s] @ {at + 10:.3f})")
        assert float(count["value"][1]) == 3
        assert daemon.errors() == []


def test_kills_and_lost_messages_cost_nothing(store: Store, server: Prometheus, tmp_path: Path) -> None:
    """An event would be missing, or counted twice, after a crash on either side."""
    with ReceiverLine(server.port) as line:
        file = receivers_file(tmp_path / "receivers.toml", {"r": line.port}, visible='"1s"', **store.keys)
        with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
            line.every = 4
            for number in range(6):
                for part in range(4):
                    post(daemon, *lines(number * 10 + part))
                if number in (1, 3):
                    server.process.kill()
                    post(daemon, *lines(number * 10 + 4))
                    server.start()
                if number in (2, 3, 4):
                    daemon.kill()
                    daemon.start()
                before = line.requests
                until(lambda: line.requests > before + 3 or not pending(daemon), PATIENCE, "requests")  # noqa: B023
            line.every = 0
            await_all(daemon, server)
            assert line.broken > 3
            assert lost(daemon) == {}
            assert daemon.errors() == []


def test_a_receiver_that_was_away_gets_everything(store: Store, server: Prometheus, tmp_path: Path) -> None:
    """Maintenance of a receiver would cost events; or the daemon would not stop without it."""
    file = receivers_file(tmp_path / "receivers.toml", {"r": server.port}, visible='"1s"', **store.keys)
    with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
        post(daemon, *lines(0))
        await_all(daemon, server)
        server.stop()
        post(daemon, *lines(1))
        daemon.restart()
        assert pending(daemon) == 60
        server.start()
        await_all(daemon, server)
        assert lost(daemon) == {}


@pytest.mark.parametrize("store", PROMETHEUSES, ids=lambda store: store.name)
def test_exact_times_no_longer_linger(store: Store, tmp_path: Path) -> None:
    """Whoever wants the exact time of an event would see it for five minutes, as in a scrape with times."""
    program = fetch("prometheus", store.suite) / "usr/bin/prometheus"
    with receiver(store, tmp_path / "pushed") as pushed:
        file = receivers_file(tmp_path / "receivers.toml", {"r": pushed.port}, visible='"2s"')
        with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
            config = scrape_config("s", f"127.0.0.1:{daemon.port}").replace(
                "scraper: [s]", "scraper: [s], timestamps: [event]"
            )
            with Prometheus(program, tmp_path / "scraped", config) as scraped:
                scraped.await_scrapes(2)
                post(daemon, "type=x&n=1")
                [(at, _)] = accepted(daemon)["1"]
                selector = 'events_to_metrics{type="x"}'
                until(lambda: scraped.query(f"{selector}[5m]"), 20, "the event in a scrape")
                until(lambda: not pushed.query(f"{selector} @ {at / 1000 + 2:.3f}"), 20, "the marker")
                for each in (pushed, scraped):
                    assert samples(each, f"{selector}[5m]") == {"1": [(at, 1.0)]}
                # Seconds after the event at which it is seen; queries may ask for a time to come.
                ends = {pushed: 2, scraped: LOOKBACK}
                for each, end in ends.items():
                    instants = (-0.001, 0, 1.999, 2, 200, LOOKBACK - 0.001, LOOKBACK + 0.001)
                    assert [s for s in instants if each.query(f"{selector} @ {at / 1000 + s:.3f}")] == [
                        s for s in instants if 0 <= s < end
                    ]
                    points = shown(each, selector, at / 1000, LOOKBACK + 10)
                    is_closed = each is scraped and store.suite != "sid"  # Prometheus 3 leaves that edge out
                    assert points == [*range(end), *[end] * is_closed]


def shown(server: Prometheus, selector: str, start: float, seconds: int) -> list[int]:
    """Return the whole seconds after `start` at which a range query has a point."""
    step = {"start": f"{start:.3f}", "end": f"{start + seconds:.3f}", "step": "1"}
    url = f"{server.url}/api/v1/query_range?{urllib.parse.urlencode({'query': selector, **step})}"
    with BROWSER.open(url, timeout=10) as answer:
        [row] = json.load(answer)["data"]["result"]
    return [round(at - start) for at, _ in row["values"]]


def test_a_wrong_path_is_said_loudly_and_mended_by_the_file(tmp_path: Path) -> None:
    """Events would be lost after the hold, and nobody would know why."""
    with receiver(NEWEST, tmp_path / "server") as server:
        path = tmp_path / "receivers.toml"
        receivers_file(path, {"r": server.port}, url=f'"http://127.0.0.1:{server.port}/api/v1/wrong"')
        with Daemon(tmp_path / "daemon", more=[f"--receivers={path}"]) as daemon:
            post(daemon, *lines(0))
            until(lambda: "warning: receiver r takes no events" in daemon.get("/readyz"), 30, "the warning")
            assert 'oneshotd_receiver_misconfigured{scraper="r"} 1.0' in daemon.look()
            assert "HTTP 404" in "".join(daemon.errors())
            receivers_file(path, {"r": server.port})
            await_all(daemon, server)
            assert daemon.get("/readyz") == "ok\n"


def test_a_receiver_that_never_answers_delays_nobody(tmp_path: Path) -> None:
    """One receiver could stop the events of all others."""
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, receiver(NEWEST, tmp_path / "server") as server:
        ports = {"silent": silent.getsockname()[1], "r": server.port}
        file = receivers_file(tmp_path / "receivers.toml", ports, timeout='"60s"')
        with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
            for number in range(10):
                post(daemon, *lines(number))
            await_all(daemon, server)
            assert pending(daemon) == 600
            daemon.stop()
            assert daemon.errors() == []


def test_a_receiver_whose_disk_is_full_gets_everything_later(tmp_path: Path) -> None:
    """The disk of the Prometheus ran full over night: its events would be lost, or refused one by one."""
    disk = SmallDisk(tmp_path, 8 * 1024 * 1024)
    server = receiver(NEWEST, tmp_path / "server")
    data = f"--storage.tsdb.path={disk.point / 'data'}"
    command = [word for word in server.process.command if not word.startswith("--storage.tsdb.path=")]
    server.process.command = (*disk.within, *command, data)
    file = receivers_file(tmp_path / "receivers.toml", {"r": server.port}, visible='"1s"')
    with server, Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
        post(daemon, *lines(0))
        await_all(daemon, server)
        ballast = Path(f"/proc/{server.process.pid}/root{disk.point}/ballast")
        with ballast.open("wb", buffering=0) as filling, suppress(OSError):
            while True:
                filling.write(bytes(4096))
        number = 0

        def refuses() -> bool:
            nonlocal number
            number += 1
            post(daemon, *lines(number))
            return 'oneshotd_receiver_accepts{scraper="r"} 0.0' in daemon.look()

        until(refuses, 60, "a refusal")
        until(lambda: "no space left" in daemon.process.log_text(), 30, "its reason in the log")
        ballast.unlink()
        await_all(daemon, server)
        assert lost(daemon) == {}
        assert daemon.errors() == []


def sender_of(daemons: Sequence[Daemon]) -> Daemon:
    """Return the daemon that sends; wait until there is one."""
    standing_by = 'oneshotd_receiver_standing_by{scraper="r"} '

    def senders() -> list[Daemon]:
        return [each for each in daemons if f"{standing_by}0.0" in each.get("/metrics/daemon")]

    until(lambda: len(senders()) == 1, 60, "one sender")
    (found,) = senders()
    return found


def test_two_daemons_on_one_store(tmp_path: Path) -> None:
    """Each would send every event, or none of them after the other has died or was paused."""
    with running_server() as database, receiver(NEWEST, tmp_path / "server") as server:
        file = receivers_file(tmp_path / "r.toml", {"r": server.port}, visible='"1s"', timeout='"1s"')
        store = f"--store=postgresql:{database.address(database.new_database())}"
        with ExitStack() as stack:
            daemons = []
            for name in "ab":
                port = free_port()
                options = (f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}", store)
                daemon = Daemon(tmp_path / name, options=options, port=port, more=[f"--receivers={file}"])
                daemons.append(stack.enter_context(daemon))
            for number, daemon in enumerate(daemons):
                post(daemon, *lines(number))
            await_all(daemons[0], server)
            sender = sender_of(daemons)
            (other,) = (each for each in daemons if each is not sender)
            sender.kill()
            post(other, *lines(2))
            await_all(other, server)
            sender.start()
            post(sender, *lines(3))
            await_all(sender, server)
            sender = sender_of(daemons)
            (other,) = (each for each in daemons if each is not sender)
            os.kill(sender.process.pid, signal.SIGSTOP)
            try:
                post(other, *lines(4))
                await_all(other, server)
            finally:
                os.kill(sender.process.pid, signal.SIGCONT)
            post(sender, *lines(5))
            await_all(sender, server)
            assert sender_of(daemons) in daemons
            assert lost(other) == {}

"""The daemon as a process: how it starts, fails to start, and ends under load.

What would be noticed if one of these failed: events that were answered "ok" are missing after a
restart, others come twice, or a daemon that cannot work looks as if it did.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from support.daemon import TWISTD, Daemon, environment
from support.processes import free_port, until

pytestmark = pytest.mark.e2e

#: More than fits into the socket buffers of both sides.
LARGE = 6_000_000

_EVENT = re.compile(r'^events_to_metrics\{n="([^"]*)".*\} (\d+)$', re.MULTILINE)


def options(folder: Path, port: int) -> list[str]:
    return [
        f"--http=localhost:{port}",
        f"--udp=127.0.0.1:{port}",
        f"--store=sqlite:{folder / 'oneshotd.sqlite'}",
    ]


def post(port: int, path: str, body: bytes = b"") -> int:
    """The status of the answer."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        line.request("POST", path, body=body, headers={"Content-Type": "text/plain"})
        with line.getresponse() as answer:
            answer.read()
            return answer.status
    finally:
        line.close()


def events_in(text: str) -> Counter[str]:
    """label n -> how often it happened."""
    return Counter({n: int(count) for n, count in _EVENT.findall(text)})


def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


@contextmanager
def emitting(port: int, clients: int) -> Iterator[list[str]]:
    """As many clients, each sending one event after another until it gets no answer.

    :returns: the label n of those that were answered 200.
    """
    accepted: list[str] = []

    def work(client: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            for number in range(1_000_000):
                line.request("POST", f"/event?n={client}-{number}")
                with line.getresponse() as answer:
                    answer.read()
                    assert answer.status == 200
                accepted.append(f"{client}-{number}")
        line.close()

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in range(clients)]
    for thread in threads:
        thread.start()
    yield accepted
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a client is still waiting for its answer"


@contextmanager
def stopping(daemon: Daemon) -> Iterator[None]:
    """SIGTERM at the beginning; at the end the daemon is gone."""
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(daemon.stop)
        yield
        stopped.result()


def are(number: int, accepted: list[str]) -> bool:
    """Whether there are so many."""
    return len(accepted) >= number


def sigterm_waits(pid: int) -> bool:
    """Whether the process, which is stopped, has yet to see its SIGTERM (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^ShdPnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & 1 << (signal.SIGTERM - 1))


# ---- the end ---------------------------------------------------------------------------------


def test_at_sigterm_all_that_was_answered_or_in_the_socket_is_on_disk(tmp_path: Path) -> None:
    """Every upgrade under load would cost events."""
    with Daemon(tmp_path) as daemon:
        assert events_in(daemon.get("/metrics?scraper=ann")) == Counter()
        for round_ in range(3):
            # The clients begin with the same numbers again: other events of the same series.
            with emitting(daemon.port, 8) as accepted:
                until(partial(are, 200, accepted), 20, "200 events")
                read = events_in(daemon.get("/metrics?scraper=ann"))
                pid = daemon.process.pid
                os.kill(pid, signal.SIGSTOP)
                # On a busy machine SIGTERM would come while it is still running, and first.
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    for number in range(100):
                        sender.sendto(b"n=udp-%d-%d" % (round_, number), ("127.0.0.1", daemon.port))
                with stopping(daemon):
                    until(partial(sigterm_waits, pid), 30, "SIGTERM has come")
                    os.kill(pid, signal.SIGCONT)
            daemon.start()
            later = events_in(daemon.get("/metrics?scraper=ann"))
            assert not read & later, "came again"
            got = read + later
            assert set(got.values()) == {1}
            assert set(accepted) <= got.keys(), f"answered, and lost in round {round_}"
            assert {f"udp-{round_}-{number}" for number in range(100)} <= got.keys()
            assert len(got) <= len(accepted) + 8 + 100
        assert daemon.errors() == []
        assert daemon.process.log_text().count("all that was accepted is on disk") == 3


class SlowReader:
    """A scraper that has asked, and reads when it is told to."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET /metrics?scraper={name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self._read = self._socket.recv(1000)  # the response has begun

    def read_all(self) -> str:
        """What is left, to the end of the connection."""
        while piece := self._socket.recv(1 << 20):
            self._read += piece
        self._socket.close()
        return self._read.decode()

    def close(self) -> None:
        self._socket.close()


def send_large(port: int) -> set[str]:
    """Events that fill a large response; their labels n."""
    numbers = [f"large-{number}" for number in range(LARGE // 3000)]
    for start in range(0, len(numbers), 200):
        lines = [f"n={number}&pad={'x' * 2900}" for number in numbers[start : start + 200]]
        assert post(port, "/events", "\n".join(lines).encode()) == 200
    return set(numbers)


def test_a_delivery_in_flight_at_sigterm_is_brought_to_its_end(tmp_path: Path) -> None:
    """With each restart a large delivery would be cut, and come again as a whole."""
    with Daemon(tmp_path) as daemon:
        sent = send_large(daemon.port)
        reader = SlowReader(daemon.port, "ann")
        with stopping(daemon):
            until(lambda: refuses(daemon.port), 10, "no further connections")
            assert set(events_in(reader.read_all())) == sent
        daemon.start()
        assert events_in(daemon.get("/metrics?scraper=ann")) == Counter()
        assert daemon.errors() == []


def test_a_scraper_that_does_not_read_keeps_nobody_from_ending(tmp_path: Path) -> None:
    """systemd would kill the daemon after 90 s; or what it had not read would be lost."""
    with Daemon(tmp_path) as daemon:
        sent = send_large(daemon.port)
        reader = SlowReader(daemon.port, "ann")
        daemon.stop()
        reader.close()
        daemon.start()
        assert set(events_in(daemon.get("/metrics?scraper=ann"))) == sent


# ---- failing to start ------------------------------------------------------------------------


def failed_start(folder: Path, *words: str) -> str:
    """What `twistd -n oneshot` says before it ends with status 1."""
    command = [*TWISTD, "oneshot", *words]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    assert "Traceback" not in said
    assert said.count("cannot start") == 1
    return said


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_busy_port_is_named(tmp_path: Path, kind: socket.SocketKind) -> None:
    """The process would stay up and listen on nothing."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        free = free_port()
        words = options(tmp_path, free)
        place = 0 if kind is socket.SOCK_STREAM else 1
        words[place] = words[place].replace(str(free), str(port))
        said = failed_start(tmp_path, *words)
    assert str(port) in said and "in use" in said.lower()
    assert not (tmp_path / "oneshotd.sqlite").exists(), "the store was touched"


def test_a_store_in_use_is_named(tmp_path: Path) -> None:
    """Two daemons would each give out the same events."""
    with Daemon(tmp_path):
        said = failed_start(tmp_path, *options(tmp_path, free_port()))
    assert f"the store {tmp_path / 'oneshotd.sqlite'} is in use by another process" in said


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ("database", "not one of oneshotd"),
        ("text", "is not a database"),
        ("folder", "cannot open"),
        ("nowhere", "No such file or directory"),
    ],
)
def test_a_store_that_is_none_is_named_and_left_alone(tmp_path: Path, make: str, reason: str) -> None:
    """Somebody's file would be overwritten, or the reason would be a traceback."""
    path = tmp_path / ("no/such" if make == "nowhere" else "oneshotd.sqlite")
    if make == "database":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    elif make == "text":
        path.write_text("a letter to grandmother\n" * 100)
    elif make == "folder":
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    words = [*options(tmp_path, free_port())[:2], f"--store=sqlite:{path}"]
    said = failed_start(tmp_path, *words)
    assert reason in said and str(path) in said
    assert before is None or path.read_bytes() == before


# ---- as a daemon in the background -----------------------------------------------------------


class Background:
    """`twistd oneshot` without -n: it forks, and the parent ends when the child serves."""

    def __init__(self, folder: Path, *twistd: str) -> None:
        self.port = free_port()
        self.pidfile, self.log = folder / "oneshotd.pid", folder / "oneshotd.log"
        self._folder = folder
        self._twistd = (f"--pidfile={self.pidfile}", f"--logfile={self.log}", *twistd)

    def start(self) -> subprocess.CompletedProcess[str]:
        command = [word for word in TWISTD if word not in ("-n", "--pidfile=")]
        return subprocess.run(
            [*command, *self._twistd, "oneshot", *options(self._folder, self.port)],
            cwd=self._folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def stop(self) -> None:
        if self.pidfile.exists():
            os.kill(int(self.pidfile.read_text()), signal.SIGTERM)
            until(lambda: not self.pidfile.exists(), 20, lambda: f"it has ended\n{self.log.read_text()}")


@contextmanager
def background(folder: Path, *twistd: str) -> Iterator[Background]:
    made = Background(folder, *twistd)
    try:
        yield made
    finally:
        made.stop()


def test_it_works_in_the_background(tmp_path: Path) -> None:
    """A thread that was started before the fork is missing after it: nothing would ever be stored."""
    with background(tmp_path) as daemon:
        for number in range(2):
            started = daemon.start()
            assert started.returncode == 0, started.stdout + started.stderr
            until(lambda: not refuses(daemon.port), 10, lambda: daemon.log.read_text())
            assert post(daemon.port, f"/event?n={number}") == 200
            line = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
            line.request("GET", "/metrics?scraper=ann")
            assert events_in(line.getresponse().read().decode()) == Counter({str(number): 1})
            line.close()
            daemon.stop()
        log = daemon.log.read_text()
        assert log.count("all that was accepted is on disk") == 2
        assert "Traceback" not in log


def test_in_the_background_a_failing_start_is_seen(tmp_path: Path) -> None:
    """An init script would report success, and a PID file would name a process that is gone."""
    with background(tmp_path) as daemon, socket.socket() as taken:
        taken.bind(("127.0.0.1", daemon.port))
        taken.listen()
        started = daemon.start()
        assert started.returncode == 1
        # twistd tells its parent first, and tidies up then.
        until(lambda: not daemon.pidfile.exists(), 10, "no PID file")
        log = daemon.log.read_text()
        assert log.count("cannot start") == 1 and "Traceback" not in log + started.stderr


def for_everybody(path: str) -> bool:
    """Whether any user can get at what is there."""
    return all(folder.stat().st_mode & 1 for folder in Path(path).resolve().parents)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can bind a low port and become somebody else")
@pytest.mark.skipif(not for_everybody(os.__file__), reason="this Python is for its owner alone")
def test_ports_are_bound_as_root_and_the_store_is_the_users() -> None:
    """With --uid a port below 1024 could not be had, or the store could not be written later."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        with background(folder, f"--uid={nobody}", f"--gid={nobody}") as daemon:
            daemon.port = next(port for port in range(900, 1024) if refuses(port))
            started = daemon.start()
            assert started.returncode == 0, started.stdout + started.stderr
            until(lambda: not refuses(daemon.port), 10, lambda: daemon.log.read_text())
            assert post(daemon.port, "/event?n=1") == 200
            assert (folder / "oneshotd.sqlite").stat().st_uid == nobody

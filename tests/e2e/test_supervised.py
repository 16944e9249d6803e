"""The daemon under a service manager: what it tells it, and the socket that it is handed.

The tests take systemd's place: its notification socket, and its way to pass descriptors.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import Authority
from support.daemon import TWISTD, browser, environment
from support.processes import GRACE

pytestmark = pytest.mark.e2e

#: Seconds for everything that is awaited.
SECONDS = 20

#: Starts a program as systemd does: with its own PID in a variable.
AS_SYSTEMD = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")


class Manager:
    """Systemd's part for one service.

    :ivar listening: the service's HTTP socket; it stays open when the daemon goes.
    :ivar datagrams: its UNIX datagram socket, likewise.
    """

    def __init__(self, folder: Path, *, watchdog: float | None = None, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._options = options
        self._watchdog = watchdog
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(folder / "notify"))
        self._ear.settimeout(SECONDS)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listening.getsockname()[1]
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.datagrams.bind(str(folder / "datagrams"))
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it says that it is ready."""
        env = {
            **environment(),
            "NOTIFY_SOCKET": str(self._folder / "notify"),
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "oneshotd.socket:oneshotd-datagrams.socket",
        }
        if self._watchdog is not None:
            env["WATCHDOG_USEC"] = str(int(self._watchdog * 1e6))
        passed = [self.listening.fileno(), self.datagrams.fileno()]
        with (self._folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [
                    *(sys.executable, "-c", _PASS, ",".join(map(str, passed))),
                    *(*AS_SYSTEMD, *TWISTD, "oneshot", "--http=systemd:domain=INET:name=oneshotd.socket"),
                    *("--udp=127.0.0.1:0", f"--store=sqlite:{self._folder / 'store'}", *self._options),
                ],
                pass_fds=passed,
                env=env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.await_word("READY=1")

    def await_word(self, word: str) -> None:
        """Wait for a message that has this line."""
        while word not in self.next_message():
            pass

    def next_message(self) -> list[str]:
        """The lines of the next message."""
        try:
            return self._ear.recv(4096).decode().split("\n")
        except TimeoutError:
            raise AssertionError(f"nothing was said\n{self.log()}") from None

    def forget(self) -> None:
        """Read what was said so far."""
        while select.select([self._ear], [], [], 0)[0]:
            self._ear.recv(4096)

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing is said in that time."""
        return not select.select([self._ear], [], [], seconds)[0]

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        assert self.child is not None
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(GRACE)

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait(GRACE)
        self.listening.close()
        self.datagrams.close()
        self._ear.close()


# Systemd passes descriptors from 3 on.
_PASS = (
    "import fcntl, os, sys;"
    "fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1].split(',')];"
    "[os.dup2(fd, 3 + place) for place, fd in enumerate(fds)];"
    "[os.close(fd) for fd in fds];"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


@contextmanager
def managed(folder: Path, *, watchdog: float | None = None, options: Sequence[str] = ()) -> Iterator[Manager]:
    manager = Manager(folder, watchdog=watchdog, options=options)
    try:
        yield manager
    finally:
        manager.close()


def ask(port: int, method: str, path: str) -> tuple[int, str]:
    """Status and body of the answer, on a connection of its own."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        line.request(method, path)
        with line.getresponse() as answer:
            return answer.status, answer.read().decode()
    finally:
        line.close()


def test_ready_means_ready_and_the_end_is_announced(tmp_path: Path) -> None:
    """A unit that needs the daemon would start too early and be refused."""
    with managed(tmp_path) as manager:
        manager.start()
        assert ask(manager.port, "GET", "/readyz")[0] == 200
        manager.stop()
        assert manager.next_message() == ["STOPPING=1", "STATUS=stopping"]


def test_a_daemon_that_hangs_gives_no_sign_of_life(tmp_path: Path) -> None:
    """systemd would not restart one that serves nobody, or restart one that does."""
    with managed(tmp_path, watchdog=0.4) as manager:
        manager.start()
        for _ in range(3):
            assert manager.next_message() == ["WATCHDOG=1"]
        assert manager.child is not None
        os.kill(manager.child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, manager.child.pid, os.WSTOPPED | os.WNOWAIT)
        manager.forget()
        assert manager.is_silent_for(1.0)
        os.kill(manager.child.pid, signal.SIGCONT)
        manager.await_word("WATCHDOG=1")


def test_no_request_is_refused_while_the_daemon_restarts(tmp_path: Path) -> None:
    """With the socket unit enabled an upgrade would still cost whoever reports just then."""
    with managed(tmp_path) as manager:
        manager.start()
        assert ask(manager.port, "GET", "/metrics?scraper=ann")[0] == 200
        done = threading.Event()
        stored: list[str] = []
        failed: list[str] = []

        def work(client: int) -> None:
            number = 0
            while not done.is_set() and not failed:
                try:
                    status, body = ask(manager.port, "POST", f"/event?n={client}-{number}")
                    assert status == 200, body
                except Exception as error:
                    failed.append(repr(error))
                stored.append(f"{client}-{number}")
                number += 1

        threads = [threading.Thread(target=work, args=(client,)) for client in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                before = len(stored)
                manager.stop()
                manager.start()
                while len(stored) < before + 50 and not failed:
                    threads[0].join(0.05)
        finally:
            done.set()
            for thread in threads:
                thread.join(SECONDS)
        assert failed == [], manager.log()
        _, text = ask(manager.port, "GET", "/metrics?scraper=ann")
        got = [line for line in text.splitlines() if line.startswith("events_to_metrics{")]
        assert len(got) == len(stored)
        assert all(line.endswith(" 1") for line in got)


def test_no_datagram_is_lost_while_the_daemon_restarts(tmp_path: Path) -> None:
    """A local program would lose its events with each upgrade, though systemd keeps the socket."""
    with managed(tmp_path, options=["--udp=systemd:oneshotd-datagrams.socket"]) as manager:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(tmp_path / "datagrams"))
            sender.send(b"n=0")
            manager.start()
            for number in range(1, 4):
                sender.send(b"n=%d" % (2 * number - 1))
                manager.stop()
                assert (tmp_path / "datagrams").is_socket()
                sender.send(b"n=%d" % (2 * number))
                manager.start()
        manager.stop()
        manager.start()
        held = json.loads(ask(manager.port, "GET", "/api/v1/events")[1])["events"]
        assert sorted(event["labels"]["n"] for event in held) == list("0123456")
        assert "receives UDP on 127.0.0.1:" in manager.log()
        assert f"unix:{tmp_path / 'datagrams'}" in manager.log()


def test_a_socket_that_was_not_passed_is_named(tmp_path: Path) -> None:
    """Whoever forgets to start the socket unit would read of a list index."""
    ended = subprocess.run(
        [*TWISTD, "oneshot", "--http=systemd:domain=INET:name=oneshotd.socket", "--udp=127.0.0.1:0"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "cannot start: HTTP: systemd:domain=INET:name=oneshotd.socket: systemd has passed no such" in (
        ended.stdout
    )


def test_the_manager_s_socket_speaks_tls(tmp_path: Path) -> None:
    """Behind the socket unit the daemon would be without the TLS that its owner has configured."""
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("server")
    web = tmp_path / "web.yml"
    web.write_text(f"tls_server_config: {{cert_file: '{pair.cert}', key_file: '{pair.key}'}}\n")
    with managed(tmp_path, options=[f"--web-config={web}"]) as manager:
        manager.start()
        with browser(authority.cert).open(
            f"https://localhost:{manager.port}/readyz", timeout=SECONDS
        ) as answer:
            assert answer.read() == b"ok\n"
        assert f"HTTPS on 127.0.0.1:{manager.port}" in manager.log()
        assert ask(manager.port, "GET", "/readyz")[0] == 400

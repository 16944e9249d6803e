"""Real processes under test: started, watched, ended; and conditions awaited with a bound."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL = 0.05  # seconds between two looks at a condition
GRACE = 20.0  # seconds in which a process asked to end must be gone


def until(condition: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait until the condition is true.

    :param what: what was awaited, or a function that tells it, for the failure.
    :raises AssertionError: it was not true within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL)


#: Reservations of the ports that this process was given last, the oldest first.
_reserved: deque[socket.socket] = deque()
_MAX_RESERVED = 200


def free_port() -> int:
    """Return a port that is free for TCP and UDP on the loopback addresses, and that nobody else is given.

    Below the range from which the kernel takes ports for outgoing connections (32768 on Linux),
    so that nobody gets it while a daemon restarts. Between this call and the start of a daemon the port
    is free: other processes of tests, also of another checkout, see that it is reserved by a name in the
    same network namespace (an abstract UNIX socket, which ends with this process).
    """
    for _ in range(100):
        port = random.SystemRandom().randrange(12_000, 32_000)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0oneshotd-test-port-{port}")
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        if len(_reserved) > _MAX_RESERVED:
            _reserved.popleft().close()
        if all(
            is_free(port, family, kind)
            for family in (socket.AF_INET, socket.AF_INET6)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        ):
            return port
    raise AssertionError("no free port found in 100 attempts")


def is_free(port: int, family: socket.AddressFamily, kind: socket.SocketKind) -> bool:
    """Return whether the port is free on all addresses; true if the address family is missing."""
    try:
        probe = socket.socket(family, kind)
    except OSError:
        return True
    with probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


class Process:
    """A child process whose output goes to a file.

    :param name: names it in failures, and its log in `folder`, which is its working directory.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = command
        self.folder = folder
        self.log = folder / f"{name}.log"
        #: Whether it starts in a process group of its own: Ctrl-C at the terminal does not reach it then.
        self.own_group = False
        self._env = env
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process ID.

        :raises AssertionError: it is not running.
        """
        self.check()
        assert self._child is not None
        return self._child.pid

    def start(self, ready: Callable[[], bool], seconds: float = 30.0) -> None:
        """Start the process and wait until it is ready.

        :raises AssertionError: it ended, or was not ready in time; with the end of its log.
        """
        assert self._child is None, f"{self.name} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0 if self.own_group else None,
            )
        try:
            self.until(ready, seconds, "ready")
        except BaseException:
            self.kill()
            raise

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Like the function `until`, and fails as soon as the process has ended."""

        def watched() -> bool:
            if condition():
                return True
            self.check()
            return False

        until(watched, seconds, lambda: f"{self.name}: {what}\n{self.tail()}")

    def check(self) -> None:
        """:raises AssertionError: it is not running; with the end of its log."""
        assert self._child is not None, f"{self.name} was not started"
        status = self._child.poll()
        assert status is None, f"{self.name} ended with status {status}\n{self.tail()}"

    def await_text(self, text: str, seconds: float = 30.0) -> None:
        """Wait until the log has the text."""
        self.until(lambda: text in self.log_text(), seconds, f"has written {text!r}")

    def await_end(self, seconds: float, expected: int = 0) -> None:
        """Wait until the process ends by itself.

        :raises AssertionError: its status is another, or it had to be killed.
        """
        assert self._child is not None, f"{self.name} was not started"
        try:
            status = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds:g} s\n{self.tail()}") from None
        self._child = None
        assert status == expected, f"{self.name} ended with status {status}\n{self.tail()}"

    def stop(self) -> None:
        """Send SIGTERM, and wait until the process has ended.

        :raises AssertionError: it had ended before, or took too long and had to be killed.
        """
        self.check()
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end on SIGTERM\n{self.tail()}") from None
        self._child = None

    def kill(self) -> None:
        """Send SIGKILL, and wait; do nothing if the process has ended."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(GRACE)
            self._child = None

    def log_text(self) -> str:
        """Return the whole log, over all restarts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 40) -> str:
        """Return the end of the log, for a failure."""
        return "\n".join([f"--- end of {self.log}", *self.log_text().splitlines()[-lines:]])

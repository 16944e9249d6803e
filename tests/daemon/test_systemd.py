"""Notifications to the service manager: ready, alive, stopping."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fake_store import logged
from twisted.internet.task import Clock

from oneshotd.daemon.systemd import RETRY_SECONDS, Notifier, Supervision


class ManagerSocket:
    """The socket of a service manager.

    :param address: as $NOTIFY_SOCKET has it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def received(self) -> list[list[str]]:
        """Return the lines of each message since the last call."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ManagerSocket]:
    made = ManagerSocket(str(tmp_path / "notify") if request.param == "path" else f"@oneshotd{tmp_path}")
    yield made
    made.close()


Make = Callable[..., Notifier]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    notifiers = []

    def make_one(address: str | None, watchdog: float | None = None) -> Notifier:
        notifiers.append(Notifier(clock, Supervision(address=address, watchdog=watchdog)))
        notifiers[-1].start()
        return notifiers[-1]

    yield make_one
    for notifier in notifiers:
        notifier.stop()


def test_the_manager_is_notified_of_the_start_and_the_stop(make: Make, manager: ManagerSocket) -> None:
    """`systemctl start` would hang, or units that need the daemon would start too early."""
    notifier = make(manager.address)
    assert manager.received() == []
    notifier.ready("serves :::8090")
    assert manager.received() == [["READY=1", "STATUS=serves :::8090"]]
    notifier.stopping()
    assert manager.received() == [["STOPPING=1", "STATUS=stopping"]]


def test_keep_alives_are_sent_at_half_the_interval_until_the_stop_ends(
    make: Make, manager: ManagerSocket, clock: Clock
) -> None:
    """systemd would kill a healthy daemon, or one that is still stopping."""
    notifier = make(manager.address, 10.0)
    messages = manager.received()
    for _ in range(10):
        clock.advance(5.0)
        messages += manager.received()
    notifier.stopping()
    messages += [line for line in manager.received() if "WATCHDOG=1" not in line]
    clock.advance(5.0)
    messages += manager.received()
    assert messages == [["WATCHDOG=1"]] * 12
    notifier.stop()
    clock.advance(60.0)
    assert manager.received() == []
    assert clock.getDelayedCalls() == []


def test_a_reactor_that_hangs_sends_no_keep_alive(make: Make, manager: ManagerSocket) -> None:
    """The watchdog would never restart a daemon that hangs."""
    make(manager.address, 0.02)
    assert manager.received() == [["WATCHDOG=1"]]
    assert manager.received() == []  # the clock has not moved


def test_without_a_manager_there_is_no_notification_and_no_log_line(make: Make, clock: Clock) -> None:
    """Every start from a terminal would log a warning."""
    with logged() as events:
        notifier = make(None, 10.0)
        notifier.ready("serves")
        notifier.stopping()
    assert events == []
    assert clock.getDelayedCalls() == []


def test_a_full_manager_socket_is_retried(make: Make, manager: ManagerSocket, clock: Clock) -> None:
    """READY would be lost, and systemd would kill the service at its start timeout; or the daemon would
    block until the manager reads."""
    notifier = make(manager.address)
    flood = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        where = "\0" + manager.address[1:] if manager.address.startswith("@") else manager.address
        while flood < 1_000_000:
            try:
                other.sendto(b"FDSTORE=1", where)
            except BlockingIOError:
                break
            flood += 1
    notifier.ready("serves")
    assert manager.received() == [["FDSTORE=1"]] * flood
    clock.advance(RETRY_SECONDS)
    assert manager.received() == [["READY=1", "STATUS=serves"]]
    assert clock.getDelayedCalls() == []


def test_a_missing_manager_socket_is_logged_and_does_not_stop_the_start(make: Make, tmp_path: Path) -> None:
    """A stale $NOTIFY_SOCKET in a shell would prevent the start."""
    notifier = make(str(tmp_path / "nobody"))
    with logged() as events:
        notifier.ready("serves")
    (event,) = events
    assert event["log_level"].name == "warn"
    assert event["error"] == "No such file or directory"


PID = 4711


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Supervision()),
        ({"NOTIFY_SOCKET": ""}, Supervision()),
        ({"NOTIFY_SOCKET": "@"}, Supervision()),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, Supervision()),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, Supervision(address="/run/systemd/notify")),
        ({"NOTIFY_SOCKET": "@n"}, Supervision(address="@n")),
        ({"WATCHDOG_USEC": "30000000"}, Supervision()),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "30000000"}, Supervision(address="@n", watchdog=30.0)),
        (
            {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(PID)},
            Supervision(address="@n", watchdog=0.5),
        ),
        (
            {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"},
            Supervision(address="@n"),
        ),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "0"}, Supervision(address="@n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "soon"}, Supervision(address="@n")),
    ],
)
def test_supervision_from_the_environment(environ: dict[str, str], expected: Supervision) -> None:
    """The daemon would use the variable of another process, or a malformed one would end the start."""
    assert Supervision.from_environment(environ, PID) == expected

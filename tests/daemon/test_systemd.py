"""The service manager's view: when the daemon serves, lives and ends, as systemd would hear it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fake_store import logged
from twisted.internet.task import Clock

from oneshotd.daemon.systemd import AGAIN, Notifier, Supervision


class Ear:
    """A service manager's socket.

    :param address: as $NOTIFY_SOCKET has it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        """The lines of each message since the last time."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ear]:
    made = Ear(str(tmp_path / "notify") if request.param == "path" else f"@oneshotd{tmp_path}")
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


def test_the_manager_hears_of_the_start_and_the_end(make: Make, ear: Ear) -> None:
    """`systemctl start` would wait for ever, or units that need the daemon start too early."""
    notifier = make(ear.address)
    assert ear.heard() == []
    notifier.ready("serves :::8090")
    assert ear.heard() == [["READY=1", "STATUS=serves :::8090"]]
    notifier.stopping()
    assert ear.heard() == [["STOPPING=1", "STATUS=stopping"]]


def test_signs_of_life_come_at_half_the_time_until_the_end(make: Make, ear: Ear, clock: Clock) -> None:
    """systemd would kill a daemon in good health, also one that takes its time to end."""
    notifier = make(ear.address, 10.0)
    said = ear.heard()
    for _ in range(10):
        clock.advance(5.0)
        said += ear.heard()
    notifier.stopping()
    said += [line for line in ear.heard() if "WATCHDOG=1" not in line]
    clock.advance(5.0)
    said += ear.heard()
    assert said == [["WATCHDOG=1"]] * 12
    notifier.stop()
    clock.advance(60.0)
    assert ear.heard() == []
    assert clock.getDelayedCalls() == []


def test_no_sign_of_life_comes_from_a_reactor_that_stands(make: Make, ear: Ear) -> None:
    """The watchdog would never bark."""
    make(ear.address, 0.02)
    assert ear.heard() == [["WATCHDOG=1"]]
    assert ear.heard() == []  # the clock has not moved


def test_without_a_manager_nothing_is_said_or_logged(make: Make, clock: Clock) -> None:
    """Every start from a terminal would bring a warning."""
    with logged() as events:
        notifier = make(None, 10.0)
        notifier.ready("serves")
        notifier.stopping()
    assert events == []
    assert clock.getDelayedCalls() == []


def test_a_manager_that_is_busy_hears_it_later(make: Make, ear: Ear, clock: Clock) -> None:
    """READY would be lost, and the service killed at the end of its start timeout; or it would wait
    for the manager and serve nobody meanwhile."""
    notifier = make(ear.address)
    flood = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        where = "\0" + ear.address[1:] if ear.address.startswith("@") else ear.address
        while flood < 1_000_000:
            try:
                other.sendto(b"FDSTORE=1", where)
            except BlockingIOError:
                break
            flood += 1
    notifier.ready("serves")
    assert ear.heard() == [["FDSTORE=1"]] * flood
    clock.advance(AGAIN)
    assert ear.heard() == [["READY=1", "STATUS=serves"]]
    assert clock.getDelayedCalls() == []


def test_a_manager_that_is_gone_is_said_and_hinders_nobody(make: Make, tmp_path: Path) -> None:
    """A variable left over in a shell would keep the daemon from starting."""
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
def test_what_the_environment_says(environ: dict[str, str], expected: Supervision) -> None:
    """A variable of another process would be taken for ours, or nonsense end the start."""
    assert Supervision.of(environ, PID) == expected

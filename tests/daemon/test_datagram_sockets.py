"""UNIX datagram sockets: their files, and sockets that systemd has opened."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_store import logged
from support.service_in_memory import DaemonInMemory, lines

from oneshotd.daemon.addresses import datagram_socket, udp_port
from oneshotd.daemon.option_values import SystemdSocket, UdpAddress, UnixAddress
from oneshotd.daemon.sockets import udp_sockets
from oneshotd.errors import OneshotError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short relative path: the temporary folder's may be too long for a socket."""
    monkeypatch.chdir(tmp_path)
    return Path("o.sock")


@pytest.fixture
def bind(path: Path) -> Iterator[Callable[..., socket.socket]]:
    made: list[socket.socket] = []

    def bind_one(**given: Any) -> socket.socket:
        (sock,) = udp_sockets(UnixAddress(**{"path": str(path), **given}))
        made.append(sock)
        return sock

    yield bind_one
    for sock in made:
        sock.close()


def send(path: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, str(path))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_it_receives_and_its_file_goes_with_it(path: Path, bind: Callable[..., socket.socket]) -> None:
    """A client of a stopped daemon would find a file and wonder why nothing arrives."""
    sock = bind()
    send(path, b"type=a")
    assert sock.recv(100) == b"type=a"
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    assert datagram_socket(sock) == f"unix:{path.resolve()}"
    sock.close()
    assert not path.exists()
    sock.close()


@pytest.mark.parametrize(("given", "mode"), [({}, 0o666), ({"mode": 0o660}, 0o660), ({"mode": 0o600}, 0o600)])
@pytest.mark.parametrize("umask", [0o000, 0o027, 0o777])
def test_its_permissions_are_those_that_are_given(
    path: Path, bind: Callable[..., socket.socket], given: dict[str, int], mode: int, umask: int
) -> None:
    """A user could send who may not, or could not who may; the unit's umask would decide it."""
    before = os.umask(umask)
    try:
        bind(**given)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert mode_of(path) == mode


def test_the_file_of_a_killed_daemon_is_replaced(path: Path, bind: Callable[..., socket.socket]) -> None:
    """After a crash the daemon would not start again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(path))
    sock = bind()
    send(path, b"type=a")
    assert sock.recv(100) == b"type=a"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_socket_in_use_is_an_error_at_once(
    path: Path, bind: Callable[..., socket.socket], kind: socket.SocketKind
) -> None:
    """A second daemon would take the datagrams of the first, or another program's clients."""
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind == socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(OneshotError, match=r"^UDP: unix:o\.sock is in use$"):
            bind()
    assert path.is_socket()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_no_other_file_is_removed(
    path: Path, bind: Callable[..., socket.socket], make: Callable[[Path], None]
) -> None:
    """A typing error in the configuration would delete a file."""
    make(path)
    with pytest.raises(
        OneshotError, match=r"^UDP: unix:o\.sock: expected a socket or no file, found another"
    ):
        bind()
    assert os.path.lexists(path)


def test_a_folder_that_is_missing_is_an_error_at_once(bind: Callable[..., socket.socket]) -> None:
    with pytest.raises(OneshotError, match=r"^UDP: unix:no/o\.sock cannot be opened: No such file"):
        bind(path="no/o.sock")


def test_the_file_of_another_daemon_stays(path: Path, bind: Callable[..., socket.socket]) -> None:
    """A daemon that ends late would cut off its successor's clients."""
    first = bind()
    path.unlink()
    second = bind()
    first.close()
    send(path, b"type=a")
    assert second.recv(100) == b"type=a"


def test_a_file_that_has_gone_is_no_error_at_the_end(path: Path, bind: Callable[..., socket.socket]) -> None:
    """systemd removes the folder in which it is."""
    sock = bind()
    path.unlink()
    with logged() as events:
        sock.close()
    assert events == []


def test_a_file_that_cannot_be_removed_is_logged(
    path: Path, bind: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next daemon may not start, and the operator would not know why the file is there."""
    sock = bind()

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as changed, logged() as events:
        changed.setattr(os, "unlink", refuse)
        sock.close()
    (line,) = lines(events, "warn")
    assert line == f"UDP: the file of unix:{path.resolve()} stays: Permission denied"


def test_a_relative_path_is_that_of_the_start(
    path: Path, bind: Callable[..., socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = bind()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sock.close()
    assert not (tmp_path / path).exists()


# ---- of systemd


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[dict[str, int]]:
    """Sockets by name, as systemd passes them."""
    found: dict[str, int] = {}

    class Passed:
        def inheritedNamedDescriptors(self) -> dict[str, int]:
            return found

    monkeypatch.setattr("twisted.internet.endpoints._SystemdParser._sddaemon", Passed())
    yield found
    for descriptor in found.values():
        os.close(descriptor)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_socket_of_systemd_is_used_and_kept(
    passed: dict[str, int], path: Path, family: socket.AddressFamily
) -> None:
    """Datagrams that arrive while the daemon restarts would be lost, though systemd keeps them."""
    theirs = socket.socket(family, socket.SOCK_DGRAM)
    theirs.bind(str(path) if family == socket.AF_UNIX else ("127.0.0.1", 0))
    address = theirs.getsockname()
    passed["events"] = theirs.detach()
    for _ in range(2):
        (sock,) = udp_sockets(SystemdSocket(name="events"))
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"type=a", address)
        assert sock.recv(100) == b"type=a"
        with pytest.raises(BlockingIOError):
            sock.recv(100)
        sock.close()
    assert family == socket.AF_INET or path.is_socket()


def test_a_socket_that_systemd_has_not_passed_is_an_error_at_once(passed: dict[str, int]) -> None:
    with pytest.raises(OneshotError, match=r"^UDP: systemd:events: systemd has passed no such socket"):
        udp_sockets(SystemdSocket(name="events"))
    passed["events"] = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(OneshotError, match=r"^UDP: systemd:events: Socket operation on non-socket"):
        udp_sockets(SystemdSocket(name="events"))
    passed["stream"] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach()
    with pytest.raises(OneshotError, match=r"^UDP: systemd:stream: expected a datagram socket"):
        udp_sockets(SystemdSocket(name="stream"))


# ---- the daemon


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> Iterator[Callable[..., DaemonInMemory]]:
    daemons: list[DaemonInMemory] = []

    def make_one(**options: Any) -> DaemonInMemory:
        udp = (UnixAddress(path=str(path)), UdpAddress(host="127.0.0.1", port=0))
        daemons.append(DaemonInMemory(tmp_path, monkeypatch, **{"udp": udp, **options}))
        return daemons[-1]

    yield make_one
    for daemon in daemons:
        for sock in daemon.service._ports.udp:
            sock.close()


def test_the_daemon_stores_what_the_socket_has_and_removes_its_file(
    make: Callable[..., DaemonInMemory], path: Path
) -> None:
    """What was sent before the stop would be lost."""
    daemon = make()
    with logged() as events:
        daemon.start()
    daemon.quiet()
    (started,) = [line for line in lines(events, "info") if " receives UDP on " in line]
    assert f"receives UDP on unix:{path.resolve()}, 127.0.0.1:" in started
    daemon.send_datagrams(b"type=a", b"_sc|redis.up|0")
    ended = daemon.stop()
    daemon.pass_time(1)
    daemon.pass_time(1)
    daemon.reactor.get(ended)
    assert daemon.stored() == [
        'events_to_metrics{type="a"}',
        'events_to_metrics{check="redis.up",status="ok",type="service_check"}',
    ]
    assert not path.exists()


def test_the_status_page_names_the_port_of_udp(make: Callable[..., DaemonInMemory], path: Path) -> None:
    """A part of the path would be shown as a port."""
    daemon = make()
    daemon.service.privilegedStartService()
    sockets = daemon.service._ports.udp
    assert udp_port(sockets) == sockets[1].getsockname()[1]
    assert udp_port(sockets[:1]) is None
    assert udp_port([]) is None


def test_a_start_that_fails_leaves_no_file(
    make: Callable[..., DaemonInMemory], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make(udp=(UnixAddress(path=str(path)), UnixAddress(path="no/o.sock")))
    with pytest.raises(OneshotError, match="No such file"):
        daemon.service.privilegedStartService()
    assert not path.exists()

"""Two hosts joined by a line that can be cut, each host a network namespace of its own.

The addresses mean nothing outside: both namespaces, and the line with them, are gone as soon
as no process is in them any more.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from attrs import frozen
from support.disks import skip_or_fail
from support.namespace import LIFETIME, own_loopback

#: Seconds for a connection to be made, or for a command to end.
PATIENCE = 10.0

DEVICE = "line0"
NOBODY = "02:00:00:00:00:ff"

#: The sender's buffer, so small that a response of some 100 KB does not fit into the kernel.
SEND_BUFFER = "4096 32768 65536"

#: Makes connections in the namespace in which it runs and passes them on.
MAKER = """
import socket
with socket.socket(fileno=0) as control:
    while asked := control.recv(100):
        host, port, buffer = asked.decode().split()
        with socket.socket() as made:
            if int(buffer):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(buffer))
            made.settimeout(%s)
            try:
                made.connect((host, int(port)))
            except OSError as error:
                control.sendall(str(error).encode())
            else:
                socket.send_fds(control, [b"+"], [made.fileno()])
"""


@frozen(kw_only=True, eq=False)
class Host:
    """One end of the line.

    :param prefix: runs a command on this host.
    :param control: to the maker of its connections.
    """

    prefix: tuple[str, ...]
    address: str
    mac: str
    control: socket.socket

    def run(self, *command: str) -> str:
        """What a command prints that is run here."""
        done = subprocess.run([*self.prefix, *command], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def connect(self, host: str, port: int, receive_buffer: int = 0) -> socket.socket:
        """A connection from here; a process elsewhere may hold it, it stays this host's.

        :param receive_buffer: bytes, for `SO_RCVBUF`; 0 leaves it to the kernel.
        :raises OSError: it cannot be made.
        """
        self.control.sendall(f"{host} {port} {receive_buffer}".encode())
        answer, descriptors, _, _ = socket.recv_fds(self.control, 200, 1)
        if not descriptors:
            raise OSError(answer.decode())
        made = socket.socket(fileno=descriptors[0])
        made.settimeout(PATIENCE)
        return made


@frozen(kw_only=True, eq=False)
class Wire:
    """The line between the two."""

    ours: Host
    theirs: Host

    def cut(self) -> None:
        """Nothing gets through, in either direction."""
        self.theirs.run("ip", "link", "set", DEVICE, "down")

    def join(self) -> None:
        """Everything gets through again."""
        self.theirs.run("ip", "link", "set", DEVICE, "up")

    def lose_from(self, host: Host) -> None:
        """What this host sends gets lost; what is sent to it arrives."""
        host.run(*_neighbour(self._other(host), NOBODY))

    def keep_from(self, host: Host) -> None:
        """What this host sends arrives again."""
        host.run(*_neighbour(self._other(host), self._other(host).mac))

    def _other(self, host: Host) -> Host:
        return self.theirs if host is self.ours else self.ours


def _neighbour(host: Host, mac: str) -> tuple[str, ...]:
    return ("ip", "neigh", "replace", host.address, "lladdr", mac, "dev", DEVICE, "nud", "permanent")


@contextmanager
def joined_hosts() -> Iterator[Wire | None]:
    """Two hosts and their line; None where that is not permitted."""
    with ExitStack() as stack:
        ours = None if _missing() else stack.enter_context(own_loopback())
        theirs = None if ours is None else stack.enter_context(_second(ours))
        if ours is None or theirs is None:
            yield None
            return
        prefix, pid = theirs
        wire = Wire(
            ours=_host(stack, ours, "10.90.0.1", "02:00:00:00:00:01"),
            theirs=_host(stack, prefix, "10.90.0.2", "02:00:00:00:00:02"),
        )
        peer = ("peer", "name", DEVICE, "address", wire.theirs.mac, "netns", str(pid))
        wire.ours.run("ip", "link", "add", DEVICE, "address", wire.ours.mac, "type", "veth", *peer)
        for host in (wire.ours, wire.theirs):
            host.run("ip", "address", "add", f"{host.address}/24", "dev", DEVICE)
            host.run("ip", "link", "set", DEVICE, "up")
        wire.ours.run("sh", "-c", f"echo {SEND_BUFFER} > /proc/sys/net/ipv4/tcp_wmem")
        yield wire


@contextmanager
def _second(first: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int] | None]:
    """A further namespace that belongs to the user namespace of the first: prefix, process id."""
    keeper = subprocess.Popen(
        [*first, "unshare", "-n", "sh", "-c", f"ip link set lo up && echo up && exec sleep {LIFETIME}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with keeper:
        try:
            assert keeper.stdout is not None
            if keeper.stdout.readline() != "up\n":
                yield None
            else:
                yield (*first[:-1], str(keeper.pid)), keeper.pid
        finally:
            keeper.kill()


def _host(stack: ExitStack, prefix: tuple[str, ...], address: str, mac: str) -> Host:
    control, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [*prefix, sys.executable, "-c", MAKER % PATIENCE]
    with far_end:
        maker = stack.enter_context(subprocess.Popen(command, stdin=far_end.fileno()))
    stack.callback(maker.kill)
    stack.enter_context(closing(control))
    control.settimeout(2 * PATIENCE)
    return Host(prefix=prefix, address=address, mac=mac, control=control)


@contextmanager
def needed_hosts() -> Iterator[Wire]:
    """Two joined hosts; without them the test is skipped, or fails where ``CI`` is set."""
    with joined_hosts() as joined:
        if joined is None:
            missing = ", ".join(_missing())
            skip_or_fail(
                f"two hosts want {missing}, not to be found here"
                if missing
                else "network namespaces are not permitted here"
            )
        assert joined is not None
        yield joined


def _missing() -> list[str]:
    return [tool for tool in ("unshare", "nsenter", "ip", "sleep", "curl") if not shutil.which(tool)]

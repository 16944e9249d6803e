"""The package's service, run in a tree by the command of its unit, under its user."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
from collections import Counter

from deb import client
from deb.client import URL
from deb.inside import ENVIRONMENT, Failed, Tree

#: Seconds for a start and for an end.
PATIENCE = 30.0

#: How each tool that a user has sends one event; $1 is its label.
TOOLS = {
    "curl": f'curl --silent --show-error --fail -X POST "{URL}/event?n=$1"',
    "oneshot-emit": 'oneshot-emit "n=$1"',
    "bash": 'echo "n=$1" > /dev/udp/localhost/8090',
}


class Service:
    """What systemd would start, and hear from."""

    def __init__(self, tree: Tree, unit: str) -> None:
        self._tree = tree
        self._unit = unit
        self._log = tree.path("/srv/oneshotd.log")
        self._child: subprocess.Popen[bytes] | None = None

    def _settings(self) -> dict[str, list[str]]:
        """Of the unit: name -> values."""
        found: dict[str, list[str]] = {}
        for name, value in re.findall(r"(?m)^(\w+)=(.*)$", self._tree.path(self._unit).read_text()):
            found.setdefault(name, []).append(value)
        return found

    def start(self) -> None:
        """Start it and wait for READY=1.

        :raises Failed: it does not come.
        """
        settings = self._settings()
        ((user,), (directory,), (command,)) = (
            settings[name] for name in ("User", "StateDirectory", "ExecStart")
        )
        state = f"/var/lib/{directory}"
        # Abstract: the kernel keeps the name, and the tree's paths can be longer than such a name.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.bind(b"\0oneshotd-trial")
            ear.settimeout(PATIENCE)
            words = [word for word in shlex.split(command) if word != "$ONESHOTD_OPTS"]
            as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--no-new-privs"]
            with self._log.open("ab") as log:
                self._child = subprocess.Popen(
                    self._tree.command(
                        [
                            *("sh", "-c", 'umask 0027; cd "$0" && exec "$@"', state),
                            *(*as_user, "--inh-caps=-all", "--bounding-set=-all", *words),
                        ]
                    ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**ENVIRONMENT, "STATE_DIRECTORY": state, "NOTIFY_SOCKET": "@oneshotd-trial"},
                )
            try:
                said = ear.recv(4096)
            except TimeoutError:
                raise Failed(f"the service does not say that it is ready\n{self.log()}") from None
        if b"READY=1" not in said.split(b"\n"):
            raise Failed(f"the service says {said!r}\n{self.log()}")

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone; 143 and 0 are good ends to systemd."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``; nothing where it does not run."""
        if self._child is not None:
            self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)
        status = self._child.wait(PATIENCE)
        self._child = None
        if status not in (0, -number):
            raise Failed(f"the service ended with status {status}\n{self.log()}")

    def emit(self, tool: str, door: str, count: int) -> None:
        """Report so many events, labelled ``DOOR-NUMBER``, with a tool of the tree; come back when
        all are stored."""
        with client.stored(count, self.log):
            for number in range(count):
                self._tree.run("bash", "-c", TOOLS[tool], "bash", f"{door}-{number}")

    def scrape(self, name: str) -> Counter[str]:
        """A scrape under that name: label n -> how often."""
        return client.scrape(name)

    def memory(self) -> int:
        """Bytes that it has resident."""
        assert self._child is not None
        # The number is that of our namespace, whose /proc the tree has.
        status = self._tree.path(f"/proc/{self._child.pid}/status").read_text()
        (kilobytes,) = re.findall(r"(?m)^VmRSS:\s+(\d+) kB$", status)
        return int(kilobytes) * 1024

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

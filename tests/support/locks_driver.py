"""The files of --web-config and --access, and what the daemon makes of them, without a reactor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from support.certificates import Authority
from support.locked_daemon import hashed
from twisted.internet.task import Clock

from oneshotd.access.reload import LOOK_SECONDS
from oneshotd.access.rules import Client, Role
from oneshotd.daemon.config import Config
from oneshotd.daemon.locks import Locks
from oneshotd.metrics.registry import Telemetry

LOCAL = "127.0.0.1"
ANN = f"basic_auth_users:\n  ann: {hashed('secret')}\n"
BOB = f"  bob: {hashed('hidden')}\n"
LOOKER = '[[allow]]\nrole = "look"\nuser = "ann"\n'
SENDERS = '[[allow]]\nrole = "emit"\nnetwork = "192.0.2.0/24"\n'


class Inline(Clock):
    """A reactor whose threads are function calls."""

    def getThreadPool(self) -> Any:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], call: Callable[..., Any], *arguments: Any, **more: Any
    ) -> None:
        done(True, call(*arguments, **more))

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


class Files:
    """Both files in a folder, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web, self.access = folder / "web.yml", folder / "access.toml"
        self.reactor, self.telemetry = Inline(), Telemetry()
        self.now = 1e9  # Unix seconds
        self.locks: Locks

    def read(self, **options: Any) -> Locks:
        """Read the files that there are, as the start does."""
        web, access = (str(path) if path.exists() else None for path in (self.web, self.access))
        config = Config(web_config=web, access=access, **options)
        self.locks = Locks(self.reactor, config, self.telemetry, lambda: self.now)
        self.locks.read()
        return self.locks

    def pair(self, name: str = "server", valid: timedelta = timedelta(days=1)) -> str:
        """Write a new certificate with its key, and return the configuration that names them."""
        made = Authority(self.folder / "authority").issue(name, valid=valid)
        for path in (made.cert, made.key):
            (self.folder / path.name).write_bytes(path.read_bytes())
        return f"tls_server_config: {{cert_file: {name}.pem, key_file: {name}.key}}\n"

    def look(self) -> None:
        """Let the daemon find a change."""
        self.reactor.advance(LOOK_SECONDS)
        self.reactor.advance(LOOK_SECONDS)

    def metric(self, name: str) -> float | None:
        found = [
            sample.value
            for family in self.telemetry.reloads.collect()
            for sample in family.samples
            if sample.name == f"oneshotd_{name}"
        ]
        return found[0] if found else None


def may(locks: Locks, role: Role, user: str | None = None, address: str = LOCAL) -> bool:
    return locks.policy.rule(role, Client(address=address, user=user)) is not None

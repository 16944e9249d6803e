"""The daemon of docs/hardening.md: its files are made by the page's own commands, in folders of a test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.daemon import REPOSITORY, Daemon, environment
from support.debian_packages import fetch
from support.emitting_tools import provide
from support.processes import free_port
from support.security_pages import CLIENT, DAEMON, HARDENING, KEYS, TARGET, block

#: What stands for the programs of the page; it needs packages of this environment.
_OURS = {
    "oneshotctl": f'PYTHONPATH={REPOSITORY} exec {sys.executable} -P -m oneshotd.ctl "$@"',
    "python3": f'exec {sys.executable} "$@"',
}


class Hardened:
    """The daemon, and the folders of its administrator and of its clients.

    :param folder: all others are in it.
    :ivar keys: the administrator's.
    :ivar clients: all files that the clients have been given.
    """

    def __init__(self, folder: Path) -> None:
        self.keys, self.clients, self._etc = folder / "keys", folder / "clients", folder / "etc"
        self._programs = folder / "programs"
        for made in (self.clients, self._etc, self._programs):
            made.mkdir()
        provide("oneshot-emit", self._programs)
        openssl = shutil.which("openssl") or fetch("openssl") / "usr/bin/openssl"
        (self._programs / "openssl").symlink_to(openssl)
        for name, line in _OURS.items():
            (self._programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (self._programs / name).chmod(0o755)
        self.port = free_port()
        self.config = self._etc / "oneshotd.toml"
        self.run(block(HARDENING, "keys"))
        self.run(block(HARDENING, "files"))
        self.give("ca.pem", "prometheus-b.pem", "prometheus-b.key")
        self.give(*(path.name for path in self.keys.iterdir() if path.suffix in (".token", ".password")))
        self.config.write_text(self.here(block(HARDENING, "daemon")))
        (self._etc / "emit.toml").write_text(self.here(block(HARDENING, "emit")))
        options = (
            f"--config={self.config}",
            f"--store=sqlite:{folder / 'oneshotd.sqlite'}",
            "--idle-timeout=400ms",  # idle connections are closed, so each scrape begins with a handshake
        )
        self.daemon = Daemon(folder / "daemon", options=options, port=self.port, ca=self.ca)

    @property
    def ca(self) -> Path:
        """The authorities that the clients trust."""
        return self.clients / "ca.pem"

    def here(self, text: str) -> str:
        """Return the text with the folders and the port of this test."""
        for folder, own in ((KEYS, self.keys), (CLIENT, self.clients), (DAEMON, self._etc)):
            text = text.replace(folder, str(own))
        text = text.replace(TARGET, f"localhost:{self.port}").replace('"8090"', f'"localhost:{self.port}"')
        return text.replace("install -g oneshotd ", "install ")

    def give(self, *names: str, **renamed: str) -> None:
        """Copy files of the administrator to the clients; no client ever reads a part of one.

        :param renamed: a client's file, with ``_`` for ``-`` and ``.``, and the administrator's file.
        """
        there = {re.sub(r"[-.]", "_", path.name): path.name for path in self.clients.iterdir()}
        for name, source in [*zip(names, names, strict=True), *((there[k], v) for k, v in renamed.items())]:
            new = self.clients / f".{name}.new"
            shutil.copy(self.keys / source, new)
            new.rename(self.clients / name)

    def remove_rule(self, digest: str) -> None:
        """Delete the rule of the token with this SHA-256, in the administrator's copy of the file."""
        access = self.keys / "access.toml"
        rules = access.read_text().split("[[allow]]")
        kept = [rule for rule in rules if digest not in rule]
        assert len(kept) == len(rules) - 1
        access.write_text("[[allow]]".join(kept))

    def run(self, commands: str) -> str:
        """Run commands of the page, which must succeed; return what they print."""
        return self._run("sh", "-euc", self.here(commands))

    def check_config(self) -> str:
        """Return what ``oneshotctl check-config`` says; a note is an error."""
        return self._run("oneshotctl", "check-config", "--config", str(self.config), "--strict")

    def emit(self, *words: str) -> None:
        """Send an event as the CI does."""
        self._run("oneshot-emit", "--config", str(self._etc / "emit.toml"), *words)

    def _run(self, *command: str) -> str:
        env = {**environment(), "PATH": os.pathsep.join([str(self._programs), os.environ["PATH"]])}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

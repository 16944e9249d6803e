"""A browser, and a daemon with an hour behind it, for the tests of the status page.

The daemon is open, or it has TLS, users and rules, and the browser logs in.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from attrs import frozen
from support.certificates import Authority
from support.chromium import Chromium, Page
from support.daemon import REPOSITORY, Daemon, environment
from support.locked_daemon import basic, hashed, replace, token
from support.processes import free_port, until

#: What the busy daemon is told while it is looked at.
LATELY: tuple[dict[str, str], ...] = (
    {"type": "login", "result": "denied", "realm": "shop"},
    {"type": "cron", "task": "sync-stock", "status": "ok", "value": "1.18"},
    {"type": "login", "result": "ok", "realm": "shop"},
    {"type": "deploy", "service": "shop", "version": "2.14.2", "by": "ana"},
    {"type": "login", "result": "ok", "realm": "back office"},
)

USER, PASSWORD = "ann", "ann's password: ä"

WEB_CONFIG = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
basic_auth_users:
"""

ACCESS = """\
[[allow]]
role = "emit"
token_sha256 = "TOKEN"
labels = { team = "shop" }
types = ["deploy", "rollback", "cron"]
events_per_second = 10
series_per_day = 500

[[allow]]
role = "emit"
user = "ann"

[[allow]]
role = "emit"
network = ["127.0.0.0/8", "2001:db8::/32"]

[[allow]]
role = "scrape"
user = "ann"

[[allow]]
role = "look"
user = "ann"

[[allow]]
role = "admin"
san = "backup.example"
network = "unix"
"""


@frozen
class Door:
    """How the daemon and a browser come together.

    :param folder: has the files of TLS, users and rules; None: the daemon is open.
    """

    folder: Path | None

    @classmethod
    def locked(cls, folder: Path) -> Door:
        """Return a door with TLS, a user and rules; their files are in the folder."""
        pair = Authority(folder).issue("server")
        door = cls(folder)
        door.write_web(PASSWORD)
        replace(folder / "access.toml", ACCESS.replace("TOKEN", sha256(token("page").encode()).hexdigest()))
        assert pair.cert == folder / "server.pem"
        return door

    def write_web(self, password: str) -> None:
        """Write the web configuration, with this password of the user."""
        assert self.folder is not None
        replace(self.folder / "web.yml", f"{WEB_CONFIG}  {USER}: {hashed(password)}\n")

    def daemon(self, folder: Path, *options: str) -> Daemon:
        """Return a daemon with further options; its store and log are in the folder."""
        port = free_port()
        words = [
            f"--http=localhost:{port}",
            f"--udp=127.0.0.1:{port}",
            f"--store=sqlite:{folder / 'oneshotd.sqlite'}",
            *options,
        ]
        if self.folder is None:
            return Daemon(folder, options=words, port=port)
        words += [f"--web-config={self.folder / 'web.yml'}", f"--access={self.folder / 'access.toml'}"]
        return Daemon(
            folder,
            options=words,
            port=port,
            ca=self.folder / "ca.pem",
            credential=basic(USER, PASSWORD),
        )

    @property
    def is_locked(self) -> bool:
        """Whether it has TLS, users and rules."""
        return self.folder is not None

    @property
    def headers(self) -> dict[str, str]:
        """Return what each request of the user has."""
        return {} if self.folder is None else {"Authorization": basic(USER, PASSWORD)}

    def connection(self, daemon: Daemon) -> http.client.HTTPConnection:
        """Return a connection of its own, which stays open."""
        if self.folder is None:
            return http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        return http.client.HTTPSConnection("127.0.0.1", daemon.port, timeout=10, context=context)

    def browser(self, folder: Path) -> Chromium:
        """Return a browser that trusts the daemon, and logs in; its profile is in the folder."""
        if self.folder is None:
            return Chromium(folder)
        return Chromium(folder, trusted=self.folder / "server.pem", login=(USER, PASSWORD))


@contextmanager
def busy_daemon(folder: Path, door: Door) -> Iterator[Daemon]:
    """Two scrapers come, one stays away."""
    command = [sys.executable, "-m", "support.example_hour", str(folder / "oneshotd.sqlite")]
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    subprocess.run(command, env=env, check=True, timeout=60)
    with door.daemon(folder) as daemon:
        for labels in LATELY:
            post(daemon, **labels)
            scrape(daemon, "prometheus-a")
            scrape(daemon, "victoria-1")
            time.sleep(1.0)  # their interval
        post(daemon, type="login", result="ok", realm="shop")
        scrape(daemon, "prometheus-a")
        yield daemon
        assert daemon.errors() == []


def post(daemon: Daemon, **labels: str) -> None:
    body = urllib.parse.urlencode(labels).encode()
    with daemon.browser.open(urllib.request.Request(f"{daemon.url}/event", data=body), timeout=10) as answer:
        assert answer.status == 200


def scrape(daemon: Daemon, name: str) -> str:
    return daemon.get(f"/metrics?scraper={name}")


def text(page: Page, selector: str = "body") -> str:
    return str(page.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def shows(page: Page, words: str, selector: str = "body") -> None:
    until(lambda: words in text(page, selector), 20, lambda: f"{words!r} in {text(page, selector)!r}")

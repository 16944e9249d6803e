"""A daemon with TLS, users, tokens and rules, and what its clients need to be let in."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

import bcrypt
from cryptography import x509
from support.certificates import Authority, Pair
from support.daemon import Daemon, browser
from support.processes import free_port

WEB_CONFIG = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: VerifyClientCertIfGiven
  client_ca_file: ca.pem
basic_auth_users:
"""

#: "TOKEN:NAME" stands for the hash of the token of that name.
ACCESS = """\
[[allow]]
role = "emit"
token_sha256 = "TOKEN:emitter"
labels = { team = "shop" }

[[allow]]
role = "scrape"
user = "ann"
scraper = "*/basic"

[[allow]]
role = "scrape"
token_sha256 = "TOKEN:scraper"
scraper = "*/bearer"

[[allow]]
role = "scrape"
san = "scraper.example"
scraper = "*/certificate"

[[allow]]
role = "look"
user = "looker"
"""


@functools.cache
def hashed(password: str) -> str:
    """Return a bcrypt hash of a password, of the lowest cost; always the same one."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> str:
    """Return the header Authorization of a user."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def token(name: str) -> str:
    """Return the bearer token of this name."""
    return f"oneshot_{name * 8}"


def replace(path: Path, text: str | bytes) -> None:
    """Replace a file as a careful program does: no reader ever sees a part of it."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.rename(path)


class Locked:
    """A daemon, its files, and its authority.

    :param folder: has the files; the daemon's own is in it.
    :param options: more of the daemon's command line.
    :ivar web: the web configuration.
    :ivar access: the access file.
    :ivar passwords: user -> password; `write_web` puts them into the file.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.client = self.authority.issue("client", sans=("scraper.example",))
        self.web, self.access = folder / "web.yml", folder / "access.toml"
        self.passwords = {"ann": "ann's password", "looker": "looker's password"}
        shutil.copy(self.authority.cert, folder / "ca.pem")
        self.serial = self.renew()
        self.write_web()
        self.write_access()
        for name in ("emitter", "scraper"):
            (folder / f"{name}.token").write_text(token(name))
        (folder / "ann.password").write_text(self.passwords["ann"])
        port = free_port()
        self.daemon = Daemon(
            folder / "daemon",
            options=(
                f"--http=localhost:{port}",
                f"--udp=127.0.0.1:{port}",
                f"--store=sqlite:{folder / 'daemon' / 'oneshotd.sqlite'}",
                f"--web-config={self.web}",
                f"--access={self.access}",
                *options,
            ),
            port=port,
            ca=self.authority.cert,
            credential=basic("looker", self.passwords["looker"]),
        )
        self.emitter = browser(self.authority.cert, f"Bearer {token('emitter')}")

    def write_web(self, more: str = "") -> None:
        """Write the web configuration with all users, and `more` at its end."""
        users = "".join(f"  {user}: {hashed(password)}\n" for user, password in self.passwords.items())
        replace(self.web, WEB_CONFIG + users + more)

    def write_access(self, more: str = "") -> None:
        """Write the access file, and `more` at its end."""
        text = ACCESS
        for name in ("emitter", "scraper"):
            text = text.replace(f"TOKEN:{name}", hashlib.sha256(token(name).encode()).hexdigest())
        replace(self.access, text + more)

    def renew(self, pause: Callable[[], object] = lambda: None) -> int:
        """Replace the server's certificate, `pause`, and replace its key; return the serial number."""
        made = self.authority.issue("renewed")
        replace(self.folder / "server.pem", made.cert.read_bytes())
        pause()
        replace(self.folder / "server.key", made.key.read_bytes())
        self.serial = serial_of(made)
        return self.serial

    def serves(self) -> int:
        """Return the serial number of the certificate that a new connection gets."""
        context = ssl.create_default_context(cafile=str(self.authority.cert))
        with (
            socket.create_connection(("127.0.0.1", self.daemon.port), timeout=10) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            found = tls.getpeercert()
            assert found is not None
            return int(str(found["serialNumber"]), 16)

    def hang_up(self) -> None:
        """Send SIGHUP."""
        os.kill(self.daemon.process.pid, signal.SIGHUP)


def serial_of(pair: Pair) -> int:
    """Return the serial number of a certificate."""
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number

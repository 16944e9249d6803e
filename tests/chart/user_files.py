"""The Secrets of a user: the files that the chart mounts, and what a client needs to be let in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from support.certificates import Authority
from support.locked_daemon import hashed, token

from chart.pods import Object

USER, PASSWORD = "ann", "correct horse"

WEB = """\
basic_auth_users:
  {user}: {hash}
"""
TLS = """\
tls_server_config:
  cert_file: /etc/oneshotd/tls/tls.crt
  key_file: /etc/oneshotd/tls/tls.key
"""
#: A relative name is a key of the same Secret.
CLIENTS = (
    TLS
    + """\
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: client-ca.crt
"""
)

ACCESS = """\
[[allow]]
role = "emit"
token_sha256 = "{token}"

[[allow]]
role = "scrape"
user = "{user}"

[[allow]]
role = "emit"
san = "localhost"
"""

HOOK = """\
preset = "github"

[verify]
secret_files = ["github.secret"]
"""

PINGS = """\
[[check]]
name = "backup"
uuid = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
"""

RECEIVERS = """\
[[receiver]]
name = "prometheus-pushed"
url = "{url}"
instance = "events"
"""

EMIT = """\
url = "{url}"
token-file = "token"
ca-file = "ca.crt"
"""


def secret(name: str, files: Mapping[str, str | bytes]) -> Object:
    """Return a Secret, as a cluster has it."""
    data = {
        key: base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()
        for key, text in files.items()
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


class UserFiles:
    """The Secrets of an installation with every lock.

    :ivar authority: has signed the daemon's certificate, for the Service's name and localhost.
    """

    def __init__(self, folder: Path, service: str) -> None:
        self.authority = Authority(folder)
        names = (service, f"{service}.monitoring", f"{service}.monitoring.svc", "localhost", "127.0.0.1")
        self.pair = self.authority.issue("daemon", sans=names)

    @property
    def certificate(self) -> Object:
        """A Secret of the type kubernetes.io/tls, with the authority as cert-manager adds it."""
        files = {"tls.crt": self.pair.cert, "tls.key": self.pair.key, "ca.crt": self.authority.cert}
        return secret("certificate", {name: file.read_bytes() for name, file in files.items()})

    @property
    def probe(self) -> Object:
        """A certificate of the probes."""
        pair = self.authority.issue("probe")
        files = {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": self.authority.cert}
        return secret("probe", {name: file.read_bytes() for name, file in files.items()})

    def web(self, kind: str) -> Object:
        """A web configuration with users, and TLS or client certificates."""
        text = {"users": "", "tls": TLS, "clients": CLIENTS}[kind]
        text += WEB.format(user=USER, hash=hashed(PASSWORD)) if kind != "clients" else ""
        return secret("web", {"web.yml": text, "client-ca.crt": self.authority.cert.read_bytes()})

    @staticmethod
    def access() -> Object:
        """Rules of the user, the token and the probes' certificate."""
        digest = hashlib.sha256(token("emitter").encode()).hexdigest()
        return secret("access", {"access.toml": ACCESS.format(token=digest, user=USER)})

    def emit(self, url: str) -> Object:
        """The configuration of oneshot-emit."""
        files = {"emit.toml": EMIT.format(url=url), "token": f"{token('emitter')}\n"}
        return secret("emit", {**files, "ca.crt": self.authority.cert.read_bytes()})

"""A real Prometheus that takes remote write by TLS alone, from users and holders of certificates."""

from __future__ import annotations

import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from support.certificates import Authority, Pair
from support.credentials import hashed
from support.prometheus import Prometheus
from support.receivers import Store, receiver

USER, PASSWORD = "daemon", "correct horse"

_WEB_CONFIG = """\
tls_server_config:
  cert_file: {cert}
  key_file: {key}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {ca}
basic_auth_users:
  {user}: {hashed}
"""


class SecuredPrometheus(Prometheus):
    """The server, with the query interface of `Prometheus`; not started.

    :ivar authority: signs its certificate, and those of its clients.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        plain = receiver(store, folder)
        super().__init__(
            Path(plain.process.command[0]),
            folder,
            plain.config,
            name=store.name,
            port=plain.port,
            options=(*store.options, f"--web.config.file={folder / 'web.yml'}"),
        )
        self.url = f"https://localhost:{self.port}"
        self.authority = Authority(folder / "authority")
        self.client = self.authority.issue("client")
        self.client.key.chmod(0o600)
        # Tests ask it whatever its certificate is.
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._context.load_cert_chain(self.client.cert, self.client.key)

    def certify(self, pair: Pair) -> None:
        """Give it a certificate; it takes it from its next start on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = {"user": USER, "hashed": hashed(PASSWORD).decode(), "ca": self.authority.cert}
        (self.folder / "web.yml").write_text(_WEB_CONFIG.format(cert=pair.cert, key=pair.key, **texts))

    def keys(self, password_file: Path) -> Mapping[str, str]:
        """Return the keys of a receiver that has everything."""
        return {
            "url": f'"{self.url}/api/v1/write"',
            "user": f'"{USER}"',
            "password_file": f'"{password_file}"',
            "ca_file": f'"{self.authority.cert}"',
            "cert": f'"{self.client.cert}"',
            "key": f'"{self.client.key}"',
        }

    def _get(self, path: str) -> str:
        credential = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Basic {credential}"})
        browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context)
        )
        with browser.open(request, timeout=10) as answer:
            return str(answer.read().decode())

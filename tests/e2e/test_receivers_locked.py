"""Receivers behind TLS, users, certificates and tokens: what is wrong is said, and costs no event."""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from support.audit_command import audit_json
from support.certificates import Authority
from support.daemon import Daemon
from support.haproxy import HAProxy
from support.processes import free_port, until
from support.prometheus import Prometheus
from support.pushed_events import await_all, lines, lost, post
from support.receivers import STORES, receiver, receivers_file
from support.secured_prometheus import PASSWORD, USER, SecuredPrometheus

pytestmark = pytest.mark.e2e

BY_NAME = {store.name: store for store in STORES}

#: A proxy as stands before a store of several tenants.
GATE = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
global
    stats socket unix@control level admin
frontend gate
    bind 127.0.0.1:{port}
    http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer {token}" }}
    http-request deny deny_status 403 unless {{ req.hdr(x-scope-orgid) -m str {tenant} }}
    http-request deny deny_status 403 unless {{ req.hdr(x-site) -m str {site} }}
    default_backend store
backend store
    server store 127.0.0.1:{server}
"""


def secret(path: Path, text: str) -> Path:
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def send_until(daemon: Daemon, trouble: str) -> None:
    """Send events until the receiver takes none, and the status page says why."""

    def is_said() -> bool:
        post(daemon, *lines(0, 12))
        is_failing = 'oneshotd_receiver_accepts{scraper="r"} 0.0' in daemon.look()
        return is_failing and trouble in html.unescape(daemon.get("/", "text/html"))

    until(is_said, 60, lambda: f"{trouble}: {daemon.process.tail()}")


def is_loud(daemon: Daemon, status: int) -> bool:
    """Whether the daemon says everywhere that only a change of the configuration can help."""
    return (
        any(f"mend the configuration: HTTP {status}" in line for line in daemon.errors())
        and "warning: receiver r takes no events until its configuration" in daemon.get("/readyz")
        and 'oneshotd_receiver_misconfigured{scraper="r"} 1.0' in daemon.look()
    )


def await_delivered(daemon: Daemon, server: Prometheus) -> None:
    """Wait until the receiver has each event once, and the daemon has nothing to say about it."""
    await_all(daemon, server)
    assert lost(daemon) == {}
    until(lambda: daemon.get("/readyz") == "ok\n", 30, lambda: daemon.get("/readyz"))


class File:
    """The file of receivers, with one that is right."""

    def __init__(self, path: Path, port: int, keys: Mapping[str, str]) -> None:
        self.path = path
        self._port = port
        self._keys = {"visible": '"1s"', **keys}
        self.write()

    def write(self, **changes: str | None) -> None:
        """Write it with other keys, or without those that are None."""
        keys = {name: text for name, text in {**self._keys, **changes}.items() if text is not None}
        receivers_file(self.path, {"r": self._port}, **keys)


UNTRUSTED = "the receiver's certificate has ended, or its authority is not trusted"


@pytest.mark.parametrize("name", ["prometheus-bookworm", "prometheus-sid"])
def test_a_locked_prometheus(name: str, tmp_path: Path) -> None:
    """A wrong certificate or password would lose events, or be silent, or want a restart to be mended."""
    server = SecuredPrometheus(BY_NAME[name], tmp_path / "server")
    own = server.authority.issue("server")
    server.certify(own)
    password = secret(tmp_path / "password", PASSWORD)
    file = File(tmp_path / "receivers.toml", server.port, server.keys(password))
    with server, Daemon(tmp_path / "daemon", more=[f"--receivers={file.path}"]) as daemon:
        post(daemon, *lines(0))
        await_delivered(daemon, server)
        assert daemon.errors() == []

        secret(password, "wrong")
        send_until(daemon, "HTTP 401")
        until(lambda: is_loud(daemon, 401), 30, "an error")
        secret(password, PASSWORD)
        await_delivered(daemon, server)

        file.write(ca_file=f'"{Authority(tmp_path / "other").cert}"')
        send_until(daemon, UNTRUSTED)
        file.write()
        await_delivered(daemon, server)

        file.write(cert=None, key=None)
        send_until(daemon, "the receiver asks for a certificate, or does not take ours")
        file.write()
        await_delivered(daemon, server)

        server.certify(server.authority.issue("ended", valid=timedelta(hours=-1)))
        server.restart()
        send_until(daemon, UNTRUSTED)
        server.certify(server.authority.issue("another", sans=("example.net",)))
        server.restart()
        send_until(daemon, "the receiver's certificate is for another host")
        server.certify(own)
        server.restart()
        await_delivered(daemon, server)
        is_equal(daemon, server)


def is_equal(daemon: Daemon, server: SecuredPrometheus) -> None:
    """Check with `oneshotctl audit`, as a user does, that each event is there once."""
    url = server.url.replace("https://", f"https://{USER}:{PASSWORD.replace(' ', '%20')}@")
    locks = (
        *(f"--prometheus-ca-file={server.authority.cert}", f"--prometheus-cert={server.client.cert}"),
        f"--prometheus-key={server.client.key}",
    )
    status, found = audit_json(daemon, "r", url, *locks)
    assert status == 0
    assert (found["verdict"], found["way"]) == ("equal", "push")
    assert found["events"] == found["found"] > 0


def test_a_crash_behind_a_proxy_costs_nothing(tmp_path: Path) -> None:
    """A proxy answers while VictoriaMetrics is away, which has lost what it accepted just before."""
    store, port = BY_NAME["victoriametrics"], free_port()
    with receiver(store, tmp_path / "server") as server:
        gate = GATE.format(port=port, server=server.port, token="t", tenant="a", site="b")
        gate = "\n".join(line for line in gate.splitlines() if "http-request" not in line) + "\n"
        file = File(tmp_path / "receivers.toml", port, store.keys)
        more = [f"--receivers={file.path}"]
        with HAProxy(tmp_path / "gate", gate, port), Daemon(tmp_path / "daemon", more=more) as daemon:
            post(daemon, *lines(0))
            await_delivered(daemon, server)
            server.process.kill()
            send_until(daemon, "HTTP 503")
            server.start()
            await_delivered(daemon, server)


@pytest.mark.parametrize("name", ["prometheus-sid", "victoriametrics"])
def test_a_token_and_headers_through_a_proxy(name: str, tmp_path: Path) -> None:
    """A store of several tenants, or one behind a proxy with tokens, would refuse every event."""
    token, tenant = secret(tmp_path / "token", "s3cret"), secret(tmp_path / "tenant", "team-a")
    store, port = BY_NAME[name], free_port()
    with receiver(store, tmp_path / "server") as server:
        gate = GATE.format(port=port, server=server.port, token="s3cret", tenant="team-a", site="edge")
        keys = {
            "token_file": f'"{token}"',
            "header_files": f'{{ X-Scope-OrgID = "{tenant}" }}',
            "headers": '{ X-Site = "edge" }',
        }
        file = File(tmp_path / "receivers.toml", port, {**store.keys, **keys})
        more = [f"--receivers={file.path}"]
        with HAProxy(tmp_path / "gate", gate, port), Daemon(tmp_path / "daemon", more=more) as daemon:
            post(daemon, *lines(0))
            await_delivered(daemon, server)
            for path, status in ((token, 401), (tenant, 403)):
                right = path.read_text().strip()
                secret(path, "wrong")
                send_until(daemon, f"HTTP {status}")
                until(lambda: is_loud(daemon, status), 30, "an error")  # noqa: B023
                secret(path, right)
                await_delivered(daemon, server)
            file.write(headers=None)
            send_until(daemon, "HTTP 403")
            file.write()
            await_delivered(daemon, server)

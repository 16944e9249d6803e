"""The set-ups of docs/high-availability.md, run: an event and a scrape through them, over each failover."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import yaml
from attrs import field, frozen
from support.certificates import Authority
from support.daemon import Daemon
from support.debian_packages import fetch
from support.emit_process import emit
from support.haproxy import HAProxy
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import free_port, until
from support.prometheus import Prometheus
from support.security_pages import REPOSITORY, block

pytestmark = pytest.mark.e2e

PAGE = REPOSITORY / "docs" / "high-availability.md"

#: Seconds in which an event has arrived, a failover included.
PATIENCE = 90.0

_NEVER_MIND = "local all all trust\nlocal replication all trust\n"

Configure = Callable[[PostgreSQLServer], None]


def replaced(kind: str, *pairs: tuple[str, str]) -> str:
    """Return the page's block of this kind, its addresses and paths replaced; each must be in it."""
    text = block(PAGE, kind)
    for old, new in pairs:
        assert old in text, f"{kind}: {old}"
        text = text.replace(old, new)
    return text


@frozen(kw_only=True)
class Ports:
    """A free port for everything."""

    primary: int = field(factory=free_port)
    standby: int = field(factory=free_port)
    ann: int = field(factory=free_port)
    bob: int = field(factory=free_port)
    emitters: int = field(factory=free_port)
    scrapers: int = field(factory=free_port)


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def secured(server: PostgreSQLServer, authority: Authority) -> list[tuple[str, str]]:
    """Write the files of TLS and passwords for a server; return what replaces their paths."""
    pair = authority.issue(f"server-{server.port}")
    tls = "/etc/postgresql/tls"
    return [
        (f"{tls}/server.pem", str(server.own("server.pem", pair.cert.read_bytes()))),
        (f"{tls}/server.key", str(server.own("server.key", pair.key.read_bytes()))),
    ]


def hba() -> str:
    return replaced("hba", ("192.0.2.11", "127.0.0.1"), ("192.0.2.12", "127.0.0.1")) + _NEVER_MIND


@contextmanager
def databases(ports: Ports, authority: Authority) -> Iterator[tuple[PostgreSQLServer, PostgreSQLServer]]:
    """The primary and the synchronous standby of the page."""

    def first(server: PostgreSQLServer) -> None:
        text = replaced("primary", ("= 5432", f"= {ports.primary}"), *secured(server, authority))
        lines = [line for line in text.splitlines() if not line.startswith("synchronous_standby_names")]
        server.configure("\n".join([*lines, ""]), hba=hba())

    def second(server: PostgreSQLServer) -> None:
        text = replaced(
            "standby",
            ("port = 5432", f"port = {ports.standby}"),
            ("host=a.example.org port=5432", f"host=127.0.0.1 port={ports.primary}"),
            ("/var/lib/postgresql/.pgpass", str(server.own("pgpass", b"*:*:*:replicator:CHANGE-ME-TWO\n"))),
            ("/etc/postgresql/tls/ca.pem", str(server.own("ca.pem", authority.cert.read_bytes()))),
            *secured(server, authority),
        )
        server.configure(text, alone=True)

    with running_server(durable=True, port=ports.primary, superuser="postgres", before=first) as primary:
        for statement in filter(str.strip, block(PAGE, "database").split(";\n")):
            primary.execute(statement)
        with running_server(durable=True, port=ports.standby, copy_of=primary, before=second) as standby:
            until(lambda: states(primary) == [("b", "async")], PATIENCE, lambda: str(states(primary)))
            primary.configure("synchronous_standby_names = 'b'\n")
            assert "synchronous_standby_names = 'b'" in block(PAGE, "primary")
            primary.reload()
            until(lambda: states(primary) == [("b", "sync")], PATIENCE, lambda: str(states(primary)))
            yield primary, standby


def states(server: PostgreSQLServer) -> list[tuple[str, str]]:
    with psycopg.connect(server.address("postgres")) as connection:
        return connection.execute("SELECT application_name, sync_state FROM pg_stat_replication").fetchall()


def daemon(folder: Path, name: str, port: int, ports: Ports, authority: Authority) -> Daemon:
    """One of the two daemons of the page."""
    folder.mkdir()
    (passfile := folder / "pgpass").write_text(block(PAGE, "passfile"))
    passfile.chmod(0o600)
    toml = replaced(
        "daemon",
        ("8090", f"localhost:{port}"),
        ("a.example.org,b.example.org", "127.0.0.1,127.0.0.1"),
        ("port=5432", f"port={ports.primary},{ports.standby}"),
        ("/etc/oneshotd/pgpass", str(passfile)),
        ("/etc/oneshotd/postgresql-ca.pem", str(authority.cert)),
        ('daemon-name = "a"', f'daemon-name = "{name}"'),
        ('"30s"', '"5s"'),
    )
    (folder / "oneshotd.toml").write_text(toml)
    return Daemon(folder, options=["--config=oneshotd.toml"], port=port)


def balancer(folder: Path, kind: str, ports: Ports) -> HAProxy:
    """HAProxy, with a configuration of the page."""
    binds = {
        "balancer": (
            ("bind :8090", f"bind 127.0.0.1:{ports.emitters}"),
            ("bind :8091", f"bind 127.0.0.1:{ports.scrapers}"),
        ),
        "local": (("bind 127.0.0.1:8091", f"bind 127.0.0.1:{ports.scrapers}"),),
    }
    text = replaced(
        kind,
        ("/run/haproxy/admin.sock", "unix@control"),
        ("a.example.org:8090", f"127.0.0.1:{ports.ann}"),
        ("b.example.org:8090", f"127.0.0.1:{ports.bob}"),
        *binds[kind],
    )
    return HAProxy(folder / "haproxy", text, ports.scrapers)


def prometheus(folder: Path, ports: Ports) -> Prometheus:
    """A real Prometheus with the two jobs of the page, which scrape every second."""
    text = replaced(
        "prometheus",
        ("15s", "1s"),
        ("10s", "1s"),
        ("lb.example.org:8091", f"127.0.0.1:{ports.scrapers}"),
        ("a.example.org:8090", f"127.0.0.1:{ports.ann}"),
        ("b.example.org:8090", f"127.0.0.1:{ports.bob}"),
        ("/etc/prometheus/oneshotd.rules.yml", str(REPOSITORY / "etc/prometheus/oneshotd.rules.yml")),
    )
    yaml.safe_load(text)
    return Prometheus(fetch("prometheus") / "usr/bin/prometheus", folder / "prometheus", text)


class Sending:
    """Reports events, each with a number of its own, and waits until Prometheus has them."""

    def __init__(self, folder: Path, server: Prometheus, urls: Sequence[str]) -> None:
        self._server = server
        self._file = folder / "emit.toml"
        self._file.write_text(f'url = {list(urls)}\nretry = "1m"\n')
        self.count = 0

    def send(self, number: int) -> None:
        for _ in range(number):
            done = emit("--config", str(self._file), f"n={self.count}", env={"ONESHOTD_URL": ""})
            assert (done.returncode, done.stderr) == (0, b""), done
            self.count += 1

    def arrive(self) -> None:
        """Check that Prometheus gets each event, and each once."""
        until(lambda: self._counts()[1] >= self.count, PATIENCE, lambda: str(self._counts()))
        self._server.await_scrapes(6)
        assert self._counts() == (self.count, self.count)

    def _counts(self) -> tuple[float, float]:
        """Return how many events there are, and how many different ones."""
        every = "sum_over_time(events_to_metrics[10m])"
        return self._server.value(f"sum({every})"), self._server.value(f"count({every})")


@pytest.mark.parametrize("kind", ["balancer", "local"])
def test_an_event_is_there_once_over_each_failover(
    kind: str, tmp_path: Path, ports: Ports, authority: Authority
) -> None:
    """An operator has copied the page, and loses events with the first machine."""
    with ExitStack() as stack:
        primary, standby = stack.enter_context(databases(ports, authority))
        ann = stack.enter_context(daemon(tmp_path / "a", "a", ports.ann, ports, authority))
        bob = stack.enter_context(daemon(tmp_path / "b", "b", ports.bob, ports, authority))
        for each in (ann, bob):
            assert "and of its standby (b)" in each.process.log_text()
        proxy = stack.enter_context(balancer(tmp_path, kind, ports))
        proxy.await_states(a=True, b=True)
        server = stack.enter_context(prometheus(tmp_path, ports))
        if kind == "balancer":
            urls = [f"http://127.0.0.1:{ports.emitters}"]
        else:
            assert block(PAGE, "emit").startswith(
                'url = ["http://a.example.org:8090", "http://b.example.org:8090"]\n'
            )
            urls = [ann.url, bob.url]
        sending = Sending(tmp_path, server, urls)
        sending.send(3)
        sending.arrive()
        until(lambda: server.value('sum(up{job="oneshotd-daemons"})') == 2, PATIENCE, "both daemons are up")
        ann.kill()
        sending.send(3)
        sending.arrive()
        primary.stop("immediate")
        standby.promote()
        sending.send(3)
        sending.arrive()
        ann.start()
        sending.send(3)
        sending.arrive()
        assert bob.process.log_text().count("Traceback") == 0

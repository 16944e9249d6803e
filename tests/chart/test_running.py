"""What the chart renders runs: the container's command with its files, probes, a test event, a scrape.

The parts of a cluster are done on this machine by `chart.kubelet`; the programs are those of this
environment, in place of the image's. A failure shows as a pod that never becomes ready, or that is killed at
its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.locked_daemon import token
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import until

from chart.helm import Helm
from chart.installation import RELEASE, Installation, clean, events, running, scrape, stopped
from chart.kubelet import Network, Volume, network
from chart.user_files import HOOK, PASSWORD, PINGS, RECEIVERS, USER, UserFiles, secret

pytestmark = pytest.mark.usefixtures("pods_run")

MONITORED = {"scrape": {"by": "serviceMonitor"}, "testEvent": {"enabled": True}}

TEST_EVENT = f'events_to_metrics{{release="{RELEASE}",type="helm_test"}} 1'

#: The first two replicas of a Prometheus of the operator.
FIRST, SECOND = "prometheus-k8s-0", "prometheus-k8s-1"


@pytest.fixture
def line() -> Iterator[Network]:
    with network() as made:
        yield made


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return values of several parts, in each of which other values are set."""
    made: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            made[name] = {**made.get(name, {}), **value} if isinstance(value, dict) else value
    return made


def test_one_daemon_with_a_file(helm: Helm, line: Network, tmp_path: Path) -> None:
    """Without a lock: the test's event reaches two replicas once each, over a crash and a new pod."""
    installed = Installation(tmp_path, helm, MONITORED)
    (endpoint,) = installed.endpoints()
    first = installed.pod(line)
    with running(first) as daemon:
        installed.emitter("Pod", line).run()
        assert events(scrape(installed, first, endpoint, FIRST)) == [TEST_EVENT]
        assert events(scrape(installed, first, endpoint, FIRST)) == []
        (port,) = [
            each["targetPort"] for each in installed.service["spec"]["ports"] if each["protocol"] == "UDP"
        ]
        done = line.run("bash", "-c", f"echo type=datagram > /dev/udp/127.0.0.1/{port}")
        assert done.returncode == 0, done.stderr
        got: list[str] = []

        def arrived() -> bool:
            got.extend(events(scrape(installed, first, endpoint, FIRST)))
            return bool(got)

        until(arrived, 30, "the datagram")
        assert got == ['events_to_metrics{type="datagram"} 1']
        # The answer to the next scrape shows that the delivery is settled; a crash before would repeat it.
        assert events(scrape(installed, first, endpoint, FIRST)) == []
        daemon.kill()
    second = installed.pod(line)
    with running(second) as daemon:
        assert sorted(events(scrape(installed, second, endpoint, SECOND))) == [TEST_EVENT, *got]
        assert events(scrape(installed, second, endpoint, FIRST)) == []
        installed.emitter("CronJob", line).run()
        (event,) = events(scrape(installed, second, endpoint, FIRST))
        assert 'type="test"' in event
        stopped(second, daemon)
        assert clean(daemon.log_text())
    assert [path.name for path in installed.claims["data"].glob("*.sqlite")] == ["oneshotd.sqlite"]


def test_one_daemon_with_every_lock(helm: Helm, line: Network, tmp_path: Path) -> None:
    """TLS, users, rules, hooks, pings and a receiver, each from a Secret; a changed Secret counts at once."""
    values = {
        "webConfig": {"secretName": "web", "tls": True, "tlsSecretName": "certificate"},
        **{name: {"secretName": name} for name in ("access", "hooks", "pings", "receivers")},
        "testEvent": {"secretName": "emit", "enabled": True},
        "scrape": {"by": "podMonitor", "params": {"timestamps": ["event"]}},
    }
    files = UserFiles(tmp_path / "keys", "events-oneshotd")
    secrets = [
        *(files.certificate, files.web("tls"), files.access()),
        files.emit("https://events-oneshotd.monitoring.svc:8090"),
        secret("hooks", {"ci.toml": HOOK, "github.secret": "a secret of the forge"}),
        secret("pings", {"pings.toml": PINGS}),
        secret("receivers", {"receivers.toml": RECEIVERS.format(url="http://127.0.0.1:9/api/v1/write")}),
    ]
    installed = Installation(tmp_path, helm, values, secrets=secrets)
    (endpoint,) = installed.endpoints()
    pod = installed.pod(line)
    locks = ("--cacert", str(files.authority.cert), "--user", f"{USER}:{PASSWORD}")
    with running(pod) as daemon:
        installed.emitter("Pod", line).run()
        (event,) = events(scrape(installed, pod, endpoint, FIRST, *locks))
        # With the time of the event.
        sample, at = event.rsplit(" ", 1)
        assert sample == TEST_EVENT
        assert abs(int(at) / 1000 - time.time()) < 60
        with pytest.raises(AssertionError, match="status 22"):  # no user
            scrape(installed, pod, endpoint, FIRST, *locks[:2])
        rules = pod.volumes["access"]
        assert isinstance(rules, Volume)
        rules.update({"access.toml": f'[[allow]]\nrole = "look"\nuser = "{USER}"\n'.encode()})
        until(lambda: _refused(line, token("emitter")), 30, "the new rules are in force")
        stopped(pod, daemon)
        assert clean(daemon.log_text()), daemon.log_text()


def _refused(line: Network, bearer: str) -> bool:
    """Return whether a token is known no more."""
    done = line.curl(
        "https://127.0.0.1:8090/event?type=late",
        *("--insecure", "--request", "POST", "--header", f"Authorization: Bearer {bearer}"),
        *("--output", "/dev/null", "--write-out", "%{http_code}"),
    )
    return done.stdout == "401"


def test_client_certificates(helm: Helm, line: Network, tmp_path: Path) -> None:
    """The probes run a command with a certificate, because a kubelet has none."""
    values = {
        "webConfig": {
            **{"secretName": "web", "tls": True, "tlsSecretName": "certificate"},
            **{"clientCertificates": True, "probeSecretName": "probe"},
        },
        "scrape": {"by": "serviceMonitor"},
    }
    files = UserFiles(tmp_path / "keys", "events-oneshotd")
    secrets = [files.certificate, files.probe, files.web("clients")]
    installed = Installation(tmp_path, helm, values, secrets=secrets)
    (endpoint,) = installed.endpoints()
    pod = installed.pod(line)
    pair = files.authority.issue("prometheus")
    with running(pod) as daemon:
        said = scrape(
            *(installed, pod, endpoint, FIRST),
            *("--cacert", str(files.authority.cert), "--cert", str(pair.cert), "--key", str(pair.key)),
        )
        assert "oneshotd_build_info" in said
        stopped(pod, daemon)


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQLServer]:
    def locked(server: PostgreSQLServer) -> None:
        server.configure("", hba="local all postgres trust\nlocal all oneshotd scram-sha-256\n")
        server.socket.chmod(0o711)

    with running_server(superuser="postgres", before=locked) as server:
        server.execute("CREATE ROLE oneshotd LOGIN PASSWORD 'CHANGE-ME'")
        server.execute("CREATE DATABASE oneshotd OWNER oneshotd TEMPLATE template0 ENCODING 'UTF8'")
        yield server


def test_two_daemons_with_a_database(
    helm: Helm, line: Network, database: PostgreSQLServer, tmp_path: Path
) -> None:
    """A scrape reaches any pod and gets each event once; one pod is killed, and the other goes on."""
    values = merged(
        MONITORED,
        {"store": {"kind": "postgresql", "secretName": "database", "leaseMargin": "2s"}, "replicaCount": 2},
    )
    address = "postgresql:host=/run/postgresql user=oneshotd dbname=oneshotd"
    secrets = [secret("database", {"address": address, "password": "CHANGE-ME"})]
    reach = [(database.socket, "/run/postgresql")]  # in place of a network between the pods
    installed = Installation(tmp_path, helm, values, secrets=secrets, extra=reach)
    both, each = installed.endpoints()
    with network() as other:
        names = ("events-oneshotd-6d4cf56db6-abcde", "events-oneshotd-6d4cf56db6-fghij")
        one, two = (installed.pod(net, name) for net, name in zip((line, other), names, strict=True))
        with running(one) as killed, running(two) as daemon:
            installed.emitter("Pod", line).run()
            assert events(scrape(installed, two, both, FIRST)) == [TEST_EVENT]
            assert events(scrape(installed, one, both, FIRST)) == []
            for pod in (one, two):
                figures = scrape(installed, pod, each, FIRST)
                assert events(figures) == []
                assert "oneshotd_store_writable 1" in figures
            killed.kill()
            assert events(scrape(installed, two, both, SECOND)) == [TEST_EVENT]
            installed.emitter("CronJob", other).run()
            (event,) = events(scrape(installed, two, both, FIRST))
            assert 'type="test"' in event
            stopped(two, daemon)
            assert clean(daemon.log_text())

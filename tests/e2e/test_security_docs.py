"""docs/hardening.md and docs/rotation.md, as they stand there: commands, the daemon's files, and scrapers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import yaml
from attrs import frozen
from support.certificates import Pair
from support.daemon import browser
from support.debian_packages import fetch
from support.hardened_daemon import Hardened
from support.processes import until
from support.prometheus import Prometheus
from support.security_pages import HARDENING, ROTATION, Asked, asked, block, blocks
from support.victoriametrics import VictoriaMetrics

pytestmark = pytest.mark.e2e

EVENTS = 'sum(sum_over_time(events_to_metrics{team="shop"}[10m]))'
#: Scrapes that failed.
FAILED = "sum(count_over_time(up[10m]) - sum_over_time(up[10m]))"

LOOK = "/api/v1/events"
INSTALL = "cd /root/oneshotd-keys; install -g oneshotd -m 640 {files} /etc/oneshotd/"

Servers = Mapping[str, Prometheus]

#: Scrapers that do not run in these tests.
READ = [one for one in asked() if one.program not in ("prometheus", "victoriametrics")]


@frozen(kw_only=True)
class Played:
    """What is left to look at when everything was replaced.

    :param noted: what ``oneshotctl check-config`` said before the start.
    :param sent: events.
    :param counted, failed: what each server says of its events, and of its scrapes that failed.
    """

    hardened: Hardened
    noted: str
    sent: int
    counted: Mapping[str, float]
    failed: Mapping[str, float]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("hardened")
    hardened = Hardened(folder)
    noted = hardened.check_config()
    with ExitStack() as stack:
        stack.enter_context(hardened.daemon)
        servers = scrapers(hardened, folder)
        for server in servers.values():
            stack.push(server)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers.values()))
        sent = 0
        for change in (nothing, renew, new_token, new_authority):
            change(hardened, servers)
            hardened.emit("type=deploy", f"number={sent}")
            sent += 1
        for name, server in servers.items():
            until(partial(has, server, sent), 20, partial(tell, name, server))
        for server in servers.values():
            server.await_scrapes(2)  # what came twice would have come by now
        yield Played(
            hardened=hardened,
            noted=noted,
            sent=sent,
            counted={name: server.value(EVENTS) for name, server in servers.items()},
            failed={name: server.value(FAILED) for name, server in servers.items()},
        )


def scrapers(hardened: Hardened, folder: Path) -> dict[str, Prometheus]:
    """Return the page's servers, not started, with an interval of one second."""
    token, certificate = (fast(hardened, text) for text in blocks(HARDENING, "prometheus"))
    password = fast(hardened, block(HARDENING, "victoriametrics"))
    programs = {suite: fetch("prometheus", suite) / "usr/bin/prometheus" for suite in ("bookworm", "sid")}
    victoria = fetch("victoria-metrics", "sid") / "usr/bin/victoria-metrics"
    return {
        "a token": Prometheus(programs["bookworm"], folder / "token", token),
        "a certificate": Prometheus(programs["sid"], folder / "certificate", certificate),
        "a password": VictoriaMetrics(victoria, folder / "password", password),
    }


def fast(hardened: Hardened, text: str) -> str:
    assert "scrape_interval: 15s" in text
    return hardened.here(text).replace("scrape_interval: 15s", "scrape_interval: 1s\n    scrape_timeout: 1s")


def tell(name: str, server: Prometheus) -> str:
    return f"{name}: {server.value(EVENTS)} events, {server.unhealthy_targets()}"


def has(server: Prometheus, events: int) -> bool:
    return server.value(EVENTS) >= events


# Changes


def nothing(hardened: Hardened, servers: Servers) -> None:
    """Leave all as the page has made it."""


def renew(hardened: Hardened, servers: Servers) -> None:
    """Replace the daemon's certificate."""
    hardened.run(block(ROTATION, "renew"))
    hardened.daemon.process.await_text("server.key, the certificate is valid until", 15)


def new_token(hardened: Hardened, servers: Servers) -> None:
    """Replace the token of a Prometheus: two rules side by side, then one."""
    hardened.run(block(ROTATION, "token"))
    hardened.daemon.process.await_text("rules: 1 added, 0 removed", 15)
    old, new = token_of(hardened, "prometheus-a"), token_of(hardened, "prometheus-a-2")
    assert [status(hardened, f"Bearer {token}", LOOK) for token in (old, new)] == [200, 200]
    hardened.give("prometheus-a-2.token")
    server = servers["a token"]
    reload(server, server.config.replace("prometheus-a.token", "prometheus-a-2.token"))
    server.await_scrapes(2)
    hardened.remove_rule(hashlib.sha256(old.encode()).hexdigest())
    hardened.run(INSTALL.format(files="access.toml"))
    hardened.daemon.process.await_text("rules: 0 added, 1 removed", 15)
    assert [status(hardened, f"Bearer {token}", LOOK) for token in (old, new)] == [401, 200]


def reload(server: Prometheus, config: str) -> None:
    """Give a server another configuration, which it reads at SIGHUP."""
    (server.folder / "prometheus.yml").write_text(config)
    os.kill(server.process.pid, signal.SIGHUP)
    server.process.await_text("Completed loading of configuration file", 10)


def new_authority(hardened: Hardened, servers: Servers) -> None:
    """Replace the authority, and then each certificate, while both authorities are trusted."""
    log = hardened.daemon.process
    old = Pair(hardened.keys / "old-b.pem", hardened.keys / "old-b.key")
    shutil.copy(hardened.keys / "prometheus-b.pem", old.cert)
    shutil.copy(hardened.keys / "prometheus-b.key", old.key)
    hardened.run(block(ROTATION, "authority"))
    log.await_text("ca.pem, the certificate is valid until", 15)
    hardened.give(ca_pem="both.pem")
    servers["a certificate"].await_scrapes(2)
    (line,) = re.findall(r"^certificate prometheus-b .*$", block(HARDENING, "keys"), re.MULTILINE)
    hardened.run(f"cd /root/oneshotd-keys; . ./keys.sh; {line}")
    hardened.give(prometheus_b_pem="prometheus-b.pem", prometheus_b_key="prometheus-b.key")
    hardened.run(block(ROTATION, "renew"))
    trusted = hardened.keys / "ca.pem"
    until(partial(is_trusted, hardened, trusted), 15, "a certificate of the new authority")
    assert status(hardened, None, LOOK, pair=old) == 200
    hardened.give(ca_pem="ca.pem")
    hardened.run(INSTALL.format(files="ca.pem"))
    until(lambda: status(hardened, None, LOOK, pair=old) == 0, 15, "the old authority is refused")
    new = Pair(hardened.clients / "prometheus-b.pem", hardened.clients / "prometheus-b.key")
    assert status(hardened, None, LOOK, pair=new) == 200


def is_trusted(hardened: Hardened, ca: Path) -> bool:
    return status(hardened, None, "/readyz", ca=ca) == 200


def token_of(hardened: Hardened, name: str) -> str:
    return (hardened.keys / f"{name}.token").read_text().strip()


def basic(hardened: Hardened, user: str) -> str:
    password = (hardened.keys / f"{user}.password").read_text().strip()
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def status(
    hardened: Hardened,
    credential: str | None,
    path: str,
    *,
    method: str = "GET",
    pair: Pair | None = None,
    ca: Path | None = None,
) -> int:
    """Return the status of the answer; 0: there was none, because TLS failed."""
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": "1"}  # without it, a scrape can be taken for a look
    request = urllib.request.Request(f"{hardened.daemon.url}{path}", headers=headers, method=method)
    try:
        with browser(ca or hardened.ca, credential, pair).open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


# What is left


def test_the_files_of_the_page_leave_nothing_to_note(played: Played) -> None:
    """Who copies them would have a rule that fits nobody, or a key that all may read."""
    assert "note:" not in played.noted
    assert "UDP" in played.noted


def test_each_server_gets_each_event_once_while_all_is_replaced(played: Played) -> None:
    """A configuration of the page would not be let in, or a rotation would lose or repeat events."""
    assert played.counted == dict.fromkeys(played.counted, float(played.sent))
    assert len(played.counted) == 3


def test_no_scrape_fails_while_all_is_replaced(played: Played) -> None:
    """The page promises a rotation without a failed scrape; each would be an alert."""
    assert played.failed == dict.fromkeys(played.failed, 0.0)


@pytest.mark.parametrize("one", READ, ids=lambda one: one.program)
def test_a_scrape_as_the_others_are_told_to_is_let_in(played: Played, one: Asked) -> None:
    """A scraper with the page's address, token and authority would be refused, or share another's name."""
    hardened = played.hardened
    assert hardened.here(one.target) == f"https://localhost:{hardened.port}"
    assert Path(hardened.here(one.files["ca"])) == hardened.ca
    # As Telegraf does, which sends a line end with it.
    token = Path(hardened.here(one.files["token"])).read_text()
    token = token if one.program == "telegraf" else token.strip()
    assert status(hardened, f"Bearer {token}", f"/metrics?scraper={one.scraper}") == 200
    assert status(hardened, f"Bearer {token}", "/metrics?scraper=prometheus-a") == 403


@pytest.mark.parametrize(
    ("who", "send", "scrape", "look"),
    [("nobody", 401, 401, 401), ("ci", 200, 403, 403), ("ops", 403, 403, 200), ("victoria", 403, 403, 200)],
)
def test_who_may_do_what(played: Played, who: str, send: int, scrape: int, look: int) -> None:
    """A client would be able to do what the page's rules do not give it, or not what they do."""
    hardened = played.hardened
    credentials = {
        "nobody": None,
        "ci": f"Bearer {token_of(hardened, 'ci')}",
        "ops": basic(hardened, "ops"),
        "victoria": basic(hardened, "victoria"),
    }
    credential = credentials[who]
    found = (
        status(hardened, credential, "/event?type=test", method="POST"),
        status(hardened, credential, "/metrics?scraper=prometheus-b"),
        status(hardened, credential, LOOK),
    )
    assert found == (send, scrape, look)
    assert status(hardened, credential, "/readyz") == 200


def test_the_log_has_no_error_and_no_secret(played: Played) -> None:
    """The log would open the daemon to its readers."""
    hardened = played.hardened
    assert hardened.daemon.errors() == []
    text = hardened.daemon.process.log_text()
    secrets = [path for path in hardened.keys.iterdir() if path.suffix in (".token", ".password")]
    assert len(secrets) == 9
    for path in secrets:
        assert path.read_text().strip() not in text
    with browser(hardened.ca).open(f"{hardened.daemon.url}/readyz", timeout=10) as answer:
        assert answer.read() == b"ok\n"


def test_promtool_takes_the_configurations_and_no_credential_in_http_headers(
    played: Played, tmp_path: Path
) -> None:
    """Prometheus would not start with the page's text, or the page would withhold a way that there is."""
    promtool = fetch("promtool", "sid") / "usr/bin/promtool"
    texts = [*blocks(HARDENING, "prometheus"), *blocks(HARDENING, "victoriametrics")]
    texts += [
        yaml.safe_dump(yaml.safe_load(text)["receivers"]["prometheus"]["config"])
        for text in blocks(HARDENING, "otel")
    ]
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.yml"
        file.write_text(played.hardened.here(text))
        done = checked(promtool, file)
        assert done.returncode == 0, done.stderr + done.stdout
    (job,) = yaml.safe_load(texts[0])["scrape_configs"]
    for header, expected in (("X-Gateway-Key", 0), ("Authorization", 1)):
        config = {**job, "authorization": None, "http_headers": {header: {"values": ["Bearer x"]}}}
        file.write_text(played.hardened.here(yaml.safe_dump({"scrape_configs": [config]})))
        assert checked(promtool, file).returncode == expected


def checked(promtool: Path, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(promtool), "check", "config", str(file)], capture_output=True, text=True, timeout=60
    )

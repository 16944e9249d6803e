"""Real scrapers over TLS with passwords, tokens and certificates, while all of these are replaced."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
from attrs import frozen
from support.certificates import Authority
from support.daemon import browser
from support.locked_daemon import Locked, basic, replace, token
from support.processes import until
from support.prometheus import Prometheus
from support.scrapers import KINDS, Job, Kind, server
from support.steady_tool import SteadyTool

pytestmark = pytest.mark.e2e

SCRAPERS = tuple(kind for kind in KINDS if kind.program != "vmagent" and kind.out_of_order is None)
CREDENTIALS = ("basic", "bearer", "certificate")
#: Seconds between two scrapes of a job, and their timeout. A scrape of 1 s, the shortest in use, fails where
#: the machine has other work for a second; so there are several jobs of each credential instead.
INTERVAL = 4
#: The name of each job ends with its credential, after which the daemon's rules have their pattern.
JOBS = tuple(f"{number}/{credential}" for credential in CREDENTIALS for number in range(INTERVAL))

EVENTS = "sum by (job) (sum_over_time(steady[10m]))"
SCRAPES = "sum by (job) (count_over_time(up[10m]))"
FAILED = "sum by (job) (count_over_time(up[10m]) - sum_over_time(up[10m]))"

#: Seconds in which something has happened that takes a few seconds on a machine with nothing else to do.
PATIENCE = 60.0

RELOADED = "oneshotd_web_config_last_reload_successful"


class Steady(SteadyTool):
    """Reports events with a token over TLS; each connection is a new one."""

    def __init__(self, locked: Locked) -> None:
        super().__init__()
        self._locked = locked

    def report(self) -> None:
        request = urllib.request.Request(f"{self._locked.daemon.url}/event?__name__=steady", method="POST")
        with self._locked.emitter.open(request, timeout=10) as answer:
            assert answer.status == 200
        self.sent += 1


@frozen(kw_only=True)
class Verdict:
    """What a server says of its jobs; job -> number.

    :param events: that it has stored.
    :param scrapes: all of them; credential -> number.
    :param failed: scrapes.
    :param teams: values of the label that the emitter's rule puts onto its events.
    """

    events: Mapping[str, float]
    scrapes: Mapping[str, float]
    failed: Mapping[str, float]
    teams: set[str]
    discarded: Mapping[str, float]
    unhealthy: list[str]


@frozen(kw_only=True)
class Played:
    """What is left to look at when all is over.

    :param verdicts: by server, after everything was replaced.
    :param statuses: what clients were answered in the course of the changes.
    :param readiness: the answer of /readyz while a new file was bad.
    """

    locked: Locked
    sent: int
    verdicts: Mapping[str, Verdict]
    statuses: Mapping[str, int]
    readiness: str


def jobs(locked: Locked) -> list[Job]:
    """Some jobs with each kind of credential."""
    folder, ca = locked.folder, locked.authority.cert
    tls = f"tls_config: {{ca_file: '{ca}', server_name: localhost}}"
    pair = f"cert_file: '{locked.client.cert}', key_file: '{locked.client.key}'"
    more = {
        "basic": (tls, f"basic_auth: {{username: ann, password_file: '{folder / 'ann.password'}'}}"),
        "bearer": (tls, f"authorization: {{type: Bearer, credentials_file: '{folder / 'scraper.token'}'}}"),
        "certificate": (f"tls_config: {{ca_file: '{ca}', server_name: localhost, {pair}}}",),
    }
    return [
        Job(
            name=name,
            port=locked.daemon.port,
            mode=None,
            interval=INTERVAL,
            more=("scheme: https", *more[credential_of(name)]),
        )
        for name in JOBS
    ]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("locked")
    with ExitStack() as stack:
        # Idle connections are closed, so each scrape begins with a handshake. Not at once: a scraper without
        # a processor for half a second would leave the daemon's close_notify unread, and its events come
        # twice (docs/semantics.md).
        locked = Locked(folder, ["--idle-timeout=2s"])
        stack.enter_context(locked.daemon)
        servers = {kind.name: server(kind, folder / kind.name, jobs(locked)) for kind in SCRAPERS}
        for one in servers.values():
            stack.push(one)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda one: one.start(), servers.values()))
        until(lambda: len(known(locked)) == len(SCRAPERS) * len(JOBS), PATIENCE, lambda: str(known(locked)))
        steady = Steady(locked)
        with steady.working():
            statuses, readiness = change_everything(locked)
        goal = dict.fromkeys(JOBS, float(steady.sent))
        until(
            lambda: all(by_job(one, EVENTS) == goal for one in servers.values()),
            PATIENCE,
            lambda: f"{goal}: {[by_job(one, EVENTS) for one in servers.values()]}",
        )
        for one in servers.values():
            one.await_scrapes(2 * len(JOBS))  # what came twice would have come by now
        verdicts = {name: verdict(one) for name, one in servers.items()}
        distrust(locked, servers)
        yield Played(
            locked=locked, sent=steady.sent, verdicts=verdicts, statuses=statuses, readiness=readiness
        )


def change_everything(locked: Locked) -> tuple[dict[str, int], str]:
    """Replace certificates, passwords and rules; return what clients were answered, and a warning."""
    log, statuses = locked.daemon.process, {}
    # The key follows the certificate at once, or a moment later, or so late that the daemon has seen that
    # they are no pair.
    for pause in (no_pause, a_moment, partial(log.await_text, "stays in force", PATIENCE)):
        until(partial(is_served, locked, locked.renew(pause)), PATIENCE, "the new certificate")
    # SIGHUP reads at once what has changed.
    statuses["bob, before"] = status(locked, basic("bob", "bob's password"))
    locked.passwords["bob"] = "bob's password"
    locked.write_access('[[allow]]\nrole = "look"\nuser = "bob"\n')
    locked.write_web()
    locked.hang_up()
    log.await_text("SIGHUP: the files", PATIENCE)
    log.await_text("users: bob added", PATIENCE)
    statuses["bob"] = status(locked, basic("bob", "bob's password"))
    # A bad file changes nothing.
    del locked.passwords["bob"]
    locked.write_web("basic_auth_user: typing error\n")
    until(lambda: f"{RELOADED} 0.0" in locked.daemon.look(), PATIENCE, "the metric")
    readiness = locked.daemon.get("/readyz")
    statuses["bob, while the new file is bad"] = status(locked, basic("bob", "bob's password"))
    locked.write_web()
    until(lambda: f"{RELOADED} 1.0" in locked.daemon.look(), PATIENCE, "the metric")
    statuses["bob, removed"] = status(locked, basic("bob", "bob's password"))
    statuses["no credential"] = status(locked, None)
    statuses["a token that emits"] = status(locked, f"Bearer {token('emitter')}")
    return statuses, readiness


def distrust(locked: Locked, servers: Mapping[str, Prometheus]) -> None:
    """Give the daemon a certificate that no scraper trusts, until each has noticed: so they did look."""
    stranger = Authority(locked.folder / "stranger").issue("server")
    replace(locked.folder / "server.pem", stranger.cert.read_bytes())
    replace(locked.folder / "server.key", stranger.key.read_bytes())
    down = dict.fromkeys(JOBS, 0.0)
    until(
        lambda: all(by_job(one, "min by (job) (up)") == down for one in servers.values()),
        PATIENCE,
        lambda: f"not down: {[by_job(one, 'up') for one in servers.values()]}",
    )
    locked.renew()
    until(
        lambda: all(one.unhealthy_targets() == [] for one in servers.values()),
        PATIENCE,
        "scrapers that trust the daemon again",
    )


def no_pause() -> None:
    """Replace certificate and key at once."""


def a_moment() -> None:
    """Let the daemon look at the files between the certificate and the key."""
    time.sleep(1.1)


def is_served(locked: Locked, serial: int) -> bool:
    """Return whether a new connection gets the certificate with this serial number."""
    return locked.serves() == serial


def status(locked: Locked, credential: str | None) -> int:
    """Return the answer to a look with this credential, on a connection of its own."""
    try:
        with browser(locked.authority.cert, credential).open(
            f"{locked.daemon.url}/api/v1/events", timeout=10
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def known(locked: Locked) -> set[str]:
    mark = 'oneshotd_scraper_pending_events{scraper="'
    lines = locked.daemon.look().splitlines()
    return {line.removeprefix(mark).partition('"')[0] for line in lines if line.startswith(mark)}


def credential_of(job: str) -> str:
    return job.partition("/")[2]


def by_job(made: Prometheus, expression: str) -> dict[str, float]:
    return {row["metric"]["job"]: float(row["value"][1]) for row in made.query(expression)}


def verdict(made: Prometheus) -> Verdict:
    scrapes = by_job(made, SCRAPES)
    return Verdict(
        events=by_job(made, EVENTS),
        scrapes={
            credential: sum(number for job, number in scrapes.items() if credential_of(job) == credential)
            for credential in CREDENTIALS
        },
        failed=by_job(made, FAILED),
        teams={
            row["metric"].get("team", "") for row in made.query("sum by (team) (sum_over_time(steady[10m]))")
        },
        discarded=made.discarded(),
        unhealthy=made.unhealthy_targets(),
    )


@pytest.fixture(params=SCRAPERS, ids=lambda kind: kind.name)
def said(played: Played, request: pytest.FixtureRequest) -> Verdict:
    kind: Kind = request.param
    return played.verdicts[kind.name]


def test_each_event_arrives_once_whatever_the_credential(played: Played, said: Verdict) -> None:
    """Events would be lost or counted twice while a certificate or a file is replaced."""
    assert said.events == dict.fromkeys(JOBS, float(played.sent))
    assert said.discarded == {}
    assert said.teams == {"shop"}


def test_no_scrape_fails(said: Verdict) -> None:
    """Each renewal of a certificate would be an alert, and a gap in the graphs."""
    assert said.failed == dict.fromkeys(JOBS, 0.0)
    assert said.unhealthy == []
    assert min(said.scrapes.values()) > 10


def test_users_come_and_go_with_the_files(played: Played) -> None:
    """A user who was removed could still log in, or a bad file would lock all out."""
    assert played.statuses == {
        "bob, before": 401,
        "bob": 200,
        "bob, while the new file is bad": 200,
        "bob, removed": 401,
        "no credential": 401,
        "a token that emits": 403,
    }


def test_a_bad_file_is_a_warning_and_no_fault(played: Played) -> None:
    """A load balancer would take the daemon out; or nobody would notice that a change is not in force."""
    assert played.readiness.startswith("ok\nwarning: ")
    assert "typing error" not in played.readiness and "bob" not in played.readiness
    assert played.locked.daemon.get("/readyz") == "ok\n"


def test_the_log_says_what_changed_and_no_secret(played: Played) -> None:
    """An operator could not tell what is in force; or the log would have what opens the daemon."""
    text = played.locked.daemon.process.log_text()
    assert "HTTPS on 127.0.0.1" in text
    assert "basic_auth_user" in text, "the key of the bad file"
    for secret in (*played.locked.passwords.values(), token("emitter"), token("scraper"), "$2b$"):
        assert secret not in text
    assert "Traceback" not in text

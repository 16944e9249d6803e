"""The route for backups: of the listener for backups, and for admins."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, cast

import pytest
from attrs import define
from support.credentials import basic, hashed
from support.fake_telemetry import FakeTelemetry
from support.web_fakes import Connection, FakeServer, failures_logged
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from oneshotd.access.rules import Role, Rule
from oneshotd.backups import Backup
from oneshotd.errors import CopyFailed, Refused, StoreUnavailable
from oneshotd.web.routes.backup import BackupDoor
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site

MADE = Backup(file="/backups/oneshotd-é.sqlite", size=65_536, seconds=0.25)

USERS = {"operator": hashed("secret"), "reader": hashed("word")}
OPERATOR = "Authorization: " + basic("operator", "secret").decode()
READER = "Authorization: " + basic("reader", "word").decode()
ADMINS = [
    Rule(number=1, role=Role.ADMIN, user="operator"),
    Rule(number=2, role=Role.SCRAPE, user="reader"),
]
OTHERS = [
    Rule(number=number, role=role, user="operator") for number, role in enumerate(Role) if role != Role.ADMIN
]


@define
class FakeBackups:
    outcome: Backup | Exception = MADE

    def make(self) -> Deferred[Backup]:
        return fail(self.outcome) if isinstance(self.outcome, Exception) else succeed(self.outcome)


def connect(outcome: Backup | Exception = MADE) -> Connection:
    telemetry, clock = FakeTelemetry(), cast(Any, Clock())
    api = BackupDoor(backups=cast(Any, FakeBackups(outcome)), telemetry=cast(Any, telemetry))
    request = partial(OneshotRequest, refused=telemetry.refused_request)
    return Connection(Site(api.resource(), requestFactory=request, reactor=clock), UNIXAddress(None))


def test_a_copy_is_answered_with_its_file() -> None:
    answer = connect().ask("POST /api/v1/backup")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(answer.body) == {"file": MADE.file, "bytes": 65_536, "seconds": 0.25}


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (Refused("a backup is being made already", reason="busy", status=409), 409),
        (Refused("no room: cannot write it", reason="store", status=507), 507),
        (Refused("cannot write the backup", reason="store", status=503), 503),
        (StoreUnavailable("the store is closed"), 503),
        (ZeroDivisionError("a bug"), 500),
    ],
)
def test_a_failed_backup_is_answered_with_its_reason(trouble: Exception, status: int) -> None:
    """A nightly job would take half a copy for a good one, or try for ever."""
    with failures_logged() as failures:
        answer = connect(trouble).ask("POST /api/v1/backup")
    assert answer.status == status and answer.phrase
    assert (str(trouble) in answer.text) == (status != 500)
    assert len(failures) == (status == 500)
    assert (answer.headers["Retry-After"] is not None) == (status == 503)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/backup", 405),
        ("HEAD", "/api/v1/backup", 405),
        ("PUT", "/api/v1/backup", 405),
        ("POST", "/api/v1/backup/", 404),
        ("POST", "/api/v1/backups", 404),
        ("POST", "/event?type=x", 404),
        ("GET", "/metrics", 404),
        ("GET", "/", 404),
    ],
)
def test_that_socket_has_no_other_route(method: str, path: str, status: int) -> None:
    """A process that may make backups could take a scraper's events."""
    assert connect().ask(f"{method} {path}").status == status


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("address", ["192.0.2.7", "127.0.0.1"])
@pytest.mark.parametrize("users", [{}, USERS])
def test_without_an_access_file_the_public_listeners_have_no_route_for_backups(
    method: str, address: str, users: dict[str, bytes]
) -> None:
    """Any client could fill the disk with copies, through a proxy on this host even from other hosts."""
    server = FakeServer(trusted=["192.0.2.0/24"], users=users, backups=FakeBackups())
    answer = server.ask(f"{method} /api/v1/backup", f"X-Forwarded-For: {address}", OPERATOR)
    assert answer.status == 404


@pytest.mark.parametrize(
    ("method", "rules", "backups", "lines", "status"),
    [
        ("POST", ADMINS, FakeBackups(), [OPERATOR], 200),
        ("GET", ADMINS, FakeBackups(), [OPERATOR], 405),
        ("HEAD", ADMINS, FakeBackups(), [OPERATOR], 405),
        ("POST", ADMINS, None, [OPERATOR], 404),
        ("POST", ADMINS, FakeBackups(), [], 401),
        ("POST", ADMINS, FakeBackups(), [READER], 403),
        ("POST", [], FakeBackups(), [OPERATOR], 403),
        ("POST", OTHERS, FakeBackups(), [OPERATOR], 403),
        ("POST", ADMINS, FakeBackups(CopyFailed("full", full=True)), [OPERATOR], 503),
    ],
)
def test_with_an_access_file_admins_may_back_up_over_the_public_listeners(
    method: str, rules: list[Rule], backups: FakeBackups | None, lines: list[str], status: int
) -> None:
    """A job on another host could make no backup; or anybody could fill the disk with copies."""
    server = FakeServer(users=USERS, rules=rules, backups=backups)
    answer = server.ask(f"{method} /api/v1/backup", *lines)
    assert answer.status == status
    assert not answer.body or status != 200 or json.loads(answer.body)["file"] == MADE.file
    assert status != 404 or "backup-dir and backup-socket are not set" in answer.text
    if status == 405:
        assert answer.headers["Allow"] == "OPTIONS, POST"

"""The web configuration and the access file: in force at the start, and after each good change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.fake_store import logged
from support.locked_daemon import hashed
from support.service_in_memory import lines
from twisted.internet.task import Clock

from oneshotd.access.reload import LOOK_SECONDS
from oneshotd.access.rules import Client, Role
from oneshotd.core.networks import Networks
from oneshotd.daemon.config import Config
from oneshotd.daemon.locks import Locks
from oneshotd.errors import ConfigError
from oneshotd.metrics.registry import Telemetry

LOCAL = "127.0.0.1"
ANN = f"basic_auth_users:\n  ann: {hashed('secret')}\n"
BOB = f"  bob: {hashed('hidden')}\n"
LOOKER = '[[allow]]\nrole = "look"\nuser = "ann"\n'
SENDERS = '[[allow]]\nrole = "emit"\nnetwork = "192.0.2.0/24"\n'


class Inline(Clock):
    """A reactor whose threads are function calls."""

    def getThreadPool(self) -> Any:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], call: Callable[..., Any], *arguments: Any, **more: Any
    ) -> None:
        done(True, call(*arguments, **more))

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


class Files:
    """Both files in a folder, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web, self.access = folder / "web.yml", folder / "access.toml"
        self.reactor, self.telemetry = Inline(), Telemetry()
        self.locks: Locks

    def read(self, **options: Any) -> Locks:
        """Read the files that there are, as the start does."""
        web, access = (str(path) if path.exists() else None for path in (self.web, self.access))
        config = Config(web_config=web, access=access, **options)
        self.locks = Locks(self.reactor, config, self.telemetry, lambda: 1e9)
        self.locks.read()
        return self.locks

    def pair(self, name: str = "server") -> str:
        """Write a new certificate with its key, and return the configuration that names them."""
        made = Authority(self.folder / "authority").issue(name)
        for path in (made.cert, made.key):
            (self.folder / path.name).write_bytes(path.read_bytes())
        return f"tls_server_config: {{cert_file: {name}.pem, key_file: {name}.key}}\n"

    def look(self) -> None:
        """Let the daemon find a change."""
        self.reactor.advance(LOOK_SECONDS)
        self.reactor.advance(LOOK_SECONDS)

    def metric(self, name: str) -> float | None:
        found = [
            sample.value
            for family in self.telemetry.reloads.collect()
            for sample in family.samples
            if sample.name == f"oneshotd_{name}"
        ]
        return found[0] if found else None


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    if hasattr(made, "locks"):
        made.locks.stop()
    assert made.reactor.getDelayedCalls() == []


def may(locks: Locks, role: Role, user: str | None = None, address: str = LOCAL) -> bool:
    return locks.policy.rule(role, Client(address=address, user=user)) is not None


# ---- the start -------------------------------------------------------------------------------


def test_without_files_the_networks_decide(files: Files) -> None:
    """A daemon that worked without these options would refuse its clients, or need more packages."""
    locks = files.read(allow_emit=Networks.parse([LOCAL]))
    locks.start()
    assert locks.policy.may_emit(LOCAL) and not locks.policy.may_emit("192.0.2.7")
    assert (locks.tls, locks.authenticator, locks.warnings()) == (None, None, [])
    assert files.metric("web_config_last_reload_successful") is None
    assert files.reactor.getDelayedCalls() == []


def test_users_lock_all_but_what_is_open(files: Files) -> None:
    """A stranger could send, read, and take the events of another's scraper."""
    files.web.write_text(ANN)
    locks = files.read()
    assert locks.authenticator is not None and locks.authenticator.has_users
    for role in Role:
        assert may(locks, role, "ann") and not may(locks, role)
    assert files.metric("web_config_last_reload_successful") == 1
    assert files.metric("web_config_certificate_expiry_timestamp_seconds") is None
    assert files.metric("access_last_reload_successful") is None


def test_rules_say_who_may_do_what(files: Files) -> None:
    files.web.write_text(ANN)
    files.access.write_text(LOOKER + SENDERS)
    locks = files.read()
    assert may(locks, Role.LOOK, "ann") and not may(locks, Role.SCRAPE, "ann")
    assert may(locks, Role.EMIT, address="192.0.2.7") and not may(locks, Role.EMIT)


def test_rules_need_no_web_configuration(files: Files) -> None:
    """Tokens and networks alone would need a second file."""
    files.access.write_text(SENDERS)
    locks = files.read()
    assert locks.authenticator is not None and locks.tls is None
    assert may(locks, Role.EMIT, address="192.0.2.7")


def test_a_certificate_is_served_and_its_end_is_a_metric(files: Files) -> None:
    files.web.write_text(files.pair())
    locks = files.read()
    assert locks.tls is not None
    assert files.metric("web_config_certificate_expiry_timestamp_seconds") == locks.tls.not_after


@pytest.mark.parametrize(
    ("web", "access", "error"),
    [
        ("basic_auth_user: {}\n", None, r"web.yml:1: .*basic_auth_user"),
        ("basic_auth_users: {ann: secret}\n", None, r"web.yml:1: .*ann"),
        ("tls_server_config: {cert_file: no.pem, key_file: no.key}\n", None, r"web.yml:1: .*no.pem"),
        (None, '[[allow]]\nrole = "emmit"\nnetwork = "::/0"\n', "access.toml.*role"),
        (None, "[[allow]\n", "access.toml"),
    ],
)
def test_a_bad_file_ends_the_start_and_says_where(
    files: Files, web: str | None, access: str | None, error: str
) -> None:
    """The daemon would start without a lock, or leave the operator to search."""
    for path, text in ((files.web, web), (files.access, access)):
        if text is not None:
            path.write_text(text)
    with pytest.raises(ConfigError, match=error) as raised:
        files.read()
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_a_missing_file_ends_the_start(files: Files) -> None:
    missing = str(files.folder / "missing")
    for config in (Config(web_config=missing), Config(access=missing)):
        with pytest.raises(ConfigError, match=r"missing.*No such file"):
            Locks(files.reactor, config, files.telemetry).read()


@pytest.mark.parametrize(
    ("module", "package"),
    [("yaml", "python3-yaml"), ("bcrypt", "python3-bcrypt"), ("OpenSSL", "python3-openssl")],
)
def test_a_missing_package_ends_the_start_and_is_named(
    files: Files, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    """The operator would read a traceback, or the first client would."""
    files.web.write_text(files.pair() + ANN)
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("oneshotd.access.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(Exception, match=package) as raised:
        files.read()
    assert type(raised.value).__name__ == "ConfigError"


def test_the_log_says_what_is_locked_and_what_udp_takes(files: Files) -> None:
    """An operator would trust in a lock that is not there."""
    files.web.write_text(files.pair() + ANN + BOB + "http_server_config: {http2: true}\n")
    files.access.write_text(LOOKER + SENDERS + LOOKER.replace("ann", "zoe"))
    locks = files.read()
    assert locks.tls is not None
    with logged() as events:
        locks.log_summary(has_udp=True)
    told = "\n".join(lines(events, "info"))
    assert "TLS with a certificate until 20" in told and "2 users" in told
    assert "http2" in told
    assert "3 rules (1 emit, 2 look)" in told
    assert "UDP takes only" in told and "rule 2 (emit, network 192.0.2.0/24)" in told
    (line,) = lines(events, "warn")
    assert "rule 3 (look, user zoe) fits nobody" in line


def test_users_without_rules_are_a_warning_about_udp(files: Files) -> None:
    """A tool that reports by datagram would lose its events when passwords are introduced, unnoticed."""
    files.web.write_text(ANN)
    locks = files.read()
    with logged() as events:
        locks.log_summary(has_udp=True)
        locks.log_summary(has_udp=False)
    (line,) = lines(events, "warn")
    assert line.startswith("UDP takes nothing")
    assert not locks.policy.may_emit(LOCAL)


def test_rules_without_a_network_close_udp(files: Files) -> None:
    files.access.write_text('[[allow]]\nrole = "emit"\ntoken_sha256 = "' + "a" * 64 + '"\n')
    locks = files.read()
    with logged() as events:
        locks.log_summary(has_udp=True)
    assert any(line.startswith("UDP takes nothing: no rule") for line in lines(events, "info"))
    assert not locks.policy.may_emit(LOCAL)


def test_a_file_that_the_service_s_user_cannot_read_is_a_warning(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewed certificate would not be used, and nobody would know before the old one ends."""
    files.web.write_text(files.pair())
    locks = files.read()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith(".key"))
    with logged() as events:
        locks.start()
    (line,) = lines(events, "warn")
    assert "server.key cannot be read by the user of the daemon" in line


# ---- later -----------------------------------------------------------------------------------


def test_users_come_and_go_with_the_file(files: Files) -> None:
    """A user who was removed could still do all."""
    files.web.write_text(ANN)
    locks = files.read()
    locks.start()
    with logged() as events:
        for text in (ANN + BOB, "basic_auth_users:\n" + BOB, ANN.replace("ann", "bob")):
            version = locks.policy.version
            files.web.write_text(text)
            files.look()
            assert locks.policy.version > version, "what was remembered would still hold"
    assert [line.partition(": ")[2] for line in lines(events, "info")] == [
        "users: bob added",
        "users: ann removed",
        "users: bob with another password",
    ]


def test_rules_come_and_go_with_the_file(files: Files) -> None:
    files.access.write_text(SENDERS)
    locks = files.read()
    locks.start()
    with logged() as events:
        files.access.write_text(SENDERS.replace("192.0.2.0/24", LOCAL))
        files.look()
        assert may(locks, Role.EMIT)
        files.access.write_text(SENDERS)
        locks.reload()
        assert not may(locks, Role.EMIT)
    told = [line.partition(": ")[2] for line in lines(events, "info")]
    assert told == ["rules: 1 added, 1 removed"] * 2


def test_a_new_certificate_is_in_force_without_a_restart(files: Files) -> None:
    """Clients would refuse the daemon when the old one ends."""
    files.web.write_text(files.pair() + ANN)
    locks = files.read()
    locks.start()
    assert locks.tls is not None
    before = locks.tls.not_after
    files.reactor.advance(1)
    with logged() as events:
        files.pair()
        files.look()
    assert locks.tls.not_after >= before
    (line,) = lines(events, "info")
    assert "server.pem" in line and "server.key" in line and "valid until" in line


def test_a_certificate_and_a_key_that_are_no_pair_leave_the_old_ones_in_force(files: Files) -> None:
    """Each new connection would fail until the second file is there."""
    files.web.write_text(files.pair())
    locks = files.read()
    locks.start()
    key = (files.folder / "server.key").read_bytes()
    files.pair()
    (files.folder / "server.key").write_bytes(key)
    with logged() as events:
        files.look()
    assert len(lines(events, "error")) == 1
    assert files.metric("web_config_last_reload_successful") == 0
    files.pair()
    files.look()
    assert files.metric("web_config_last_reload_successful") == 1


@pytest.mark.parametrize("start", [True, False])
def test_tls_is_turned_on_and_off_by_a_restart_only(files: Files, start: bool) -> None:
    """Half of the connections would be without TLS; or a change would be half in force."""
    tls = files.pair()
    files.web.write_text((tls if start else "") + ANN)
    locks = files.read()
    locks.start()
    version = locks.policy.version
    with logged() as events:
        files.web.write_text(("" if start else tls) + ANN + BOB)
        files.look()
    (line,) = lines(events, "error")
    assert f"TLS is turned {'off' if start else 'on'} by a restart only" in line
    assert (locks.tls is not None) is start
    assert locks.policy.version == version and not locks.policy.is_open
    assert len(locks.warnings()) == 1


def test_the_last_user_is_not_removed_without_a_restart(files: Files) -> None:
    """A file that is emptied, or cut off while it is written, would let everyone in."""
    files.web.write_text(ANN)
    locks = files.read()
    locks.start()
    for text in ("", "http_server_config: {}\n"):
        files.web.write_text(text)
        files.look()
        assert not locks.policy.is_open and not may(locks, Role.SCRAPE)
        assert locks.warnings()


def test_with_rules_the_last_user_may_go(files: Files) -> None:
    """Nobody is let in by that."""
    files.web.write_text(ANN)
    files.access.write_text(LOOKER)
    locks = files.read()
    locks.start()
    files.web.write_text("")
    files.look()
    assert locks.warnings() == [] and not may(locks, Role.LOOK)


def test_a_bad_file_shows_in_readyz_and_metrics_without_its_content(files: Files) -> None:
    """A stranger would read names and paths; or nobody would notice."""
    files.web.write_text(ANN)
    files.access.write_text(LOOKER)
    locks = files.read()
    locks.start()
    files.web.write_text(ANN + "  bob: hidden\n")
    files.access.write_text(LOOKER + "typing error")
    files.look()
    assert locks.warnings() == [
        f"the file of --{option} has changed and is not used; the log has the reason"
        for option in ("web-config", "access")
    ]
    assert files.metric("web_config_last_reload_successful") == 0
    assert files.metric("access_last_reload_successful") == 0
    assert may(locks, Role.LOOK, "ann")

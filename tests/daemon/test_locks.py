"""The web configuration and the access file at the start: what is locked, refused, and logged."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_store import logged
from support.locks_driver import ANN, BOB, LOCAL, LOOKER, SENDERS, Files, may
from support.service_in_memory import lines

from oneshotd.access.rules import Role
from oneshotd.core.networks import Networks
from oneshotd.daemon.config import Config
from oneshotd.daemon.locks import Locks
from oneshotd.errors import ConfigError


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    if hasattr(made, "locks"):
        made.locks.stop()
    assert made.reactor.getDelayedCalls() == []


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
    assert line.startswith("UDP asks no password")
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

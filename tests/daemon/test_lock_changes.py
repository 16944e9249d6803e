"""The web configuration and the access file after each change: in force, or refused as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from support.fake_store import logged
from support.locks_driver import ANN, BOB, LOCAL, LOOKER, SENDERS, Files, may
from support.service_in_memory import lines

from oneshotd.access.rules import Role


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    if hasattr(made, "locks"):
        made.locks.stop()
    assert made.reactor.getDelayedCalls() == []


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


def test_a_certificate_that_has_ended_is_used_and_told(files: Files) -> None:
    """A wrong file was copied, or a renewal failed: clients would be refused, and nothing say why."""
    files.now = time.time()
    files.web.write_text(files.pair() + ANN)
    locks = files.read()
    locks.start()
    assert locks.warnings() == []
    with logged() as events:
        files.pair(valid=timedelta(days=-1))
        files.look()
        assert ["the certificate ended at" in line for line in lines(events, "warn")] == [True]
        assert locks.warnings() == ["the certificate of --web-config has ended"]
        files.pair()
        files.look()
        assert locks.warnings() == []
        files.now += 90_000  # it ends while it is in force
        assert locks.warnings() == ["the certificate of --web-config has ended"]
        locks.log_summary(has_udp=False)
    assert len(lines(events, "warn")) == 2


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
    with logged() as events:
        files.look()
    assert files.metric("web_config_last_reload_successful") == 1
    assert ["the error is gone; new " in line for line in lines(events, "info")] == [True]


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


class FakeSite:
    """What of a site the locks set."""

    matcher: object = None
    headers: Any = ()
    limit: Any = None


def test_headers_and_rate_are_in_force_at_the_site_and_change_with_the_file(files: Files) -> None:
    """Answers would lack the headers, or the fast path would answer without them and beyond the rate."""
    files.web.write_text(ANN)
    locks, site, matcher = files.read(), FakeSite(), object()
    locks.start()
    locks.serve(cast(Any, site), cast(Any, matcher))
    assert (site.matcher, list(site.headers), site.limit) == (matcher, [], None)
    files.web.write_text(ANN + "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    files.look()
    assert (site.matcher, site.headers) == (None, [(b"X-Frame-Options", b"deny")])
    limited = ANN + "rate_limit: {interval: 500ms, burst: 3}\n"
    files.web.write_text(limited)
    files.look()
    assert (site.matcher, site.headers) == (None, [])
    bucket = site.limit
    assert (bucket.rate, bucket.burst) == (2.0, 3)
    files.web.write_text(limited + "\n# no change\n")
    files.look()
    assert site.limit is bucket, "each change of the file would allow another burst"
    files.web.write_text(ANN)
    files.look()
    assert (site.matcher, site.limit) == (matcher, None)


def test_a_rule_for_a_user_who_is_removed_is_told(files: Files) -> None:
    """A rule would stay without a client, and nobody would know why requests are refused."""
    files.web.write_text(ANN + BOB)
    files.access.write_text(LOOKER + LOOKER.replace("ann", "bob"))
    locks = files.read()
    locks.start()
    with logged() as events:
        files.web.write_text(ANN)
        files.look()
        files.access.write_text(LOOKER + LOOKER)
        files.look()
    told = lines(events, "warn")
    assert ["fits nobody" in line for line in told] == [True, False]
    assert "never decides" in told[1]

"""Timers use the monotonic clock; times that people read use the wall clock.

The reactor's time begins at 5 s here, so that code that takes it for Unix time writes 1970.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import pytest
from support.fake_store import logged
from support.service_in_memory import DaemonInMemory
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.base import ReactorBase
from twisted.internet.error import ConnectionDone
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from oneshotd.daemon import tap
from oneshotd.daemon.tap import use_steady_time
from oneshotd.emit import deferred as emit_twisted
from oneshotd.errors import ConfigError

PEER = IPv4Address("TCP", "127.0.0.1", 40000)

#: Seconds between what is written and what is compared with it.
NEAR = 60.0


@pytest.fixture
def reactor() -> Iterator[SelectReactor]:
    """A reactor of our own, never run."""
    made = SelectReactor()
    yield made
    made.removeAll()
    cast(Any, made)._uninstallHandler()


def test_the_reactors_timers_do_not_run_on_the_wall_clock(reactor: SelectReactor) -> None:
    """A wall clock set back would stop all timers for the length of the step (twisted#2424)."""
    assert reactor.seconds() > 1_600_000_000, "Twisted's own has changed: there is nothing left to do"
    use_steady_time(reactor)
    assert abs(reactor.seconds() - time.monotonic()) < NEAR
    call = reactor.callLater(10, print)
    assert abs(call.getTime() - time.monotonic() - 10) < NEAR
    assert 0 < cast(float, reactor.timeout()) <= 10
    call.delay(5)
    assert abs(call.getTime() - time.monotonic() - 15) < NEAR
    use_steady_time(reactor)  # a second daemon in the process finds it done
    call.cancel()


def test_a_reactor_with_scheduled_calls_is_refused(reactor: SelectReactor) -> None:
    """Calls scheduled by the wall clock would run at once, or never."""
    call = reactor.callLater(10, print)
    with pytest.raises(ConfigError, match=r"1 calls are scheduled on it already.*print"):
        use_steady_time(reactor)
    assert reactor.seconds() > 1_600_000_000
    call.cancel()


def test_a_daemon_without_the_monotonic_clock_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would run on the wall clock without a sign."""

    def refuse(_: object) -> None:
        raise ConfigError("the reactor cannot change")

    monkeypatch.setattr(tap, "use_steady_time", refuse)
    with pytest.raises(SystemExit, match="twistd oneshot: the reactor cannot change"):
        tap.makeService(tap.Options())


def test_the_emitters_user_keeps_the_reactors_time() -> None:
    """A library would change its user's timers."""
    assert "seconds" not in vars(_reactor), "something in these tests has changed the global reactor"
    assert ReactorBase.seconds is not time.monotonic
    assert "monotonic" not in Path(emit_twisted.__file__).read_text()


# ---- the daemon on a reactor whose time begins at 5 s ----------------------------------------


def ask(daemon: DaemonInMemory, *lines: str) -> str:
    """Send a request on a connection in memory, and return the bytes of the answer."""
    transport = StringTransport(peerAddress=PEER)
    channel = cast(Any, daemon.service._ports.site.buildProtocol(PEER))
    channel.makeConnection(transport)
    channel.dataReceived("\r\n".join([*lines, "Host: x", "Connection: close", "", ""]).encode())
    for _ in range(1000):
        if "/metrics?scraper" in lines[0] and transport.producer is not None:
            transport.producer.resumeProducing()  # the socket has sent its buffer
        daemon.pass_time(0.001)
        if transport.disconnecting or transport.disconnected:
            break
    else:
        raise AssertionError(f"no answer to {lines[0]}")
    channel.connectionLost(Failure(ConnectionDone()))
    daemon.quiet()
    return str(transport.value().decode())


@pytest.fixture(params=[False, True], ids=["fast path", "access log"])
def daemon(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DaemonInMemory]:
    made = DaemonInMemory(tmp_path, monkeypatch, access_log=request.param)
    made.reactor.rightNow = 5.0
    made.start()
    made.quiet()
    made.service._ports.site.doStart()
    made.pass_time(1.0)
    yield made
    made.service._ports.site.doStop()
    made.reactor.get(made.real.close())
    for sock in made.service._ports.udp:
        sock.close()


def dates(answer: str) -> list[float]:
    return [parsedate_to_datetime(date).timestamp() for date in re.findall(r"^Date: (.*)\r$", answer, re.M)]


def test_no_answer_is_of_1970(daemon: DaemonInMemory) -> None:
    """A client that checks dates, or caches by them, would take the daemon for broken."""
    answers = [
        ask(daemon, "POST /event?type=deploy HTTP/1.1"),
        ask(daemon, "POST /event?type=de%20ploy&__id__=1 HTTP/1.1"),
        ask(daemon, "POST /event?__bad=1 HTTP/1.1"),
        ask(daemon, "GET /healthz HTTP/1.1"),
        ask(daemon, "GET /metrics?scraper=p HTTP/1.1"),
    ]
    for answer in answers:
        [date] = dates(answer)
        assert abs(date - time.time()) < NEAR, answer
    matcher = daemon.service._ports.site.matcher
    assert (matcher is None) == daemon.config.access_log
    if matcher is not None:
        [date] = dates(matcher.answers(1, True).decode())
        assert abs(date - time.time()) < NEAR


def test_no_time_that_people_read_is_of_1970(daemon: DaemonInMemory) -> None:
    """The page would say that a scraper was last seen 56 years ago."""
    with logged() as events:
        ask(daemon, "POST /event?type=deploy HTTP/1.1")
        ask(daemon, "GET /metrics?scraper=p HTTP/1.1")
        answers = [
            ask(daemon, "GET / HTTP/1.1", "Accept: text/html"),
            ask(daemon, "GET /api/v1/events HTTP/1.1"),
            ask(daemon, "GET /api/v1/scrapers HTTP/1.1"),
        ]
        metrics = ask(daemon, "GET /metrics?look HTTP/1.1")
    for text in [*answers, metrics, *(str(formatEvent(event)) for event in events)]:
        assert "1970" not in text
        for ms in re.findall(r'"(?:at|last_seen_at|oldest_pending_at)": ?(\d+)', text):
            assert abs(int(ms) / 1000 - time.time()) < NEAR
    seen = re.findall(r"^\w*(?:timestamp|start_time)_seconds(?:\{.*\})? (\S+)$", metrics, re.M)
    assert len(seen) >= 2, metrics
    assert all(time.time() - float(when) < 24 * 3600 for when in seen)
    access = [text for event in events if '"GET / HTTP/1.1"' in (text := str(formatEvent(event)))]
    assert len(access) == daemon.config.access_log
    assert all(f"/{time.gmtime().tm_year}:" in text for text in access)

"""HAProxy in TCP mode, and a daemon that is held up: what a scraper's FIN means then."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from soak.line import body_of
from support.daemon import BROWSER, Daemon
from support.haproxy import HAProxy, balanced
from support.processes import free_port, until

pytestmark = pytest.mark.e2e

#: How long HAProxy waits for an answer to a scraper that has sent its FIN.
SERVER_FIN = "10ms"

#: Seconds until a delivery that was begun has ended.
PATIENCE = 20.0

REQUEST = b"GET /metrics?scraper=s HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\n\r\n"
STOPPED = re.compile(r"State:\s+T")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with one event for the scraper."""
    with Daemon(tmp_path / "daemon", variables={"LOG_LEVEL": "debug"}) as daemon:
        scrape(daemon)
        request = urllib.request.Request(f"{daemon.url}/event?__name__=one", method="POST", data=b"")
        with BROWSER.open(request, timeout=10) as answer:
            assert answer.status == 200
        yield daemon


@contextmanager
def connection(folder: Path, daemon: Daemon, *, closes: bool) -> Iterator[socket.socket]:
    """A connection through HAProxy.

    :param closes: HAProxy closes soon after the scraper's FIN.
    """
    port = free_port()
    config = balanced({"daemon": daemon.port}, port=port)
    if closes:
        config = config.replace(
            "    timeout server ", f"    timeout server-fin {SERVER_FIN}\n    timeout server "
        )
    with HAProxy(folder / "haproxy", config, port) as haproxy:
        haproxy.await_states(daemon=True)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            yield sock


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """Stop the daemon meanwhile, and for half a second more."""
    pid = daemon.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: STOPPED.search(Path(f"/proc/{pid}/status").read_text()), PATIENCE, "it is stopped")
        yield
        time.sleep(0.5)  # a daemon that is held up
    finally:
        os.kill(pid, signal.SIGCONT)


def scrape(daemon: Daemon) -> str:
    """Scrape directly, as the same scraper."""
    return daemon.get("/metrics?scraper=s")


@pytest.mark.parametrize("closes", [False, True])
def test_the_answer_to_a_scraper_that_has_given_up(tmp_path: Path, daemon: Daemon, closes: bool) -> None:
    """HAProxy acknowledges it: limit (c). If it closes soon after the FIN, the events come again."""
    with connection(tmp_path, daemon, closes=closes) as sock:
        with stopped(daemon):
            sock.sendall(REQUEST)
            sock.close()
        if closes:
            until(lambda: "one 1" in scrape(daemon), PATIENCE, "the event comes again")
        else:
            daemon.process.await_text("final at")
            assert "one 1" not in scrape(daemon)


@pytest.mark.parametrize("closes", [False, True])
def test_a_response_that_was_read_before_the_daemon_is_held_up(
    tmp_path: Path, daemon: Daemon, closes: bool
) -> None:
    """It is final. If HAProxy closes soon after the FIN, by a reset, the events come again."""
    with connection(tmp_path, daemon, closes=closes) as sock:
        sock.sendall(REQUEST)
        data = b""
        while (body := body_of(data)) is None:
            data += sock.recv(1 << 16)
        assert b"one 1" in body
        daemon.process.await_text("delivered, on disk")
        with stopped(daemon):
            sock.close()
        if closes:
            until(lambda: "one 1" in scrape(daemon), PATIENCE, "the event comes again")
        else:
            daemon.process.await_text("final at")
            assert "one 1" not in scrape(daemon)

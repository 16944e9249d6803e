"""HAProxy in TCP mode, a daemon that is held up, and a scraper that gives up before the answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from soak.cluster_campaign import SERVER_FIN
from support.daemon import BROWSER, Daemon
from support.haproxy import HAProxy, balanced
from support.processes import free_port, until

pytestmark = pytest.mark.e2e

#: Seconds until a delivery that was begun has ended.
PATIENCE = 20.0

REQUEST = b"GET /metrics?scraper=s HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\n\r\n"
STOPPED = re.compile(r"State:\s+T")


@pytest.mark.parametrize("waits", [False, True], ids=["server-fin", "without server-fin"])
def test_the_answer_to_a_scraper_that_has_given_up(tmp_path: Path, waits: bool) -> None:
    """Its events come again, if HAProxy closes soon after the scraper's FIN. Otherwise it acknowledges the
    answer, and the daemon takes it for delivered: limit (c)."""
    port = free_port()
    with Daemon(tmp_path / "daemon", variables={"LOG_LEVEL": "debug"}) as daemon:
        config = balanced({"daemon": daemon.port}, bind=f"127.0.0.1:{port}")
        if not waits:
            config = config.replace(
                "    timeout server ", f"    timeout server-fin {SERVER_FIN}\n    timeout server "
            )
        with HAProxy(tmp_path / "haproxy", config, port) as haproxy:
            haproxy.await_states(daemon=True)
            scrape(daemon)
            request = urllib.request.Request(f"{daemon.url}/event?__name__=given_up", method="POST", data=b"")
            with BROWSER.open(request, timeout=10) as answer:
                assert answer.status == 200
            give_up(daemon, port)
            if waits:
                daemon.process.await_text("final at")
                assert "given_up" not in scrape(daemon)
            else:
                until(lambda: "given_up" in scrape(daemon), PATIENCE, "the event comes again")


def give_up(daemon: Daemon, port: int) -> None:
    """Ask a daemon that is stopped, close, and let it go on once HAProxy has had time to close."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        pid = daemon.process.pid
        os.kill(pid, signal.SIGSTOP)
        until(lambda: STOPPED.search(Path(f"/proc/{pid}/status").read_text()), PATIENCE, "it is stopped")
        sock.sendall(REQUEST)
    time.sleep(0.5)  # a scrape that is held up
    os.kill(pid, signal.SIGCONT)


def scrape(daemon: Daemon) -> str:
    """Scrape directly, as the same scraper."""
    return daemon.get("/metrics?scraper=s")

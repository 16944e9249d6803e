"""Details of events at every door of the real daemon, and what is left of them after a kill."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemon import Daemon, environment
from support.processes import until

pytestmark = pytest.mark.e2e

TEXT = 'two\nlines, "quotes" & é \U0001f600'
PAIRS = {"type": "deploy", "detail.text": TEXT, "detail.link": "https://example.com/?a=b&c"}
QUERY = urllib.parse.urlencode(PAIRS)


def post(daemon: Daemon, path: str, body: bytes = b"", **headers: str) -> None:
    """Send an event, and look at the answer."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(daemon.url + path, data=body, headers=fields, method="POST")
    with daemon.browser.open(request, timeout=10) as answer:
        assert answer.status == 200


def emit(daemon: Daemon, *words: str) -> None:
    """Run oneshot-emit."""
    command = [sys.executable, "-m", "oneshotd.emit", *words]
    subprocess.run(command, env={**environment(), "ONESHOTD_URL": daemon.url}, check=True, timeout=60)


def datagram(daemon: Daemon) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(QUERY.encode(), ("127.0.0.1", daemon.port))


OBJECT = json.dumps(PAIRS).encode()
WORDS = [f"{name}={text}" for name, text in PAIRS.items()]

DOORS: dict[str, Callable[[Daemon], None]] = {
    "query": lambda daemon: post(daemon, f"/event?{QUERY}"),
    "form": lambda daemon: post(
        daemon, "/event", QUERY.encode(), Content_Type="application/x-www-form-urlencoded"
    ),
    "object": lambda daemon: post(daemon, "/event", OBJECT, Content_Type="application/json"),
    "array": lambda daemon: post(daemon, "/events", b"[" + OBJECT + b"]", Content_Type="application/json"),
    "ndjson": lambda daemon: post(daemon, "/events", OBJECT, Content_Type="application/x-ndjson"),
    "lines": lambda daemon: post(daemon, "/events", QUERY.encode(), Content_Type="text/plain"),
    "datagram": datagram,
    "oneshot-emit": lambda daemon: emit(daemon, *WORDS),
    "oneshot-emit by UDP": lambda daemon: emit(daemon, "--udp", f"127.0.0.1:{daemon.port}", *WORDS),
}


def held(daemon: Daemon) -> list[dict[str, object]]:
    """The held events, oldest first."""
    events: list[dict[str, object]] = json.loads(daemon.get("/api/v1/events?limit=1000"))["events"]
    return events[::-1]


def test_details_come_in_by_every_door_and_outlive_the_daemon(tmp_path: Path) -> None:
    """A tool's texts would be lost, or each would become a series."""
    details = {"link": PAIRS["detail.link"], "text": TEXT}
    with Daemon(tmp_path) as daemon:
        post(daemon, "/event?type=plain")
        for number, send in enumerate(DOORS.values(), 2):
            send(daemon)
            until(lambda number=number: len(held(daemon)) == number, 10, "the event")  # type: ignore[misc]
        for kill in (False, True):
            plain, *others = held(daemon)
            assert "detail" not in plain
            assert [event["detail"] for event in others] == [details] * len(DOORS)
            assert [event["labels"] for event in others] == [{"type": "deploy"}] * len(DOORS)
            assert all(text not in daemon.look() for text in ("detail", "quotes", "example"))
            if not kill:
                daemon.kill()
                daemon.start()
        assert f'events_to_metrics{{type="deploy"}} {len(DOORS)}\n' in daemon.look()
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(daemon, f"/event?type=x&detail.text={'x' * 5000}")
        assert daemon.errors() == []

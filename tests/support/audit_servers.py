"""A daemon and a store for `oneshotctl audit` that answer what a test has set, over real sockets."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attrs import define, field

#: Runs the command; returns status, standard output and standard error.
Audit = Callable[..., tuple[int, str, str]]

#: Labels that a scrape, or the daemon, adds.
INSTANCE = {"job": "oneshotd", "instance": "edge-1:8090"}

#: Returns status and body for a path and its parameters.
Answers = Callable[[str, Mapping[str, str]], tuple[int, Any]]


@define
class FakeServer:
    """A server on a port of its own.

    :ivar asked: path, parameters and Authorization of each request.
    """

    url: str
    asked: list[tuple[str, Mapping[str, str], str | None]] = field(factory=list)


@contextmanager
def serving(answers: Answers, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    """Serve on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            parameters = {name: texts[0] for name, texts in parse_qs(parts.query).items()}
            fake.asked.append((parts.path, parameters, self.headers["Authorization"]))
            status, found = answers(parts.path, parameters)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    fake = FakeServer(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@define(kw_only=True)
class AuditedDaemon:
    """The daemon's side: events, newest last, and the state of one scraper.

    :ivar events: (at, metric, labels, value); seq is the place, from 1.
    :ivar page: most events of an answer.
    """

    events: list[tuple[int, str, dict[str, str], str | None]] = field(factory=list)
    scraper: dict[str, Any] = field(factory=dict)
    hold: float = 3600.0
    page: int = 1000

    def answer(self, path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        if path == "/api/v1/scrapers":
            row = {
                "name": "ann",
                "way": "scrape",
                "cursor": len(self.events),
                "pending": 0,
                "owed": 0,
                "oldest_pending_at": None,
                "lost": {},
                "longest_lag_seconds": 1.0,
                "lag_since_at": 1,
                **self.scraper,
            }
            return 200, {"hold_seconds": self.hold, "scrapers": [row]}
        if path != "/api/v1/events":
            return 404, b"not found"
        since, until = int(parameters.get("since", 0)), int(parameters["until"])
        before = int(parameters.get("before", len(self.events) + 1))
        found = [
            {"seq": seq, "at": at, "metric": metric, "labels": labels, "value": value}
            for seq, (at, metric, labels, value) in enumerate(self.events, 1)
            if since <= at < until and seq < before
        ]
        page = found[::-1][: min(self.page, int(parameters["limit"]))]
        return 200, {"events": page, "next": page[-1]["seq"] if len(page) < len(found) else None}


def vector(*rows: tuple[Mapping[str, str], float]) -> dict[str, Any]:
    """An answer to an instant query."""
    result = [{"metric": dict(labels), "value": [1.0, str(number)]} for labels, number in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def now() -> int:
    """Return Unix ms."""
    return int(time.time() * 1000)


def pair(stack: ExitStack, daemon: Answers, store: Answers) -> tuple[FakeServer, FakeServer, list[str]]:
    """Serve both; return them, and the words of the command line that name them."""
    there, other = stack.enter_context(serving(daemon)), stack.enter_context(serving(store))
    return there, other, ["--daemon", there.url, "--prometheus", other.url, "--scraper", "ann"]


def events() -> AuditedDaemon:
    """Return a daemon with events of three series, which `GOOD` has once each."""
    at = now() - 60_000
    return AuditedDaemon(
        events=[
            (at, "m", {"type": "a"}, None),
            (at + 1, "m", {"type": "a"}, None),
            (at + 2, "m", {"type": "b"}, "3.5"),
            (at + 3, "other", {"job": "x"}, None),
        ],
        page=2,
    )


def store(numbers: Mapping[str, dict[str, Any]]) -> Answers:
    """A store that knows these expressions, by the function and the metric."""

    def answer(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        assert path == "/api/v1/query"
        for begin, found in numbers.items():
            function, metric = begin.split()
            if parameters["query"].startswith(f'{function}_over_time({{__name__="{metric}"'):
                return 200, found
        return 200, vector()

    return answer


GOOD = {
    "sum m": vector(({**INSTANCE, "type": "a"}, 2), ({**INSTANCE, "type": "b"}, 3.5)),
    "count m": vector(({**INSTANCE, "type": "a"}, 1), ({**INSTANCE, "type": "b"}, 1)),
    "sum other": vector(({**INSTANCE, "exported_job": "x"}, 1)),
}

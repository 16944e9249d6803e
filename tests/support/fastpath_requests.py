"""Requests for the fast path and its neighbours, and an ingest that takes them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import define, field
from support.web_fakes import FakeIngest
from twisted.internet.interfaces import IReactorTime

from oneshotd.core.events import Group, NewEvent
from oneshotd.ingest.waiting import SubmitCallback


@define(kw_only=True)
class TakingIngest(FakeIngest):
    """Keeps submitted series, and answers when a test says so."""

    clock: IReactorTime
    room: bool = True
    taken: list[tuple[list[str], SubmitCallback]] = field(factory=list)

    def submit_series(self, series: Sequence[str], callback: SubmitCallback) -> bool:
        if self.room:
            self.taken.append((list(series), callback))
        return self.room

    def commit(self, stored: bool = True) -> int:
        """Answer all submitted series; return how many there were."""
        ended = 0
        while self.taken:
            series, callback = self.taken.pop(0)
            if stored:
                self.groups += [(Group(events=[NewEvent(each)]), "http") for each in series]
                callback.on_stored(self.clock.seconds())
            else:
                callback.on_failed()
            ended += len(series)
        return ended


def post(query: str, *headers: str, version: str = "HTTP/1.1", host: str | None = "Host: a:1") -> bytes:
    lines = [f"POST /event?{query} {version}", *([host] if host else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


ORDINARY = post("type=deploy&version=1.2", "User-Agent: curl/8", "Accept: */*")


QUICK = [
    ORDINARY,
    post("a=1"),
    post("a=1", "Content-Length: 0"),
    post("a=1", "Connection: keep-alive"),
    post("a=1", "Connection: close"),
    post("a=1", "connection:  CLOSE"),
    post("a=1", "CONTENT-TYPE: application/x-www-form-urlencoded", "content-length: 0"),
    post("a=1", host="host: [::1]:8090"),
    post("a=1", "Authorization: Bearer s3cret"),
]


ODD = [
    post("a=1", "Connection: close, keep-alive"),
    post("a=1", "Connection: keep-alive, close"),
    post("a=1", "Connection: keep-alive", "Connection: close"),
    post("a=1", version="HTTP/1.0"),
    post("a=1", version="HTTP/1.2"),
    post("a=1", version="http/1.1"),
    post("a=1", host=None),
    post("a=1", "Host: b"),
    post("a=1", host="Host:"),
    post("a=1", host="Host: a b"),
    post("a=1", "Content-Length: 3") + b"b=2",
    post("a=1", "Content-Length: 0", "Content-Length: 0"),
    post("a=1", "Content-Length: 00"),
    post("a=1", "Content-Length: +0"),
    post("a=1", "Content-Length: -1"),
    post("a=1", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    post("a=1", "Transfer-Encoding: chunked", "Content-Length: 0") + b"0\r\n\r\n",
    post("a=1", "Expect: 100-continue"),
    post("a=1", "Idempotency-Key: x"),
    post("a=1", "Origin: https://evil.example"),
    post("a=1", "Sec-Fetch-Site: cross-site"),
    post("a=1", "X-Forwarded-For: 198.51.100.1"),
    post("a=1", "Content-Encoding: gzip"),
    post("a=1", "Cookie: a=b"),
    post("a=1", "Authorization: Basic YTpi", "Authorization: Basic YTpi"),
    post("a=1", "Authorization:"),
    post("a=1", "Authorization: Basic\tYTpi"),
    post("a=1", "Proxy-Authorization: Basic YTpi"),
    post("a=1", "User-Agent: a", " folded"),
    post("a=1", "User-Agent : a"),
    post("a=1", "User-Agent: \xe4"),
    post("a=1", "User-Agent"),
    post("a=1", ": empty"),
    post("a=1", "User-Agent: a\nb"),
    post("a=1", "User-Agent: a\rb"),
    post("a=1", "User-Agent: a\x00b"),
    post("a=1", "Accept: application/json"),
    post("a", "Accept: application/json"),
    post("a=1&value=x"),
    post("a=1&value=3"),
    post("a=1&__id__=k"),
    post("__name__=up&a=1"),
    post("a=1&a=2"),
    post("a=%31+2"),
    post("a=%zz"),
    post("a=1#b"),
    post("a=1?b"),
    post("a=1 b"),
    post("a=1\tb"),
    post("a=\xe4"),
    post(""),
    post("&"),
    post("a=1", version=" HTTP/1.1"),
    b"POST /event HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /event? HTTP/1.1\nHost: a\n\n",
    b"POST /events?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST //event?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST http://a/event?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"post /event?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /event?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /event?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /event?a=1 HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /event?a=1 HTTP/1.1\r\n\r\n",
    b"POST /event?a=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: " + b"x" * 9000 + b"\r\n\r\n",
    post("a=" + "x" * 5000),
]


def mutant(rng: random.Random, *requests: bytes) -> bytes:
    """Return one of the requests with up to two random changes."""
    made = bytearray(rng.choice(requests))
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(made))
        wrong = [b"", b" ", b"\r", b"\n", b":", b"%", b"\xff", b"\0", b"&", b"=", b"A", rng.randbytes(1)]
        made[at : at + rng.randrange(3)] = rng.choice(wrong)
    return bytes(made)

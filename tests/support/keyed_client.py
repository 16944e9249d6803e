"""A client that says what happened under a key, in every way there is, and again if need be."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections import Counter
from typing import Protocol

from attrs import frozen
from support.daemon import BROWSER
from support.processes import until

#: What `POST /events` answers for one event: stored now (or so it was the first time), known by its
#: own key.
STORED, KNOWN = '{"stored": 1, "duplicates": 0}\n', '{"stored": 0, "duplicates": 1}\n'


@frozen
class Way:
    """How a client says that something of this type happened, and under which key.

    :param again: the answer to what is known already; None over UDP, which has no answers.
    """

    path: str
    body: str = ""
    media: str = "text/plain"
    header: bool = False
    again: str | None = None

    def request(self, url: str, key: str, type_: str) -> urllib.request.Request:
        """To be sent over HTTP."""
        headers = {"Content-Type": self.media} if self.body else {}
        if self.header:
            headers["Idempotency-Key"] = f'"{key}"'
        texts = {"key": key, "type": type_}
        body = self.body % texts if self.body else ""
        return urllib.request.Request(
            url + self.path % texts, data=body.encode(), headers=headers, method="POST"
        )

    def datagram(self, key: str, type_: str) -> bytes:
        """To be sent over UDP."""
        return (self.body % {"key": key, "type": type_}).encode()


LINE, WITH_ID = "type=%(type)s", "type=%(type)s&__id__=%(key)s"
UDP = Way("", WITH_ID)
WAYS = {
    "event with __id__": Way(f"/event?{WITH_ID}", again="ok\n"),
    "event with the header": Way(f"/event?{LINE}", header=True, again="ok\n"),
    "form with __id__": Way("/event", WITH_ID, "application/x-www-form-urlencoded", again="ok\n"),
    "lines with __id__": Way("/events", WITH_ID, again=KNOWN),
    "lines with the header": Way("/events", LINE, header=True, again=STORED),
    "JSON with __id__": Way(
        "/events", '[{"type": "%(type)s", "__id__": "%(key)s"}]', "application/json", again=KNOWN
    ),
    "NDJSON with the header": Way(
        "/events", '{"type": "%(type)s"}', "application/x-ndjson", header=True, again=STORED
    ),
    "UDP": UDP,
}


CONFLICTS = 'oneshotd_refused_total{reason="conflict"}'


class Served(Protocol):
    """What a client needs of a daemon; see `Daemon`."""

    @property
    def url(self) -> str: ...

    @property
    def port(self) -> int: ...

    def get(self, path: str, accept: str = "*/*") -> str: ...


class Client:
    """Says things to a daemon, and reads from its own figures what became of them."""

    def __init__(self, daemon: Served) -> None:
        self.daemon = daemon

    def say(self, way: Way, key: str, type_: str) -> tuple[int, str]:
        """Status and answer; over UDP, when the daemon has dealt with it: status 0."""
        if way is UDP:
            before = self._dealt_with()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(way.datagram(key, type_), ("127.0.0.1", self.daemon.port))
            until(lambda: self._dealt_with() > before, 10, "a datagram dealt with")
            return 0, ""
        return ask(way.request(self.daemon.url, key, type_))

    def post(self, *lines: str, key: str | None = None) -> tuple[int, str]:
        """Send lines to ``/events``."""
        headers = {"Content-Type": "text/plain"} | ({"Idempotency-Key": key} if key else {})
        body = "\n".join(lines).encode()
        return ask(urllib.request.Request(f"{self.daemon.url}/events", body, headers))

    def figure(self, *names: str) -> int:
        """The sum of some of the daemon's own metrics, as they are at one moment: series or families."""
        either = "|".join(map(re.escape, names))
        look = self.daemon.get("/metrics?look")
        found = re.findall(rf"^(?:{either})(?:{{.*}})? (\S+)$", look, re.MULTILINE)
        assert found, names
        return int(sum(map(float, found)))

    def conflicts(self) -> int:
        """How often a key came with other content, since the daemon's start."""
        return self.figure(CONFLICTS)

    def taken(self) -> Counter[str]:
        """Scrape: type -> how many events."""
        body = self.daemon.get("/metrics?scraper=all")
        found = re.findall(r'^events_to_metrics{type="(.*)"} (\d+)$', body, re.MULTILINE)
        return Counter({type_: int(number) for type_, number in found})

    def _dealt_with(self) -> int:
        return self.figure("oneshotd_events_accepted_total", "oneshotd_events_duplicate_total", CONFLICTS)


def ask(request: urllib.request.Request) -> tuple[int, str]:
    """Status and text of the answer."""
    try:
        with BROWSER.open(request, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def as_bytes(request: urllib.request.Request) -> bytes:
    body = request.data or b""
    assert isinstance(body, bytes)
    lines = [f"POST {request.selector} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in request.header_items()]
    return "\r\n".join([*lines, "", ""]).encode() + body

"""The senders of a campaign, one for each way in.

Each sends the next thing when the one before was answered (a datagram: read by a scraper), so
that the load is what the daemon and the machine can take.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from soak.actor import Actor
from soak.ledger import BULK, KEYED, PLAIN, UDP, Books
from soak.marks import Mark

#: Seconds after which an event that is tried again and again has to be accepted.
PATIENCE = 60.0

#: What programs send that take the port for another one's -> the reason for which the daemon refuses
#: it. None of these lines is an event, and the lines beside them in a datagram are.
FOREIGN = {
    "<13>Nov 27 12:00:00 host app[7]: type=x": "label",
    "_sc|disk|9|#env=prod": "syntax",  # a service check, and of no status
    "deploys:1|c|#env=prod": "label",
    "deploys:1|c": "syntax",
    "cpu,host=a load=1 2": "label",
    "export type=x": "label",
    "GET / HTTP/1.1": "syntax",
}
FOREIGN_LINE = "a foreign line in a datagram"

#: Seconds between two events that a scraper refuses, at least; and scrapes of that scraper without a
#: refusal before the next one: a search takes at most 18 from one reset to the next.
ODD_INTERVAL, ODD_SCRAPES = 3.0, 20

TEXT, NDJSON, JSON = "text/plain", "application/x-ndjson", "application/json"


def amounts(marks: Sequence[Mark]) -> Mapping[str, int]:
    """Identity -> how many."""
    return Counter(mark.identity for mark in marks)


class Sender(Actor):
    """Sends events over HTTP; `send_next` says which."""

    def __init__(self, name: str, *, books: Books, port: int, seed: int) -> None:
        super().__init__(name, seed)
        self.books = books
        self.retried = 0
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._n = 0

    def turn(self) -> None:
        began = time.monotonic()
        if self._connect():
            self.send_next()
            self.rest(min(0.2, time.monotonic() - began))
        else:
            self.over.wait(0.05)

    def send_next(self) -> None:
        """Send something; there is a connection."""
        raise NotImplementedError

    def leave(self) -> None:
        self._client.close()

    def mark(self, *, value: int | None = None, pad: int = 0) -> Mark:
        """An event of a new series."""
        self._n += 1
        return Mark(sender=self.name, n=self._n, value=value, pad=pad)

    def same(self, mark: Mark) -> Mark:
        """A further event of that one's series."""
        value = None if mark.value is None else mark.value + self.dice.randrange(1, 5)
        return Mark(sender=mark.sender, n=mark.n, value=value, pad=mark.pad)

    def _connect(self) -> bool:
        if self._client.sock is None:
            try:
                self._client.port = self._choose_port()
                self._client.connect()
            except OSError:
                return False
        return True

    def _choose_port(self) -> int:
        """Return the port for the next connection."""
        return self._client.port

    def post(self, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> int | None:
        """The status of the answer; None if it did not come whole, and nobody knows what was done."""
        try:
            self._client.request("POST", path, body, dict(headers or {}))
            answer = self._client.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self._client.close()
            return None
        if answer.status not in (200, 503):
            self.books.note_wrong(f"{self.name}: {answer.status} {text[:300]!r}")
        self._was_answered(answer.status)
        return answer.status

    def _was_answered(self, status: int) -> None:
        """Do what follows from an answer, besides its record."""

    def post_once(self, door: str, marks: Sequence[Mark], post: Callable[[], int | None]) -> None:
        """Send without a key: without an answer it must not be tried again."""
        sending = self.books.send(door, amounts(marks))
        status = post()
        if status == 200:
            self.books.answered(sending)
        elif status is not None:
            sending.refused = True

    def post_until_stored(self, door: str, marks: Sequence[Mark], post: Callable[[], int | None]) -> None:
        """Send with a key, again and again until the answer is there; sometimes once more."""
        sending = self.books.send(door, amounts(marks))
        until = time.monotonic() + PATIENCE
        while not (self._connect() and post() == 200):
            self.retried += 1
            if time.monotonic() > until:
                self.books.note_wrong(f"{self.name}: not accepted for {PATIENCE:g} s: {sending.amounts}")
                return
            time.sleep(0.05)  # also when it is over: what was begun is seen to its end
        self.books.answered(sending)
        if self.dice.random() < 0.1:  # as when the answer was lost on its way
            self.retried += 1
            if self._connect():
                post()


class KeyedSender(Sender):
    """`POST /event` with a key, in the header or as a field; some of one series, with or without
    values."""

    def send_next(self) -> None:
        marks = [self.mark(value=self.dice.choice([None, None, None, None, None, 1]))]
        while self.dice.random() < (0.2 if len(marks) == 1 else 0.7) and len(marks) < 8:
            marks.append(self.same(marks[-1]))
        for i, mark in enumerate(marks):
            key = f"{self.name}-{mark.n}-{i}"
            if self.dice.random() < 0.5:
                post = partial(self.post, f"/event?{mark.line()}", headers={"Idempotency-Key": f'"{key}"'})
            else:
                post = partial(self.post, f"/event?{mark.line()}&__id__={key}")
            self.post_until_stored(KEYED, [mark], post)


class PlainSender(Sender):
    """`POST /event` without a key; the labels in the query or in the body."""

    def send_next(self) -> None:
        mark = self.mark(value=self.dice.choice([None, None, None, 7]))
        if self.dice.random() < 0.5:
            post = partial(self.post, f"/event?{mark.line()}")
        else:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            post = partial(self.post, "/event", mark.line().encode(), form)
        self.post_once(PLAIN, [mark], post)


class BulkSender(Sender):
    """`POST /events`, in all forms, with and without a key, some of them large."""

    def send_next(self) -> None:
        marks: list[Mark] = []
        pad = self.dice.choice([0, 0, 0, 0, 0, 2000])
        while len(marks) < self.dice.choice([1, 5, 20, 60]):
            marks.append(self.mark(value=self.dice.choice([None] * 20 + [1]), pad=pad))
            while self.dice.random() < 0.3:
                marks.append(self.same(marks[-1]))
        form = self.dice.choice([TEXT, NDJSON, JSON])
        headers = {"Content-Type": form}
        if self.dice.random() < 0.5:
            headers["Idempotency-Key"] = f'"{self.name}-{self._n}"'
            self.post_until_stored(BULK, marks, partial(self.post, "/events", body(form, marks), headers))
        else:
            self.post_once(BULK, marks, partial(self.post, "/events", body(form, marks), headers))


class OddSender(Sender):
    """`POST /event` with a key, of events that one scraper refuses.

    Where the daemon is killed before the search for one is at its end, that begins anew. So the next
    one is sent when there has been no sign of a search for a while.

    :param scraper: the one that refuses them.
    """

    def __init__(self, name: str, *, books: Books, port: int, seed: int, scraper: str) -> None:
        super().__init__(name, books=books, port=port, seed=seed)
        self._scraper = scraper
        self._next = 0.0

    def turn(self) -> None:
        if time.monotonic() < self._next or self.books.refused_lately(self._scraper, ODD_SCRAPES):
            self.over.wait(0.1)
        else:
            super().turn()

    def send_next(self) -> None:
        mark = self.mark()
        headers = {"Idempotency-Key": f'"{self.name}-{mark.n}"'}
        self.post_until_stored(KEYED, [mark], partial(self.post, f"/event?{mark.line()}", headers=headers))
        self._next = time.monotonic() + ODD_INTERVAL


class DatagramSender(Actor):
    """Datagrams of one or more numbered lines; the next ones go when a scraper has read these.

    :param scraper: the one that is watched.
    """

    def __init__(self, name: str, *, books: Books, port: int, seed: int, scraper: str) -> None:
        super().__init__(name, seed)
        self._books = books
        self._scraper = scraper
        self._n = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Not connected: then a datagram that nobody was there for makes no error of the next one.
        self._daemon = ("127.0.0.1", port)

    def turn(self) -> None:
        last = ""
        for _ in range(self.dice.choice([1, 1, 2, 8, 20])):
            marks = [self._mark() for _ in range(self.dice.choice([1, 1, 1, 3, 10]))]
            marks += [marks[-1]] * self.dice.choice([0, 0, 0, 4])
            last = marks[-1].identity
            lines = [mark.line() for mark in marks]
            if self.dice.random() < 0.1:
                lines.insert(self.dice.randrange(len(lines) + 1), self.dice.choice(list(FOREIGN)))
                self._books.fault(FOREIGN_LINE)
            self._send(marks, lines)
        self._books.await_read(self._scraper, last, 0.5)
        self.rest(0.0)

    def send_one(self, *foreign: str) -> str:
        """Send a datagram of one event behind foreign lines; the event's identity."""
        mark = self._mark()
        self._send([mark], [*foreign, mark.line()])
        return mark.identity

    def _send(self, marks: Sequence[Mark], lines: Sequence[str]) -> None:
        sending = self._books.send(UDP, amounts(marks))
        self._socket.sendto("\n".join(lines).encode(), self._daemon)
        sending.gone = time.monotonic()

    def _mark(self) -> Mark:
        self._n += 1
        return Mark(sender=self.name, n=self._n)

    def leave(self) -> None:
        self._socket.close()


def body(form: str, marks: Sequence[Mark]) -> bytes:
    """A body of `POST /events`."""
    if form == TEXT:
        return "\n".join(mark.line() for mark in marks).encode()
    objects = [mark.fields() for mark in marks]
    if form == NDJSON:
        return "\n".join(map(json.dumps, objects)).encode()
    return json.dumps(objects).encode()

"""The two ways out: what is tried again and with which key; what fits into a datagram."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.emit_server import HANG_UP, STORED, Server, answer, tally

from oneshotd.emit import emit
from oneshotd.emit.answers import EmitRefused, EmitUnavailable
from oneshotd.emit.settings import Settings, target
from oneshotd.emit.transport import DATAGRAM_BYTES, MAX_BODY_BYTES, MAX_DATAGRAM_BYTES, HttpSender, UdpSender

BUSY = answer(503, b"busy\n", Retry_After="2")


class Sleeper:
    """Sleeps no time, and knows for how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def http(server: Server, retry: float = 0.0) -> tuple[HttpSender, Sleeper]:
    sleeper = Sleeper()
    return HttpSender(Settings(target(server.url), 10.0, retry), sleeper), sleeper


def keys(server: Server) -> list[str | None]:
    return [asked.headers.get("idempotency-key") for asked in server.asked]


def test_one_attempt_without_a_key() -> None:
    """Without `retry` each event would cost the daemon a key."""
    with Server(HANG_UP, STORED) as server:
        way, sleeper = http(server)
        with pytest.raises(EmitUnavailable):
            way.event(b"a=1")
        way.close()
    assert keys(server) == [None]
    assert sleeper.slept == []


def test_every_attempt_bears_one_key() -> None:
    """An event whose answer was lost would count twice."""
    with Server(HANG_UP, BUSY, HANG_UP, STORED) as server:
        way, sleeper = http(server, retry=60.0)
        way.event(b"a=1")
        assert len(server.asked) == 4
        assert len(set(keys(server))) == 1
        assert len(keys(server)[0] or "") == 36
        assert 2.0 in sleeper.slept
        way.event(b"a=1")
        way.close()
    assert len(set(keys(server))) == 2


def test_a_key_of_the_event_is_the_only_one() -> None:
    """The daemon refuses two."""
    with Server() as server:
        way, _ = http(server, retry=60.0)
        way.event(b"a=1&__id__=x")
        way.close()
    assert keys(server) == [None]


def test_a_refusal_is_not_tried_again() -> None:
    """A wrong event would be sent for the whole of `retry`."""
    with Server(answer(400, b"value: 'x' is not a number\n")) as server:
        way, _ = http(server, retry=60.0)
        with pytest.raises(EmitRefused, match="value: 'x' is not a number"):
            way.event(b"a=1&value=x")
        way.close()
    assert len(server.asked) == 1


def test_giving_up_leaves_one_attempt() -> None:
    """A program that is told to end would go on for the whole of `retry`."""
    with Server(BUSY) as server:
        way, sleeper = http(server, retry=60.0)
        way.give_up()
        with pytest.raises(EmitUnavailable, match="busy"):
            way.event(b"a=1")
        way.close()
    assert sleeper.slept == []


def test_many_lines_have_one_key_or_each_its_own() -> None:
    """A batch that is sent again would count twice, or be refused for a key in one of its lines."""
    with Server(tally(2), tally(1, 2)) as server:
        way, _ = http(server, retry=60.0)
        assert way.lines([b"a=1", b"a=2"]) == 2
        assert way.lines([b"a=1", b"a=2&__id__=x", b"a=3"]) == 1
        way.close()
    first, second = server.asked
    assert first.first == "POST /events HTTP/1.1"
    assert first.headers["content-type"] == "text/plain; charset=utf-8"
    assert first.body == b"a=1\na=2"
    assert len(first.headers["idempotency-key"]) == 36
    assert "idempotency-key" not in second.headers
    one, two, three = second.body.split(b"\n")
    assert two == b"a=2&__id__=x"
    assert one.startswith(b"a=1&__id__=")
    assert three.startswith(b"a=3&__id__=")
    assert one[3:] != three[3:]


def test_many_lines_go_as_they_are_without_retry() -> None:
    """Each line would cost the daemon a key."""
    with Server(tally(2)) as server:
        way, _ = http(server)
        way.lines([b"a=1", b"a=2&__id__=x"])
        way.close()
    assert server.bodies() == [b"a=1\na=2&__id__=x"]
    assert keys(server) == [None]


def test_a_body_that_the_daemon_would_cut_off_is_not_sent() -> None:
    """It hangs up before it has read all, which looks as if it were away."""
    with Server() as server:
        way, _ = http(server)
        with pytest.raises(EmitRefused) as caught:
            way.lines([b"a=" + b"x" * MAX_BODY_BYTES])
        way.close()
    assert caught.value.status == 413
    assert server.asked == []


def test_a_user_of_the_url_is_sent() -> None:
    """A daemon that asks for a password could not be reached."""
    with Server() as server:
        emit(a=1, url=server.url.replace("//", "//a:b@"))
    assert server.asked[0].headers["authorization"] == "Basic YTpi"


def test_a_program_emits_with_one_call() -> None:
    """The README's line for programs would not work."""
    with Server() as server:
        emit({"type": "backup", "id": "x"}, value=37.5, url=server.url, task="nightly", host=None)
        emit(type="deploy", id="k-1", url=server.url, retry=5)
    assert server.bodies() == [b"type=backup&id=x&task=nightly&value=37.5", b"type=deploy&__id__=k-1"]
    assert [asked.first for asked in server.asked] == ["POST /event HTTP/1.1"] * 2
    assert server.asked[0].headers["user-agent"].startswith("oneshot-emit/")


def test_a_program_hears_what_went_wrong() -> None:
    """It would believe that its event is stored."""
    with Server(answer(403, b"192.0.2.7 may not send events\n")) as server:
        with pytest.raises(EmitRefused, match="may not send events"):
            emit(type="deploy", url=server.url)
        with pytest.raises(ValueError, match="type is given twice"):
            emit({"type": "a"}, type="b", url=server.url)
    with pytest.raises(EmitUnavailable, match="Connection refused"):
        emit(type="deploy", url=server.url)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(10.0)
        yield opened


def udp(port: int, host: str = "127.0.0.1") -> UdpSender:
    return UdpSender(Settings(target(f"udp://{host}:{port}"), 5.0, 0.0))


def test_a_datagram_holds_the_line(listener: socket.socket) -> None:
    """Nothing would arrive by UDP."""
    way = udp(listener.getsockname()[1], "localhost")
    for text in (b"a=1", b"a=2"):
        way.event(text)
        assert listener.recv(65536) == text
    way.close()


def test_many_lines_share_datagrams_that_pass_everywhere(listener: socket.socket) -> None:
    """Each line would cost a datagram, or large ones be lost on the way."""
    lines = [b"n=%d&x=" % n + b"x" * (n * 37 % 500) for n in range(50)] + [b"long=" + b"x" * 3000]
    way = udp(listener.getsockname()[1])
    assert way.lines(lines) == len(lines)
    way.close()
    got: list[bytes] = []
    datagrams = 0
    while len(got) < len(lines):
        data = listener.recv(65536)
        datagrams += 1
        assert len(data) <= DATAGRAM_BYTES or data == lines[-1]
        got += data.split(b"\n")
    assert got == lines
    assert datagrams < len(lines) / 2


def test_a_line_that_fits_into_no_datagram_is_refused_before_any_is_sent(listener: socket.socket) -> None:
    """Its batch would be halved and the good lines be sent twice."""
    way = udp(listener.getsockname()[1])
    with pytest.raises(EmitRefused, match="a datagram has 65507") as caught:
        way.lines([b"a=1", b"x" * (MAX_DATAGRAM_BYTES + 1)])
    assert caught.value.status == 413
    way.event(b"a=" + b"x" * (MAX_DATAGRAM_BYTES - 2))
    way.close()
    assert len(listener.recv(65536)) == MAX_DATAGRAM_BYTES


def test_nobody_listening_on_this_host_is_seen(listener: socket.socket) -> None:
    """A test by hand would look as if the event was on its way."""
    port = listener.getsockname()[1]
    way = udp(port)
    way.event(b"a=1")
    listener.close()
    for _ in range(2):
        with pytest.raises(EmitUnavailable, match=r"nobody listens there|Connection refused"):
            way.event(b"a=2")
    way.close()
    with pytest.raises(EmitUnavailable):
        udp(1, "nowhere.invalid").event(b"a=1")

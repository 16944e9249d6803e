"""Several addresses of one store: the next one is tried with the same key, within one timeout."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from support.emit_process import NOBODY
from support.emit_server import HANG_UP, STORED, Server, answer, tally
from support.emit_ways import WAYS, Way

from oneshotd.emit import EmitDenied, EmitRefused, EmitUnavailable
from oneshotd.emit import settings as emit_settings
from oneshotd.emit.answers import Round
from oneshotd.emit.settings import Settings, target
from oneshotd.emit.transport import HttpSender

BUSY = answer(503, b"busy\n", Retry_After="0")

#: What a daemon may answer, or a proxy before it, while another daemon would store the event.
NO_ANSWERS = {
    "hang up": HANG_UP,
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no",
    "no HTTP": b"220 mail.example.org ESMTP\r\n\r\n",
    "no status": b"HTTP/1.1 ok\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 2_000_000,
    "500": answer(500, b"internal error\n"),
    "502": answer(502, b"<html>bad gateway"),
    "503": answer(503, b"the store does not answer\n"),
    "504": answer(504, b""),
}

pytestmark = pytest.mark.parametrize("way", WAYS, ids=["blocking", "deferred"])


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit_settings, "FILE", str(tmp_path / "emit.toml"))


@contextmanager
def silent() -> Iterator[str]:
    """A host that takes connections and answers nothing, as a stopped daemon does; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def keys(*servers: Server) -> list[str | None]:
    return [asked.headers.get("idempotency-key") for server in servers for asked in server.asked]


@pytest.mark.parametrize("first", NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried_with_the_same_key(way: Way, first: bytes) -> None:
    """The event would be lost with the first daemon; or count twice, had the first one stored it."""
    with Server(first, closes=True) as one, Server() as other:
        await way(url=[one.url, other.url], timeout=20)
        assert [len(one.asked), len(other.asked)] == [1, 1]
    assert one.bodies() == other.bodies() == [b"a=1"]
    found = keys(one, other)
    assert len(found[0] or "") == 36
    assert found[0] == found[1]


@pytest_twisted.ensureDeferred
async def test_an_address_where_nobody_listens(way: Way) -> None:
    with Server() as other:
        await way(url=[NOBODY, other.url])
        assert len(other.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_stopped_leaves_time_for_the_other(way: Way) -> None:
    """The caller would wait twice as long, or in vain."""
    began = time.monotonic()
    with silent() as stopped, Server() as other:
        await way(url=[stopped, other.url], timeout=1)
        assert len(other.asked) == 1
    assert 0.4 < time.monotonic() - began < 0.95


@pytest_twisted.ensureDeferred
async def test_all_addresses_together_have_the_time_of_one(way: Way) -> None:
    began = time.monotonic()
    with silent() as one, silent() as two, silent() as three, pytest.raises(EmitUnavailable) as caught:
        await way(url=[one, two, three], timeout=0.6)
    assert time.monotonic() - began < 2
    pattern = "; ".join(rf"{url}: no answer within 0\.(2|1\d) s" for url in (one, two, three))
    assert re.fullmatch(pattern, str(caught.value))


@pytest_twisted.ensureDeferred
async def test_the_key_of_the_event_is_kept(way: Way) -> None:
    with Server(BUSY) as one, Server() as other:
        await way(url=[one.url, other.url], id="mine")
    assert one.bodies() == other.bodies() == [b"a=1&__id__=mine"]
    assert keys(one, other) == [None, None]


@pytest_twisted.ensureDeferred
async def test_a_single_address_still_needs_no_key(way: Way) -> None:
    with Server() as one:
        await way(url=[one.url])
    assert keys(one) == [None]


@pytest_twisted.ensureDeferred
async def test_retries_go_over_all_addresses_with_one_key(way: Way) -> None:
    with Server(BUSY, HANG_UP, BUSY) as one, Server(HANG_UP, BUSY, STORED) as other:
        await way(url=[one.url, other.url], retry=30)
        assert [len(one.asked), len(other.asked)] == [3, 3]
    assert len(set(keys(one, other))) == 1


FINAL = {
    "400": (answer(400, b"no event\n"), EmitRefused, r"^http://127\S+: refused \(400\): no event$"),
    "401": (answer(401, b"who?\n"), EmitDenied, r"^http://127\S+: refused \(401\): who\?; sent without"),
    "413": (answer(413, b"too long\n"), EmitRefused, "too long"),
    "302": (answer(302, b"", Location="http://h"), EmitRefused, "302"),
    "not oneshotd": (answer(200, b"It works!\n"), EmitRefused, "^http://127.*this is not oneshotd"),
    "a rate": (
        answer(429, b"slower\n", Retry_After="9"),
        EmitUnavailable,
        r"^http://127\S+: not now \(429\)",
    ),
}


@pytest.mark.parametrize(("first", "error", "said"), FINAL.values(), ids=FINAL)
@pytest_twisted.ensureDeferred
async def test_what_is_refused_is_not_sent_elsewhere(
    way: Way, first: bytes, error: type[Exception], said: str
) -> None:
    """All daemons have the same rules; and a rate would be that of all daemons together."""
    with Server(first) as one, Server() as other:
        with pytest.raises(error, match=said) as caught:
            await way(url=[one.url, other.url])
        assert other.asked == []
    assert type(caught.value) is error


@pytest_twisted.ensureDeferred
async def test_each_address_has_its_own_login(way: Way) -> None:
    with Server(BUSY) as one, Server(BUSY) as other:
        urls = [one.url.replace("//", "//kim:s3cret-1@"), other.url.replace("//", "//ann:s3cret-2@")]
        with pytest.raises(EmitUnavailable) as caught:
            await way(url=urls)
        assert "s3cret" not in str(caught.value)
    assert one.asked[0].headers["authorization"] == "Basic a2ltOnMzY3JldC0x"
    assert other.asked[0].headers["authorization"] == "Basic YW5uOnMzY3JldC0y"
    assert other.asked[0].headers["host"] == f"127.0.0.1:{other.port}"


def sender(*urls: str, retry: float = 0.0) -> HttpSender:
    first, *further = map(target, urls)
    return HttpSender(Settings(first, 5.0, retry, further=tuple(further)), lambda seconds: None)


@pytest.mark.usefixtures("way")
class TestOneRun:
    """`oneshot-emit -` and other users of one sender."""

    def test_the_address_that_answered_is_the_first_of_the_next_event(self) -> None:
        """Each batch of a long input would wait for the daemon that does not answer."""
        with Server(BUSY, STORED) as one, Server(STORED, tally(2), BUSY) as other:
            client = sender(one.url, other.url)
            client.event(b"a=1")
            assert client.lines([b"a=2", b"a=3"]) == 2
            assert [len(one.asked), len(other.asked)] == [1, 2]
            client.event(b"a=4")
            client.close()
            assert [len(one.asked), len(other.asked)] == [2, 3]
        assert len(set(keys(one, other))) == 3

    def test_lines_have_keys(self) -> None:
        with Server(BUSY) as one, Server(tally(2)) as other:
            client = sender(one.url, other.url)
            client.lines([b"a=1&__id__=x", b"a=2"])
            client.close()
        assert one.bodies() == other.bodies()
        assert other.bodies()[0].startswith(b"a=1&__id__=x\na=2&__id__=")

    def test_after_a_signal_the_other_address_is_tried_all_the_same(self) -> None:
        with Server(BUSY) as one, Server() as other:
            client = sender(one.url, other.url, retry=60.0)
            client.give_up()
            client.event(b"a=1")
            client.close()
        assert keys(one) == keys(other) != [None]


@pytest.mark.usefixtures("way")
class TestRound:
    """The share of each address in the time of a round."""

    def test_each_address_has_an_equal_share_of_what_is_left(self) -> None:
        addresses = [target(f"http://h:{port}") for port in (1, 2, 3)]
        turn = Round(addresses, 6.0)
        assert turn.seconds(100.0) == 2.0
        turn.failed(addresses[0], EmitUnavailable("no"))
        assert turn.seconds(100.0) == 3.0  # the first has failed at once
        turn.failed(addresses[1], EmitUnavailable("no", retry_after=3.0))
        assert turn.seconds(102.5) == 3.5
        with pytest.raises(EmitUnavailable) as caught:
            turn.failed(addresses[2], EmitUnavailable("never", retry_after=1.0))
        assert str(caught.value) == "http://h:1: no; http://h:2: no; http://h:3: never"
        assert caught.value.retry_after == 3.0

    def test_a_name_that_takes_long_to_resolve_takes_no_time_of_the_others(self) -> None:
        """With a dead machine for names, the other daemon would not be asked, or without time to answer."""
        addresses = [target(f"http://h:{port}") for port in (1, 2)]
        turn = Round(addresses, 1.0)
        assert turn.seconds(100.0) == 0.5
        turn.failed(addresses[0], EmitUnavailable("no such host"))
        assert turn.seconds(110.0) == 0.5

    def test_a_single_address_has_all_the_time(self) -> None:
        assert Round([target("http://h:1")], 1.23456).seconds(100.0) == 1.23456

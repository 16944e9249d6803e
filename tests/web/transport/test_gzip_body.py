"""A body with ``Content-Encoding: gzip``: what comes out, and what a hostile one costs."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from oneshotd.errors import Refused
from oneshotd.web.transport.gzip_body import MAX_MEMBERS, PORTION, TURN, inflated

MOST = 4 * TURN

#: Bytes that cannot be compressed.
NOISE = random.Random(1).randbytes(3 * PORTION)


class Work:
    """One inflation: how often it paused, and how much it held."""

    def __init__(self) -> None:
        self.pauses = 0
        self.held: list[int] = []

    async def pause(self) -> None:
        self.pauses += 1

    def inflate(self, body: bytes, most: int = MOST) -> bytes:
        """Return the result; it never waits for more than a pause."""
        done: list[bytes] = []
        work = Deferred.fromCoroutine(
            inflated(body, most=most, hold=self.held.append, pause=self.pause)
        ).addCallback(done.append)
        failure: list[object] = []
        work.addErrback(lambda failed: failure.append(failed.value))
        if failure:
            assert isinstance(failure[0], Refused), failure
            raise failure[0]
        (body,) = done
        return body


@pytest.mark.parametrize(
    "plain",
    [b"", b"a=b", NOISE, bytes(TURN), bytes(MOST), b"x" * (TURN + 1), NOISE * 9],
    ids=["empty", "small", "noise", "a turn", "the limit", "more than a turn", "long noise"],
)
@pytest.mark.parametrize("level", [0, 6, 9])
def test_a_body_comes_out_as_it_went_in(plain: bytes, level: int) -> None:
    work = Work()
    assert work.inflate(gzip.compress(plain, level)) == plain
    assert sum(work.held) == len(plain)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_members_are_joined(parts: list[bytes]) -> None:
    """RFC 1952 section 2.2; a sender that flushes between two parts makes several."""
    assert Work().inflate(b"".join(gzip.compress(part) for part in parts)) == b"".join(parts)


def test_a_small_body_does_not_wait_for_the_reactor_and_a_large_one_does() -> None:
    """Small ones would be slow; a large one would hold up a scrape."""
    small, large = Work(), Work()
    small.inflate(gzip.compress(b"a=b\n" * 1000))
    large.inflate(gzip.compress(bytes(MOST)))
    assert small.pauses == 0 and large.pauses >= 3


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "it is cut off"),
        (b"a=b", "not gzip: "),
        (b'{"a": 1}' * 1000, "not gzip: "),
        (zlib.compress(b"a=b"), "not gzip: "),
        (gzip.compress(b"a=b", mtime=0)[:-1], "it is cut off"),
        (gzip.compress(b"a=b", mtime=0)[:5], "it is cut off"),
        (gzip.compress(NOISE, mtime=0)[: 2 * PORTION], "it is cut off"),
        (gzip.compress(b"a=b", mtime=0)[:-5] + b"12345", "not gzip: "),
        (gzip.compress(b"a=b", mtime=0) + b"more", "not gzip: "),
        (gzip.compress(b"", mtime=0) * (MAX_MEMBERS + 1), f"at most {MAX_MEMBERS} members"),
        (gzip.compress(b"", mtime=0) * 100_000, f"at most {MAX_MEMBERS} members"),
    ],
)
def test_what_is_not_gzip_is_refused(body: bytes, says: str) -> None:
    """The sender would not find the reason; or the daemon would work on an endless body."""
    with pytest.raises(Refused) as refused:
        Work().inflate(body)
    assert refused.value.status == 400 and says in refused.value.text
    assert refused.value.text.startswith("body with Content-Encoding gzip: ")


@pytest.mark.parametrize("padding", [1, 512, 2 * PORTION])
def test_zeros_behind_the_end_are_no_fault(padding: int) -> None:
    """Programs that write whole blocks add them, and gzip(1) ignores them."""
    assert Work().inflate(gzip.compress(b"a=b") + bytes(padding)) == b"a=b"


def test_a_bomb_is_inflated_no_further_than_the_limit() -> None:
    """A body of a few kilobytes would take all memory."""
    bomb = gzip.compress(bytes(64 * MOST))
    assert len(bomb) < MOST
    work = Work()
    with pytest.raises(Refused) as refused:
        work.inflate(bomb)
    assert (refused.value.status, refused.value.text) == (413, f"body: expected at most {MOST} bytes")
    assert sum(work.held) <= MOST


def test_the_next_member_of_a_bomb_counts_too() -> None:
    """Several would be as large as one."""
    with pytest.raises(Refused) as refused:
        Work().inflate(gzip.compress(bytes(MOST)) + gzip.compress(b"x"))
    assert refused.value.status == 413


def test_without_room_the_rest_is_not_inflated() -> None:
    """Several clients together would take all memory."""

    def no_room(size: int) -> None:
        raise Refused("no room", reason="busy", status=503)

    coroutine = inflated(gzip.compress(b"a=b"), most=MOST, hold=no_room, pause=Work().pause)
    with pytest.raises(Refused, match="no room"):
        coroutine.send(None)


def test_input_that_is_left_is_not_copied_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of 25 MB that hardly grows would be copied a hundred times."""
    given: list[int] = []

    class Counting:
        def __init__(self, bits: int) -> None:
            self._inner = zlib_decompressobj(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            given.append(len(data))
            return self._inner.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    zlib_decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    body = gzip.compress(NOISE * 20, 1)
    Work().inflate(body)
    assert max(given) <= PORTION and sum(given) < 2 * len(body) + PORTION

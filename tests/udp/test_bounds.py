"""How long the UDP reader may keep the reactor, whatever is sent."""

from __future__ import annotations

import pytest
from support.udp_bench import Bench

from oneshotd.udp.datagrams import Datagrams
from oneshotd.udp.reader import DRAIN_SECONDS, LINE_COST, TURN_BYTES


def test_a_turn_ends_after_so_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small datagrams full of short lines would hold up every scrape."""
    with Bench(buffer=1 << 20) as bench:
        bench.send(*[b"a=b\n" * 100] * 100)
        bench.reader.doRead()
        lines = bench.figure("udp_lines")
        assert lines is not None
        assert 0 < lines <= TURN_BYTES // LINE_COST + 100


def test_the_end_does_not_wait_for_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills the buffer before a restart does not decide how long it takes; and what is not
    looked into is counted."""
    received = Datagrams.received
    with Bench(buffer=1 << 20) as bench:

        def slowly(datagrams: Datagrams, data: bytes, host: str, port: int) -> None:
            bench.clock.advance(DRAIN_SECONDS / 2)
            received(datagrams, data, host, port)

        monkeypatch.setattr(Datagrams, "received", slowly)
        bench.send(*[b"type=a\ntype=b"] * 4, b"", b"\n\n", b"type=c\n")
        assert bench.reader.drain() == 7
        assert bench.offered.types() == ["a", "b", "a", "b"]
        assert bench.figure("udp_datagrams") == 7
        assert bench.figure("udp_lines") == 9
        assert bench.figure("refused", reason="busy") == 2 + 2 + 1 + 1 + 1

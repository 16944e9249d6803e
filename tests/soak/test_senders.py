"""What the campaigns send beside events is refused, each line for the reason that they expect."""

from __future__ import annotations

import pytest
from soak.senders import FOREIGN
from support.udp_bench import Bench


@pytest.mark.parametrize(("line", "reason"), FOREIGN.items())
def test_a_foreign_line_is_refused_between_events(line: str, reason: str) -> None:
    """A campaign would fail after minutes, or take an event of another tool for a fault of the daemon."""
    with Bench() as bench:
        bench.send(f"type=a\n{line}\ntype=b".encode())
        bench.reader.doRead()
        assert bench.offered.types() == ["a", "b"]
        assert bench.figure("refused", reason=reason) == 1

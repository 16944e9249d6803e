"""Log lines at a bounded rate."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from zope.interface import implementer

from oneshotd.logs.throttle import ThrottledLog


@implementer(ILogObserver)
class Lines:
    """A log observer that keeps (time, line)."""

    def __init__(self, text: str = "{count} {reason}") -> None:
        self.clock = Clock()
        self.lines: list[tuple[float, str]] = []
        self.throttled = ThrottledLog(self.clock, Logger(observer=self), text)

    def __call__(self, event: LogEvent) -> None:
        self.lines.append((self.clock.seconds(), formatEvent(event)))


def test_the_first_is_logged_at_once_and_the_rest_together_a_second_later() -> None:
    """A flood must not fill the disk, and its size must be in the log."""
    log = Lines()
    for _ in range(5):
        log.throttled.note("syntax")
    assert log.lines == [(0, "1 syntax")]
    log.clock.advance(1)
    assert log.lines == [(0, "1 syntax"), (1, "4 syntax")]


def test_the_last_count_is_logged_without_a_further_occurrence() -> None:
    log = Lines()
    log.throttled.note("syntax")
    log.throttled.note("syntax", 300)
    log.clock.pump([0.5, 0.5, 5])
    assert log.lines == [(0, "1 syntax"), (1, "300 syntax")]
    assert log.clock.getDelayedCalls() == []


def test_reasons_are_throttled_separately() -> None:
    log = Lines()
    log.throttled.note("syntax")
    log.throttled.note("value")
    assert log.lines == [(0, "1 syntax"), (0, "1 value")]


def test_after_an_interval_without_lines_the_next_is_logged_at_once() -> None:
    log = Lines()
    log.throttled.note("syntax")
    log.clock.advance(1)
    log.throttled.note("syntax")
    assert log.lines == [(0, "1 syntax"), (1, "1 syntax")]


def test_flush_writes_the_suppressed_counts() -> None:
    log = Lines()
    log.throttled.note("syntax")
    log.throttled.note("syntax")
    log.throttled.note("value")
    log.throttled.flush()
    assert log.lines == [(0, "1 syntax"), (0, "1 value"), (0, "1 syntax")]
    assert log.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café ☕", "café ☕"),
        ("a\nfake line", "a\\nfake line"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202egnp", "\\u202egnp"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_the_example_cannot_forge_lines_or_drive_a_terminal(text: str, shown: str) -> None:
    log = Lines("{count} {reason}: {text}")
    log.throttled.note("syntax", text=text)
    assert log.lines == [(0, f"1 syntax: {shown}")]


def test_one_example_is_shown_the_first_of_those_counted() -> None:
    log = Lines("{count} {reason} from {peer}")
    for peer in ("a", "b", "c"):
        log.throttled.note("syntax", peer=peer)
    log.clock.advance(1)
    assert [line for _, line in log.lines] == ["1 syntax from a", "2 syntax from b"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["syntax", "value"]), st.integers(1, 9), st.floats(0, 2, allow_subnormal=False)
        )
    )
)
def test_no_count_is_lost_and_no_second_has_two_lines_of_a_reason(
    notes: list[tuple[str, int, float]],
) -> None:
    log = Lines()
    for reason, n, pause in notes:
        log.throttled.note(reason, n)
        log.clock.advance(pause)
    log.clock.pump([1, 1])
    for reason in ("syntax", "value"):
        mine = [(at, int(line.split()[0])) for at, line in log.lines if line.endswith(reason)]
        assert sum(n for _, n in mine) == sum(n for which, n, _ in notes if which == reason)
        assert all(later - earlier > 0.999 for (earlier, _), (later, _) in pairwise(mine))

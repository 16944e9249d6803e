"""Patterns of names, in which ``*`` stands for any text; no other character is special."""

from __future__ import annotations

from collections.abc import Sequence


def matches(pattern: str, text: str) -> bool:
    """Return whether the whole text has the form of the pattern; in linear time for each ``*``."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == first
    *middle, last = rest
    end = len(text) - len(last)
    if end < len(first) or not text.startswith(first) or not text.endswith(last):
        return False
    at = len(first)
    for part in middle:  # the earliest place leaves the most to the parts behind it
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def matches_any(patterns: Sequence[str], text: str) -> bool:
    """Return whether the text has the form of one of the patterns."""
    # Most patterns are plain names, and a body may have 10,000 events.
    return text in patterns or any("*" in pattern and matches(pattern, text) for pattern in patterns)

"""Fit the details of an event into their limit: a sender cannot shorten its text, so the daemon does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oneshotd.core.events import detail_text
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES, PREFIX
from oneshotd.core.parsing.grammar import Pair, one_line_end

#: Stands where a text was cut.
CUT = "…"
#: Most bytes of a character as it is stored: a control character is written as an escape.
MAX_ESCAPE = 6


def fitted(details: Mapping[str, str], *, keep_end: Iterable[str] = ()) -> list[Pair]:
    """Return details as pairs for the grammar; the longest of them are cut until all fit.

    :param details: name without ``detail.`` -> text; an empty text is left out.
    :param keep_end: names of texts that lose their beginning, not their end: the output of a job says
        at its end why it has failed.
    """
    ends = frozenset(keep_end)
    texts = {name: one_line_end(text) for name, text in details.items() if text}
    room = MAX_DETAIL_BYTES - len(detail_text(dict.fromkeys(texts, "")).encode())
    if MAX_ESCAPE * sum(map(len, texts.values())) <= room:  # nearly always, and quickly seen
        return [(f"{PREFIX}{name}", text) for name, text in texts.items()]
    left = len(texts)
    for name in sorted(
        texts, key=lambda name: _written(texts[name])
    ):  # what a short one leaves is for longer ones
        if _written(texts[name]) > room // left:
            texts[name] = _cut(texts[name], room // left, from_end=name in ends)
        room -= _written(texts[name])
        left -= 1
    return [(f"{PREFIX}{name}", text) for name, text in texts.items() if text]


def _cut(text: str, most: int, *, from_end: bool) -> str:
    """Return as much of the text as fits into bytes, with the mark of a cut."""
    most -= len(CUT.encode())
    low, high = 0, len(text)
    while low < high:  # the greatest number of characters that fit
        middle = (low + high + 1) // 2
        part = text[-middle:] if from_end else text[:middle]
        low, high = (middle, high) if _written(part) <= most else (low, middle - 1)
    if not low:
        return ""
    return CUT + text[-low:] if from_end else text[:low] + CUT


def _written(text: str) -> int:
    """Return the bytes of a text as it is stored, with its escapes."""
    return len(detail_text({"": text}).encode()) - len('{"":""}')

"""Make the event of a preset within the daemon's limits.

A tool cannot shorten what it sends, and it would send what is refused again and again, or drop it. So a
preset cuts texts that are too long, and leaves out labels beyond the number that the daemon takes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.grammar import MAX_NAME_BYTES, Pair, Rules, event
from oneshotd.ingest.dialects.details import CUT, fitted

#: Details of an event; annotations of an alert can be many.
MAX_DETAILS = 24
#: Characters of a detail that are looked at: more never fit.
MAX_DETAIL_CHARACTERS = 4096

#: Names that mean something to the grammar.
_RESERVED = ("value",)
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")


def make_event(
    labels: Iterable[tuple[str, str]],
    details: Iterable[tuple[str, str]],
    *,
    rules: Rules,
    key: str | None,
    value: str | None = None,
) -> NewEvent:
    """Return an event.

    :param labels: legal names, each once, the most important first; empty texts are left out.
    :param details: names without ``detail.``, in the same order; of one name the first is taken.
    :param value: None: one occurrence.
    :raises Refused: the value is no number.
    """
    pairs: list[Pair] = [(name, cut(text, rules.max_value)) for name, text in labels if text]
    texts: dict[str, str] = {}
    for name, text in details:
        if text and len(texts) < MAX_DETAILS:
            texts.setdefault(name, text[:MAX_DETAIL_CHARACTERS])
    pairs = [*pairs[: rules.max_labels], *fitted(texts)]
    if value is not None:
        pairs.append(("value", value))
    return event(pairs, rules)._replace(key=key)


def cut(text: str, most: int) -> str:
    """Return as much of the text as fits into this number of bytes, with the mark of a cut."""
    data = text[: most + 1].encode()  # a character has at least one byte
    if len(data) <= most:
        return text
    mark = CUT if most > 16 else ""
    return data[: most - len(mark.encode())].decode(errors="ignore") + mark


def named(texts: Mapping[str, str], *, prefix: str, taken: Collection[str]) -> list[tuple[str, str]]:
    """Return texts under legal names, sorted by name; of several that become one name the first is taken.

    :param texts: by the names of the sender.
    :param prefix: stands before a name that is taken.
    """
    found: dict[str, str] = {}
    for name, text in sorted(texts.items()):
        legal = _legal(name)
        if legal in taken or legal in _RESERVED:
            legal = f"{prefix}{legal}"
        if legal and len(legal) <= MAX_NAME_BYTES and legal not in taken:
            found.setdefault(legal, text)
    return list(found.items())


def _legal(name: str) -> str:
    legal = _ILLEGAL.sub("_", name)
    if legal[:1].isdigit():
        return f"_{legal}"
    return legal.lstrip("_") if legal.startswith("__") else legal

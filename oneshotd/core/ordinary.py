"""A short way for the lines that tools send all day; the grammar itself is `grammar.py`.

Nearly every line has the same few labels as the one before, and values with nothing in them to
decode or to escape. The series text of such a line is its values put into a template, which
the grammar makes once for each sequence of names. What `Ordinary` answers is what the grammar
would have answered; all else it leaves to the grammar.
"""

from __future__ import annotations

from oneshotd.core.event import labels_of, metric_of, series_text
from oneshotd.core.grammar import MAX_VALUE_BYTES, Rules, event
from oneshotd.errors import Refused

#: Sequences of names whose template is kept, at most; clients may invent them.
MAX_TEMPLATES = 1024

# ASCII that stands for itself in the query-string form, and needs no escape in a series text.
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'%+\\"')


class Ordinary:
    """Knows the plain lines for certain."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._templates: dict[tuple[str, ...], str | None] = {}

    def series(self, line: bytes) -> str | None:
        """The series text of a plain line of labels; None where the grammar is to judge."""
        if len(line) > MAX_VALUE_BYTES or line.translate(None, _PLAIN):
            return None
        pairs = line.decode("ascii").split("&")
        try:
            labels = dict([pair.split("=", 1) for pair in pairs])
        except ValueError:  # a pair without "="
            return None
        names = tuple(labels)
        template = self._templates[names] if names in self._templates else self._learn(names)
        if template is None or len(labels) < len(pairs) or "" in labels.values():
            return None
        return template % labels

    def _learn(self, names: tuple[str, ...]) -> str | None:
        if len(self._templates) >= MAX_TEMPLATES:
            self._templates.clear()
        template = self._templates[names] = self._template(names)
        return template

    def _template(self, names: tuple[str, ...]) -> str | None:
        """None where a name is reserved, refused or written in another way."""
        try:
            made = event([(name, "x") for name in names], self._rules)
        except Refused:
            return None
        if made.value is not None or made.key is not None or labels_of(made.series).keys() != set(names):
            return None
        return series_text(metric_of(made.series), [(name, f"%({name})s") for name in names])

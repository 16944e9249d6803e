"""A short way for the lines that tools send all day; the grammar itself is `grammar.py`.

Nearly every line has the same few labels as the one before, and values with nothing in them to
decode or to escape. The series text of such a line is its values put into a template, which
the grammar makes once for each sequence of names. What `Ordinary` answers is what the grammar
would have answered; all else it leaves to the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from oneshotd.core.event import NewEvent, labels_of, metric_of, series_text
from oneshotd.core.grammar import MAX_VALUE_BYTES, Rules, event
from oneshotd.errors import Refused

#: Sequences of names whose shape is kept, at most; clients may invent them.
MAX_SHAPES = 1024

#: Labels of a line that is looked at; a sequence of more names is not worth remembering.
MAX_NAMES = 32

#: Lines after which a shape gets an expression. To compile one takes as long as a hundred lines.
OFTEN = 100

#: A value in ASCII that stands for itself in the query-string form, and needs no escape in a series text.
_VALUE = rb"([ !#$'-*,-\[\]-~]+)"
_ODD = bytes(byte for byte in range(256) if not re.fullmatch(_VALUE, bytes([byte])) and byte != 0x26)

_PLACE = re.compile(r"%\((\w+)\)s")


class _Shape:
    """Lines with the same names in the same order.

    :param template: of their series text, with a place for each value.
    :ivar match: gives the match of a whole plain line; None until there were many.
    """

    def __init__(self, names: tuple[str, ...], template: str) -> None:
        self.match: Callable[[bytes], re.Match[bytes] | None] | None = None
        self._names = names
        self._text = _PLACE.sub("%b", template).encode()
        self._places = [names.index(name) + 1 for name in _PLACE.findall(template)]
        self._lines = 0

    def series(self, found: re.Match[bytes]) -> str:
        """The series text of the line that matched."""
        return (self._text % found.group(*self._places)).decode("ascii")

    def series_of(self, line: bytes) -> str | None:
        """The series text of a line with these names; None if it is not plain."""
        self._lines += 1
        if self._lines == OFTEN:
            pairs = b"&".join(name.encode() + b"=" + _VALUE for name in self._names)
            self.match = re.compile(pairs).fullmatch
        values = [pair.partition(b"=")[2] for pair in line.split(b"&")]
        if b"" in values or len(line.translate(None, _ODD)) < len(line):
            return None
        return (self._text % tuple(values[place - 1] for place in self._places)).decode("ascii")


class Ordinary:
    """Knows the plain lines for certain."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        self._last: _Shape | None = None

    def series(self, line: bytes) -> str | None:
        """The series text of a plain line of labels; None where the grammar is to judge."""
        if len(line) > MAX_VALUE_BYTES:
            return None
        shape = self._last
        if shape is not None and shape.match is not None:
            found = shape.match(line)
            if found is not None:
                return shape.series(found)
        shape = self._shape_of(line)
        if shape is None:
            return None
        self._last = shape
        return shape.series_of(line)

    def all(self, lines: Sequence[bytes]) -> list[NewEvent] | None:
        """The events of plain lines; None where the grammar is to judge one of them."""
        events = []
        for line in lines:
            series = self.series(line)
            if series is None:
                return None
            events.append(NewEvent(series))
        return events

    def _shape_of(self, line: bytes) -> _Shape | None:
        """The shape of lines with the names of this one."""
        if line.count(b"&") >= MAX_NAMES:
            return None
        names = tuple(pair.partition("=")[0] for pair in line.decode("latin-1").split("&"))
        if names in self._shapes:
            return self._shapes[names]
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        shape = self._shapes[names] = self._learn(names)
        return shape

    def _learn(self, names: tuple[str, ...]) -> _Shape | None:
        """None where a name is reserved, refused, doubled or written in another way."""
        try:
            made = event([(name, "x") for name in names], self._rules)
        except Refused:
            return None
        labels = labels_of(made.series)
        if made.value is not None or made.key is not None or sorted(labels) != sorted(names):
            return None
        return _Shape(names, series_text(metric_of(made.series), [(name, f"%({name})s") for name in names]))

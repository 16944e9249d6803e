"""A fast parser for plain lines; the grammar itself is `grammar.py`.

Nearly every line has the same few labels as the one before, and values with nothing in them to
decode or to escape. The series text of such a line is a template filled with its values; the
grammar makes the template once for each sequence of names. `TemplateParser` returns the result of
the grammar, or None if the grammar has to parse the line.
"""

from __future__ import annotations

import re
from operator import itemgetter

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import labels_of, metric_of, series_text
from oneshotd.core.parsing.grammar import MAX_VALUE_BYTES, Rules, event
from oneshotd.errors import Refused

#: Sequences of names whose shape is kept, at most; clients may invent them.
MAX_SHAPES = 1024

#: Labels of a line that is looked at; a sequence of more names is not worth remembering.
MAX_NAMES = 32

#: Lines after which a shape gets an expression. To compile one takes as long as a hundred lines.
OFTEN = 100

#: A value in ASCII that stands for itself in the query-string form, and needs no escape in a series text.
_VALUE = r"([ !#$'-*,-\[\]-~]{1,%d}+)"
_ODD = bytes(byte for byte in range(256) if not re.fullmatch(_VALUE % 1, chr(byte)) and byte != 0x26)

_PLACE = re.compile(r"%\((\w+)\)s")


class _Shape:
    """Lines with the same names in the same order.

    :param template: of their series text, with a place for each value.
    :param max_value: bytes of a value.
    :ivar lines: matches plain lines, each whole; None until there were many.
    """

    def __init__(self, names: tuple[str, ...], template: str, max_value: int) -> None:
        self._max_value = max_value
        self.lines: re.Pattern[str] | None = None
        self._names = names
        self._text = _PLACE.sub("%s", template)
        self._places = [names.index(name) for name in _PLACE.findall(template)]
        # None where the values come in the order of their places.
        self._sorted = None if self._places == sorted(self._places) else itemgetter(*self._places)
        self._seen = 0

    def parse_line(self, line: bytes) -> str | None:
        """The series text of a line with these names; None if it is not plain."""
        self._seen += 1
        if self._seen == OFTEN:
            value = _VALUE % self._max_value
            pairs = "&".join(f"{name}={value}" for name in self._names)
            self.lines = re.compile(f"^{pairs}$", re.MULTILINE)
        values = [pair.partition(b"=")[2] for pair in line.split(b"&")]
        if b"" in values or len(line.translate(None, _ODD)) < len(line):
            return None
        if len(line) > self._max_value and max(map(len, values)) > self._max_value:
            return None
        return self._text % tuple(values[place].decode("ascii") for place in self._places)

    def match_lines(self, text: str) -> list[str] | None:
        """The series texts of lines with these names; None if one has others, or is not plain."""
        found = [] if self.lines is None else self.lines.findall(text)
        if len(found) != text.count("\n") + 1:
            return None
        return list(map(self._text.__mod__, map(self._sorted, found) if self._sorted else found))

    def match_line(self, line: str) -> str | None:
        """Return the series text of one line, as `match_lines` does for several."""
        found = None if self.lines is None else self.lines.fullmatch(line)
        if found is None:
            return None
        return self._text % (self._sorted(found.groups()) if self._sorted else found.groups())


class TemplateParser:
    """Parses plain lines with the templates of earlier lines; state for one set of rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        self._last: _Shape | None = None

    def parse_line(self, line: bytes) -> str | None:
        """Return the series text of a plain line; None if the grammar has to parse it."""
        if len(line) > MAX_VALUE_BYTES:
            return None
        found = None if self._last is None else self._last.match_line(line.decode("latin-1"))
        return self._other(line) if found is None else found

    def parse_lines(self, text: bytes) -> SeriesBatch | None:
        """Return the events of plain lines; None if the grammar has to parse one of them.

        :param text: with a line end between two lines, and nowhere else.
        """
        uniform = self.parse_uniform(text)
        if uniform is not None:
            return uniform
        found = []
        for line in text.split(b"\n"):
            series = self.parse_line(line)
            if series is None:
                return None
            found.append(series)
        return SeriesBatch(found)

    def parse_uniform(self, text: bytes) -> SeriesBatch | None:
        """Return the events of plain lines that all have the last line's names; else None, at little cost."""
        found = None if self._last is None else self._last.match_lines(text.decode("latin-1"))
        return None if found is None else SeriesBatch(found)

    def _other(self, line: bytes) -> str | None:
        shape = self._shape_of(line)
        if shape is None:
            return None
        self._last = shape
        return shape.parse_line(line)

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
        template = series_text(metric_of(made.series), [(name, f"%({name})s") for name in names])
        return _Shape(names, template, self._rules.max_value)

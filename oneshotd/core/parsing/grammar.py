r"""The grammar of an event: pairs of name and text, decoded from any form, -> `NewEvent`.

1. ``value``, ``__name__``, ``__id__`` and names that begin with ``detail.`` are reserved; every other pair
   is a label.
2. A label's name is made legal (`label_name`) if it has no characters but those that names are
   written with (`names.py`); it may be given once, in any spelling.
3. A label's value is any UTF-8 text, with ``\n`` for every line end (`one_line_end`); an empty
   one is the same as no label.
4. A detail is named by what follows ``detail.``, as it is written, in the characters of a label's name; its
   text is treated as a label's value (`details.py`).
5. What cannot be taken is `Refused` with one line of text: what, where and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NoReturn

from attrs import Attribute, field, frozen, validators

from oneshotd.core.events import NewEvent, series_text
from oneshotd.core.parsing import details as of_details
from oneshotd.core.parsing.names import ALLOWED, MAX_NAME_BYTES, foreign_character
from oneshotd.core.parsing.numbers import canonical
from oneshotd.core.text import MAX_QUOTED, quoted
from oneshotd.errors import Refused

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_LABELS",
    "MAX_NAME_BYTES",
    "MAX_QUOTED",
    "MAX_VALUE_BYTES",
    "Pair",
    "Rules",
    "checked_key",
    "event",
    "label_name",
    "quoted",
]

#: Labels of an event, empty ones included. OpenTelemetry takes 128 attributes; Mimir and
#: VictoriaMetrics take 30 to 40 labels of a series unless told otherwise.
MAX_LABELS = 64
#: Bytes of a label's value in UTF-8. VictoriaMetrics takes 4 KiB, Mimir 2048.
MAX_VALUE_BYTES = 4096
#: Bytes of an idempotency key in UTF-8. A UUID has 36, Stripe takes 255.
MAX_KEY_BYTES = 128
#: Keys that the daemon makes for the events of other formats begin so; no client may send such a key.
OWN_KEYS = "oneshotd:"

#: A name and its text; None (a JSON null) gives nothing, but no other may have that name.
Pair = tuple[str, str | None]

_RESERVED = frozenset(("value", "__name__", "__id__"))
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# Names that Prometheus makes up itself beside what it scrapes, and our own.
_TAKEN = re.compile(r"up|(?:oneshotd_|scrape_|ALERTS).*")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")
# Line ends of Unicode (UAX 14 and what Python's splitlines takes): CR LF, CR, VT, FF, FS, GS, RS,
# NEL, LS, PS.
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def _legal_metric(rules: Rules, attribute: Attribute[str], name: str) -> None:
    if fault := rules.fault(name):
        raise ValueError(f"{attribute.name}: expected a metric name that is free, {name!r} {fault}")


@frozen(kw_only=True)
class Rules:
    """The daemon's limits and names beyond the grammar.

    :param taken: metric names that events may not have: the families of the daemon's own
        registry, in all their forms (``_total``, ``_bucket`` …).
    :param metric: the name of an event without ``__name__``.
    :param max_labels: of an event (``--max-labels``), at most `MAX_LABELS`.
    :param max_value: bytes of a label's value (``--max-label-value``), at most `MAX_VALUE_BYTES`.
    :raises ValueError: where `metric` is not a name that an event may have, or a bound is none.
    """

    taken: frozenset[str] = frozenset()
    metric: str = field(default="events_to_metrics", validator=_legal_metric)
    max_labels: int = field(default=MAX_LABELS, validator=[validators.ge(1), validators.le(MAX_LABELS)])
    max_value: int = field(
        default=MAX_VALUE_BYTES, validator=[validators.ge(1), validators.le(MAX_VALUE_BYTES)]
    )

    def fault(self, name: str) -> str | None:
        """Return why events may not have this metric name; None if they may."""
        if not _METRIC_NAME.fullmatch(name):
            return "is not of the form [a-zA-Z_:][a-zA-Z0-9_:]*"
        if len(name) > MAX_NAME_BYTES:
            return f"is longer than {MAX_NAME_BYTES} bytes"
        if name in self.taken or _TAKEN.fullmatch(name):
            return "is taken"
        return None


def event(pairs: Iterable[Pair], rules: Rules) -> NewEvent:
    """Return the event of these pairs.

    :raises Refused: the text says what and why; also raised by iterating over `pairs`.
    """
    labels: dict[str, str] = {}
    reserved: dict[str, str | None] = {}
    respelled: dict[str, str] = {}  # label name -> as the client wrote it, where that differs
    details: of_details.Details | None = None
    for name, text in pairs:
        if name in _RESERVED:
            if name in reserved:
                raise Refused(f"{name} is given twice", reason="label")
            reserved[name] = text
            continue
        label = label_name(name)
        if label != name and name.startswith(of_details.PREFIX):
            details = details or of_details.Details()
            details.take(name, one_line_end(text or ""))
            continue
        if label in labels:
            _refuse_second(name, respelled.get(label, label), label)
        if label != name:
            respelled[label] = name
        if text and not text.isprintable():  # no line end is printable
            text = one_line_end(text)
        if text and len(text) > rules.max_value // 4:  # a character has at most 4 bytes
            _check_text(name, text, rules.max_value)
        if len(labels) == rules.max_labels:
            option = " (max-labels)" if rules.max_labels < MAX_LABELS else ""
            raise Refused(f"there are more than {rules.max_labels} labels{option}", reason="limit")
        labels[label] = text or ""
    detail = "" if details is None else details.text()
    if not reserved:
        if not labels and details is None:
            raise Refused("there is no event in it", reason="empty")
        return NewEvent(series_text(rules.metric, labels.items()), None, None, detail)
    metric = reserved.get("__name__")
    name = rules.metric if metric is None else _metric_name(metric, rules)
    value = reserved.get("value")
    key = reserved.get("__id__")
    return NewEvent(
        series_text(name, labels.items()),
        None if value is None else _sample_value(value),
        None if key is None else checked_key("__id__", key),
        detail,
    )


def one_line_end(text: str) -> str:
    r"""Replace every line end of Unicode by ``\n``, a CR LF by one.

    ``\n`` is the only one that the exposition formats escape. A scraper that splits a response at
    the others finds lines that it cannot parse, and discards the whole response.
    """
    return _LINE_END.sub("\n", text)


@lru_cache(maxsize=4096)  # tools use few names, again and again; what is refused is not kept
def label_name(name: str) -> str:
    """Return a label's name in the characters that every version of every scraper accepts.

    Letters and digits of other scripts and ``- . / :`` become ``_``, and a digit in front gets
    one before it.

    :raises Refused: empty, too long, beginning with ``__``, or with other characters in it.
    """
    if not name:
        raise Refused("a label's name is empty", reason="label")
    foreign = foreign_character(name)
    if foreign is not None:
        text = f"label {quoted(name)}: {quoted(foreign)} is none of {ALLOWED}"
        raise Refused(text, reason="label")
    label = _ILLEGAL.sub("_", name)
    if label[0].isdigit():
        label = "_" + label
    if label.startswith("__"):
        spelled = "" if label == name else f" (written {quoted(label)})"
        why = "names that start with __ are reserved"
        raise Refused(f"label {quoted(name)}{spelled}: {why}", reason="label")
    if len(label) > MAX_NAME_BYTES:
        why = f"the name is longer than {MAX_NAME_BYTES} bytes"
        raise Refused(f"label {quoted(name)}: {why}", reason="limit")
    return label


def _refuse_second(name: str, first: str, label: str) -> NoReturn:
    if name == first:
        raise Refused(f"label {quoted(name)} is given twice", reason="label")
    both = f"{quoted(first)} and {quoted(name)}"
    raise Refused(f"labels {both} are both written {quoted(label)}", reason="label")


def _metric_name(name: str, rules: Rules) -> str:
    if fault := rules.fault(name):
        raise Refused(f"__name__: {quoted(name)} {fault}", reason="name")
    return name


def _sample_value(text: str) -> str:
    try:
        return canonical(text)
    except ValueError as error:
        raise Refused(f"value: {quoted(text)} {error}", reason="value") from None


def checked_key(source: str, text: str) -> str:
    """Return an idempotency key unchanged if it is valid.

    :param source: the key's field or header, for the refusal.
    :raises Refused: it is empty or too long, or may be a key that the daemon itself makes.
    """
    if not text:
        raise Refused(f"{source} is empty", reason="key")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise Refused(f"{source}: {quoted(text)} is longer than {MAX_KEY_BYTES} bytes", reason="key")
    if text.startswith(OWN_KEYS):
        raise Refused(f"{source}: {quoted(text)} begins with {OWN_KEYS}, which is reserved", reason="key")
    return text


def _check_text(name: str, text: str, most: int) -> None:
    if len(text.encode()) > most:
        option = " (max-label-value)" if most < MAX_VALUE_BYTES else ""
        why = f"the value is longer than {most} bytes{option}"
        raise Refused(f"label {quoted(name)}: {why}", reason="limit")

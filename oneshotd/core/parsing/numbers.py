"""Parse sample values and durations, for the daemon and for the emitter.

The grammar of sample values is what both Go's ``strconv.ParseFloat`` and Prometheus' text parser
accept: a value that the daemon stores and a scraper rejects would cost the scraper the whole
response. So there are no underscores and no hexadecimal floats (Prometheus' ``parseFloat`` refuses
the characters ``p`` and ``_``), and no sign before NaN (Go refuses it).
"""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(
    r"(?P<finite>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)|[+-]?inf(?:inity)?|nan",
    # ASCII, or the i of "inf" would match a Turkish dotless one.
    re.ASCII | re.IGNORECASE,
)
_FORGOTTEN_PLUS = re.compile(r"([eE]) ")
_BLANKS = " \t\r\n"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)


def canonical(text: str) -> str:
    """Return the number in the one spelling in which it is stored, compared and exposed.

    Blanks around the number are dropped: ``wc -l`` writes them, and in a query string an unescaped
    ``+`` is one. For the same reason a space in front of an exponent is its plus.

    :return: the shortest decimal form that reads back as the same float64; whole numbers without
        ``.0``, minus zero as ``-0``, the others as ``NaN``, ``+Inf``, ``-Inf``.
    :raises ValueError: the text says why ("is not a number"), without quoting the number.
    """
    text = text.strip(_BLANKS)
    if " " in text:
        text = _FORGOTTEN_PLUS.sub(r"\1+", text)
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError("is not a number")
    number = float(text)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        if found["finite"]:  # Go: ErrRange. Underflow to zero is no error there, nor here.
            raise ValueError("is beyond the range of a 64-bit float")
        return "+Inf" if number > 0 else "-Inf"
    return repr(number).removesuffix(".0")


def duration(text: str, *, zero: bool = False) -> float:
    """Return the seconds of ``500ms``, ``90s``, ``5m``, ``1.5h`` or ``1d``.

    :param zero: accept a duration of zero.
    :raises ValueError: "expected …, got …"; a number without a unit is refused, too.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else -1.0
    if seconds < 0 or not (seconds or zero):
        raise ValueError(f"expected a duration such as 500ms, 90s, 5m, 1h or 1d, got {text!r}")
    return seconds

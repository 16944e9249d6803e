"""Content negotiation (RFC 9110, 12.5): parse Accept headers, choose the format and compression.

If a header cannot be parsed or names no format of ours, the response is text 0.0.4 without gzip, which
every scraper reads. A scraper discards a response with another Content-Type, and a 406.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum

from attrs import field, frozen

from oneshotd.core.exposition import CONTENT_TYPE_OPENMETRICS, CONTENT_TYPE_TEXT

#: Characters of a header that is looked at; a longer one is ignored. Prometheus' Accept has
#: 308 at most, browsers' have less.
MAX_HEADER = 2000

# An element of a list; a quoted string may hold the comma and the semicolon, and one
# without a closing quote reaches to the end of the header.
_QUOTED = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
_ELEMENT = re.compile(rf'(?:[^,"]|{_QUOTED})+', re.DOTALL)
_PARAMETER = re.compile(rf'(?:[^;"]|{_QUOTED})+', re.DOTALL)
# A little more than a qvalue of RFC 9110 (12.4.2): Java's own client says `q=.2`.
_WEIGHT = re.compile(r"0?\.[0-9]{1,9}|0\.?|1(?:\.0{0,9})?")


class Format(Enum):
    """An exposition format; the value is its Content-Type."""

    TEXT = CONTENT_TYPE_TEXT
    OPENMETRICS = CONTENT_TYPE_OPENMETRICS

    @property
    def content_type(self) -> str:
        """The Content-Type header, version included."""
        return self.value


@frozen(kw_only=True)
class _Range:
    """An element of a list: a media range or a coding, its parameters and its weight."""

    name: str
    parameters: Mapping[str, str] = field(factory=dict)
    weight: float = 1.0


@frozen(kw_only=True)
class _Offer:
    """A format as media ranges can name it.

    :param parameters: what a range may ask for beside the name; None stands for anything.
    """

    format: Format
    name: str
    parameters: Mapping[str, str | None]


# Names of other characters than [a-zA-Z0-9_:] do not occur here, so each way of escaping them is
# as good as another. (Prometheus 3.0 to 3.3 asks for one in every version of the text formats.)
_OFFERS = (
    _Offer(
        format=Format.TEXT,
        name="text/plain",
        parameters={"version": "0.0.4", "charset": "utf-8", "escaping": None},
    ),
    _Offer(
        format=Format.OPENMETRICS,
        name="application/openmetrics-text",
        parameters={"version": "1.0.0", "charset": "utf-8", "escaping": None},
    ),
)


def choose_format(accept: str | None) -> Format:
    """Return the format of the highest weight; text 0.0.4 if the weights are equal or zero.

    A format's weight is that of the most specific range that matches it (RFC 9110, 12.5.1). A
    range with a parameter that is not spoken here (another version, say) matches nothing.

    :param accept: the Accept headers, joined by commas; None or empty where there is none.
    """
    ranges = list(_elements(accept))
    weights = {offer.format: _weight(offer, ranges) for offer in _OFFERS}
    return max(weights, key=lambda format: weights[format])  # the first of equals


def _weight(offer: _Offer, ranges: list[_Range]) -> float:
    best = ((-1, -1), 0.0)
    wildcards = ("*/*", offer.name.partition("/")[0] + "/*", offer.name)
    for asked in ranges:
        if asked.name in wildcards and all(
            name in offer.parameters and offer.parameters[name] in (None, text)
            for name, text in asked.parameters.items()
        ):
            specific = (wildcards.index(asked.name), len(asked.parameters))
            best = max(best, (specific, asked.weight))
    return best[1]


def names_type(accept: str | None, media: str) -> bool:
    """Return whether the header names this media type, with a weight above 0.

    Wildcards do not count: ``*/*`` is sent by every client that has no preference.

    :param accept: the Accept headers, joined by commas; None or empty where there is none.
    :param media: a media type in lower case, without parameters.
    """
    return any(asked.name == media and asked.weight > 0 for asked in _elements(accept))


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether gzip has a weight above 0 and at least that of identity.

    :param accept_encoding: the Accept-Encoding headers, joined by commas; without one
        the client gets no gzip.
    """
    weights = {coding.name.removeprefix("x-"): coding.weight for coding in _elements(accept_encoding)}
    others = weights.get("*", 0.0)
    gzip = weights.get("gzip", others)
    return gzip > 0 and gzip >= weights.get("identity", others)


def _elements(header: str | None) -> Iterator[_Range]:
    """The elements of a header, names and values in lower case; invalid elements are skipped."""
    if header is None or len(header) > MAX_HEADER:
        return
    for element in _ELEMENT.findall(header.lower()):
        name, *texts = (text.strip() for text in _PARAMETER.findall(element) or [""])
        parameters: dict[str, str] = {}
        weight = "1"
        for text in texts:
            key, _, given = (part.strip() for part in text.partition("="))
            if key == "q":
                weight = given
                break  # nothing behind it belongs to the range
            if key:
                parameters[key] = given.strip('"')
        if _WEIGHT.fullmatch(weight):
            yield _Range(name=name, parameters=parameters, weight=float(weight))

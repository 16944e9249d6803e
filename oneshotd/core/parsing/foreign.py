"""Recognise other formats that are sent to this port by mistake, to name them in the refusal.

Only lines that the grammar has refused are tested, so a line is never refused by these patterns.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

from oneshotd.errors import Refused

#: Bytes of a line that are tested.
MAX_LOOKED_AT = 512

#: Where the formats and their remedies are described.
SEE = "see docs/emitting.md"

#: The members of an event of Graphite.
_GRAPHITE = frozenset(("what", "tags", "when", "data"))

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_UTF16_ASCII = re.compile(rb"\0?(?:[^\0]\0){3}|\0[^\0]\0[^\0]", re.DOTALL)

_GRAPHITE_EVENT = rb'\s*\{(?=.*"what"\s*:)(?=.*"(?:tags|when|data)"\s*:)'

# The first pattern that matches names the format, so the special ones come before the general ones.
_FORMATS: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (what, re.compile(pattern, re.DOTALL))
    for what, pattern in (
        ("syslog", rb"<[0-9]{1,3}>"),  # RFC 3164, RFC 5424
        ("a DogStatsD event or service check", rb"_e\{[0-9]+,[0-9]+\}:|_sc\|"),
        ("a DogStatsD metric", rb"[^\s|]+:[^|]*\|[a-z]{1,2}\|(?:[^#]*\|)?#"),
        ("StatsD", rb"[^\s|]+:[-+0-9.:eE]+\|(?:ms|[a-z])(?:\||$|\s)|[^\s|]+:[^|\s]*\|s(?:\||$|\s)"),
        ("a shell command", rb"\s*(?:export|set|setenv|declare|local|readonly|env)\s|\s*\$"),
        ("an HTTP request", rb"[A-Z]{3,7} \S+ HTTP/"),
        ("a URL", rb"(?:https?://|/)[^\s?=]*\?"),
        ("an event of Graphite, for POST /events/", _GRAPHITE_EVENT),
        ("JSON", rb"\s*[\[{]\s*(?:[\"{\[\]}]|$)"),
        ("the Prometheus text format", rb"# (?:HELP|TYPE|UNIT|EOF)|[a-zA-Z_:][\w:]*\{[^}]*\} *[-+.0-9NI]"),
        ("Graphite", rb"[^\s=]+(?:;[^\s=;]+=[^\s;]+)* [-+.0-9e]+ -?[0-9]{1,10}(?:\s|$)"),
        ("Influx line protocol", rb"[^\s=,]+(?:,(?:[^\s=]|\\ )+=(?:[^\s]|\\ )+)* [^\s=]+=\S"),
    )
)


def is_utf16(text: bytes) -> bool:
    """Whether the text seems to be UTF-16, by its byte order mark or as every second byte is zero."""
    start = text[:MAX_LOOKED_AT]
    return start.startswith(_UTF16_MARKS) or bool(_UTF16_ASCII.match(start))


def likeness(line: bytes) -> str | None:
    """Return the name of the format that the line seems to have, or None."""
    if is_utf16(line):
        return "UTF-16"
    start = line[:MAX_LOOKED_AT]
    for what, pattern in _FORMATS:
        if pattern.match(start):
            return what
    return None


def check_graphite(members: Mapping[str, object]) -> None:
    """Check that a JSON object is not an event of Graphite, which would become labels here.

    :raises Refused: it has `what`, and nothing that Graphite's events do not have.
    """
    if "what" in members and (members.keys() <= _GRAPHITE or isinstance(members.get("tags"), list)):
        text = "this is an event of Graphite: send it to /events/ with the slash at its end"
        raise Refused(f"{text} ({SEE})", reason="syntax")


def explained(refused: Refused, *texts: bytes) -> Refused:
    """Return the refusal, with the format's name where one of the texts has another format.

    :param texts: what was refused: a line, or the query and the body.
    """
    if refused.reason in ("label", "syntax", "encoding"):
        for text in texts:
            if what := likeness(text):
                hint = f"{refused.text} (this looks like {what}; {SEE})"
                return Refused(hint, reason=refused.reason, status=refused.status)
    return refused

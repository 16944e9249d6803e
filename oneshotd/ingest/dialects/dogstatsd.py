r"""DogStatsD's events and service checks, in datagrams; its metrics are refused, as other lines are.

======================================================  ==========================
``_e{TITLE BYTES,TEXT BYTES}:TITLE|TEXT|FIELD|FIELD…``  an event
``_sc|NAME|STATUS|FIELD|FIELD…``                        a service check
======================================================  ==========================

Messages are separated by line ends, and lines of our own may stand between them. The text of an event ends
where its length says, also if it has line ends in it. The sender of a datagram never learns that a message
was refused, so an odd but harmless field, such as an unknown one, is no reason to refuse the message.

The format: https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.formats import MAX_DATAGRAM_LINES, line_count
from oneshotd.core.parsing.grammar import Pair, Rules, event, quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.details import fitted
from oneshotd.ingest.dialects.times import rfc3339_of_ms

#: Parses the lines of our own: their events, and the refusals of the others.
ParseLines = Callable[[bytes], tuple[Sequence[NewEvent], list[Refused]]]

#: The labels of an event that a tag cannot set: the tag becomes ``tag_NAME``.
EVENT_LABELS = ("type", "title", "alert_type", "priority", "source_type")
#: The same of a service check.
CHECK_LABELS = ("type", "check", "status")

#: The text of a service check's status, by its number.
STATUSES = ("ok", "warning", "critical", "unknown")

#: Tags that the client adds for the agent, to find out the container that it runs in.
INTERNAL_TAGS = "dd.internal."

#: Tags of a message; a label may have the values of several.
MAX_TAGS = 256

#: Characters of a tag's name that become a label's name; Datadog cuts a tag at 200.
MAX_TAG = 120

#: Characters of a text, and of a time, that are looked at; more of a text has no room in the details.
MAX_TEXT, MAX_TIME = 4096, 40

#: Characters of all details that fit whatever they are: each takes 6 bytes at most.
SHORT = 600

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\0"
_BEGINNING = re.compile(rb"^(?:_e\{|_sc\|)", re.MULTILINE)
_HEADER = re.compile(rb"_e\{([0-9]{1,6}),([0-9]{1,6})\}:")
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")


@frozen(kw_only=True)
class Messages:
    """What a datagram has.

    :param refusals: of events and service checks.
    :param lines: the events of the other lines, and the refusals of these.
    """

    events: Sequence[NewEvent]
    refusals: Sequence[Refused]
    lines: tuple[Sequence[NewEvent], list[Refused]]


def begins(data: bytes) -> bool:
    """Return whether a datagram begins as an event or a service check does."""
    return data.startswith((b"_e{", b"_sc|"))


def parse_messages(data: bytes, *, rules: Rules, parse_lines: ParseLines) -> Messages | None:
    """Parse a datagram in which a line begins as an event or a service check does; None: there is none."""
    if b"_e{" not in data and b"_sc|" not in data:
        return None
    data = data.removeprefix(_BOM)
    if _BEGINNING.search(data) is None:
        return None
    events: list[NewEvent] = []
    refusals: list[Refused] = []
    lines: list[NewEvent] = []
    refused_lines: list[Refused] = []
    for is_message, part in _parts(data):
        if len(events) + len(refusals) + len(lines) + len(refused_lines) >= MAX_DATAGRAM_LINES:
            text = f"the datagram has more than {MAX_DATAGRAM_LINES} lines"
            refused_lines += [Refused(text, reason="limit")] * (1 if is_message else line_count(part))
        elif is_message:
            try:
                events.append(_event(part, rules))
            except Refused as refused:
                # Its traceback would tie this frame and the list into a cycle.
                refusals.append(refused.with_traceback(None))
        else:
            good, bad = parse_lines(part)
            lines += good
            refused_lines += bad
    return Messages(events=events, refusals=refusals, lines=(lines, refused_lines))


def _parts(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """Divide a datagram into messages (True), each alone, and the lines between them."""
    at = 0
    while at < len(data):
        found = _BEGINNING.search(data, at)
        begins = len(data) if found is None else found.start()
        if begins > at:
            yield False, data[at:begins]
        if begins < len(data):
            ends = data.find(b"\n", _text_ends(data, begins))
            ends = len(data) if ends < 0 else ends
            rest = min(_text_ends(data, begins), ends)  # blanks at the end of the text belong to it
            yield True, data[begins:rest] + data[rest:ends].rstrip(_BLANKS)
            begins = ends + 1
        at = begins


def _text_ends(data: bytes, begins: int) -> int:
    """Return where an event's text ends by its length; without one, where the message begins."""
    header = _HEADER.match(data, begins)
    if header is None:
        return begins
    return header.end() + int(header[1]) + 1 + int(header[2])


def _event(message: bytes, rules: Rules) -> NewEvent:
    pairs = _service_check(message) if message.startswith(b"_sc|") else _title_and_text(message)
    return event(pairs, rules)


def _title_and_text(message: bytes) -> list[Pair]:
    """Return the labels and details of an event."""
    header = _HEADER.match(message)
    if header is None:
        shown = quoted(message[:40].decode(errors="replace"))
        raise Refused(f"{shown} is not of the form _e{{TITLE BYTES,TEXT BYTES}}:TITLE|TEXT", reason="syntax")
    begins = header.end() + int(header[1])
    ends = begins + 1 + int(header[2])
    title, between, text, rest = (
        message[header.end() : begins],
        message[begins : begins + 1],
        message[begins + 1 : ends],
        message[ends:],
    )
    if ends > len(message) or between != b"|" or (rest and not rest.startswith(b"|")):
        raise Refused(
            f"the lengths {header[1].decode()} and {header[2].decode()} are not those of title and text"
            " (they are bytes of UTF-8)",
            reason="syntax",
        )
    if not title:
        raise Refused("the title of the event is empty", reason="syntax")
    fields = _fields(rest[1:])
    priority = fields.get("p:", "")
    return [
        ("type", "event"),
        ("title", _lines_of(_text(title))),
        ("alert_type", fields.get("t:") or "info"),
        ("priority", "" if priority == "normal" else priority),
        ("source_type", fields.get("s:", "")),
        *_tags(fields, EVENT_LABELS),
        *_details(
            {
                "text": _lines_of(_text(text)[:MAX_TEXT]),
                "time": _time(fields),
                "aggregation_key": fields.get("k:", "")[:MAX_TEXT],
            }
        ),
    ]


def _service_check(message: bytes) -> list[Pair]:
    """Return the labels and details of a service check."""
    _, name, *rest = message.split(b"|", 2)
    number, _, more = rest[0].partition(b"|") if rest else (b"", b"", b"")
    if not name:
        raise Refused("the service check has no name", reason="syntax")
    if number not in (b"0", b"1", b"2", b"3"):
        shown = quoted(number.decode(errors="replace"))
        raise Refused(f"the status of the service check: expected 0, 1, 2 or 3, got {shown}", reason="syntax")
    fields = _fields(more)
    # Clients escape what the agent of old took for the beginning of the message.
    text = _lines_of(fields.get("m:", "").replace("m\\:", "m:"))
    return [
        ("type", "service_check"),
        ("check", _text(name)),
        ("status", STATUSES[int(number)]),
        *_tags(fields, CHECK_LABELS),
        *_details({"text": text[:MAX_TEXT], "time": _time(fields)}),
    ]


def _fields(text: bytes) -> Mapping[str, str]:
    """Return the optional fields by their beginning, ``d:`` or ``#``; of a repeated one the last."""
    fields = {}
    for part in _text(text).split("|"):
        name = "#" if part.startswith("#") else part[:2]
        fields[name] = part[len(name) :]
    return fields


def _tags(fields: Mapping[str, str], own: Iterable[str]) -> Iterator[Pair]:
    """Yield the labels of the tags, and ``host``.

    A tag without a value is ``true``. The values of a name that is given more than once are one value, sorted
    and separated by commas, since a label has one.

    :param own: names of labels that the message has without tags.
    """
    values: dict[str, set[str]] = {}
    tags = fields.get("#", "").split(",")
    if len(tags) > MAX_TAGS:
        raise Refused(f"there are {len(tags)} tags, more than {MAX_TAGS}", reason="limit")
    for tag in tags:
        name, colon, text = tag.strip().partition(":")
        if name and not name.startswith(INTERNAL_TAGS):
            values.setdefault(_label(name, own), set()).add(text if colon else "true")
    # As the agent has it: the field of the host comes before its tag.
    if host := fields.get("h:"):
        values["host"] = {host}
    for label, texts in values.items():
        yield label, ",".join(sorted(filter(None, texts)))


def _label(tag: str, own: Iterable[str]) -> str:
    """Return the label of a tag: characters that no label may have become ``_``, as Datadog does it."""
    label = _ILLEGAL.sub("_", tag[:MAX_TAG])
    if label.startswith("__") or label in own or label == "value":
        return f"tag_{label.lstrip('_')}"
    return f"_{label}" if label[0].isdigit() else label


def _time(fields: Mapping[str, str]) -> str:
    """Return the sender's time in RFC 3339; one that is no Unix time as it was sent."""
    sent = fields.get("d:", "")[:MAX_TIME]
    return rfc3339_of_ms(int(sent) * 1000) if _UNIX_SECONDS.fullmatch(sent) else sent


def _details(texts: Mapping[str, str]) -> list[Pair]:
    """Return texts as details, cut where they are too long."""
    if sum(map(len, texts.values())) > SHORT:
        return fitted(texts)
    return [(f"detail.{name}", text) for name, text in texts.items()]


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused(f"{quoted(data.decode(errors='replace'))} is not UTF-8", reason="encoding") from None


def _lines_of(text: str) -> str:
    r"""Return the text with the line ends that the client has written as ``\n``."""
    return text.replace("\\n", "\n")

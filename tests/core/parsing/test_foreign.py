"""Lines of other formats: every parser refuses them, and the refusal names the format."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import quote

import pytest
from support.foreign_lines import FOREIGN, UNNAMED
from support.strategies import RULES

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.foreign import likeness
from oneshotd.core.parsing.formats import (
    parse_datagram,
    parse_json,
    parse_json_event,
    parse_line,
    parse_lines,
    parse_ndjson,
    parse_plain_datagrams,
    parse_query,
)
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.errors import Refused

#: Every parser of lines; the query is escaped, as a client must do.
PARSERS: dict[str, Callable[[bytes], Sequence[NewEvent]]] = {
    "line": lambda line: [parse_line(line, rules=RULES)],
    "query": lambda line: [parse_query(quote(line, safe="=").encode(), b"", rules=RULES)],
    "form": lambda line: [parse_query(b"", line, rules=RULES)],
    "query and form": lambda line: [parse_query(b"good=1", line, rules=RULES)],
    "lines": lambda line: parse_lines(line, rules=RULES),
    "datagram": lambda line: raised(*parse_datagram(line, rules=RULES)),
    "datagram, quickly": lambda line: raised(
        *parse_datagram(b"a=1\n" + line, rules=RULES, ordinary=TemplateParser(RULES))
    ),
}


def raised(events: Sequence[NewEvent], refusals: list[Refused]) -> Sequence[NewEvent]:
    for refused in refusals:
        raise refused
    return events


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(("line", "what"), [*FOREIGN, *((line, None) for line in UNNAMED)])
def test_no_parser_accepts_a_line_of_another_format(parser: str, line: bytes, what: str | None) -> None:
    """Each would be a series of its own, with a new label name every second."""
    with pytest.raises(Refused) as caught:
        PARSERS[parser](line)
    assert caught.value.reason in ("label", "syntax", "encoding")
    assert caught.value.text.isprintable()
    if what is None:
        assert "looks like" not in caught.value.text
    elif parser != "query":  # there the line is escaped, and only its names are seen
        assert caught.value.text.endswith(f"(this looks like {what}; see docs/emitting.md)")


@pytest.mark.parametrize(("line", "what"), FOREIGN)
def test_the_names_in_json_are_the_same(line: bytes, what: str) -> None:
    name = line.partition(b"=")[0].decode("latin-1")
    if name.isascii():
        item = json.dumps({name: "x"}).encode()
        for body, parse in ((b"[%s]" % item, parse_json), (item, parse_json), (item, parse_ndjson)):
            with pytest.raises(Refused, match="is none of letters, digits and"):
                parse(body, rules=RULES)
        with pytest.raises(Refused, match="is none of letters, digits and"):
            parse_json_event(b"", item, rules=RULES)


@pytest.mark.parametrize(("line", "what"), FOREIGN)
def test_good_lines_do_not_suffer_from_foreign_ones(line: bytes, what: str) -> None:
    """A StatsD client on the same port must not cost other senders their events."""
    data = b"type=a\n" + line.replace(b"\n", b"") + b"\ntype=b"
    quick = TemplateParser(RULES)
    for ordinary in (None, quick, quick):
        events, refusals = parse_datagram(data, rules=RULES, ordinary=ordinary)
        assert [event.series for event in events] == [
            'events_to_metrics{type="a"}',
            'events_to_metrics{type="b"}',
        ]
        assert len(refusals) == 1
    assert parse_plain_datagrams([b"type=a", line], quick) is None


@pytest.mark.parametrize(
    "line",
    [
        b"type=deploy&version=1.2",
        b"text=<13>Nov 27 10:00:00 web1 app: type=x",
        b"text=deploys:1|c|#env=prod",
        b"text=cpu,host=a load=1 2",
        b"kubernetes.io/name=x",
        b"a:b=1",
        "größe=1".encode(),
    ],
)
def test_a_good_line_is_not_judged_by_its_looks(line: bytes) -> None:
    for parse in (PARSERS["line"], PARSERS["form"], PARSERS["lines"], PARSERS["datagram"]):
        assert len(parse(line)) == 1


@pytest.mark.parametrize("line", [b"", b"hello", b"type=deploy", b"type=x\0", *UNNAMED])
def test_nothing_is_guessed(line: bytes) -> None:
    assert likeness(line) is None


# ---- what curl -d makes of a file ---------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [b"type=a", b"type=b"],
        [b"type=deploy&version=1.2", b"type=deploy"],
        [b"type=deploy&text=50%25", b"type=deploy"],
        ["type=größe".encode(), b"type=b"],
    ],
)
def test_lines_that_were_joined_are_refused(lines: list[bytes]) -> None:
    """`curl -d @file` deletes line ends: `type=atype=b` would be one event of garbage."""
    body = b"".join(lines)
    for parser in ("form", "lines"):
        with pytest.raises(Refused, match=r"'type' begins a line again .*--data-binary @FILE") as caught:
            PARSERS[parser](body)
        assert caught.value.reason == "syntax"
    assert len(parse_lines(b"\n".join(lines), rules=RULES)) == len(lines)


@pytest.mark.parametrize(
    "body",
    [
        b"type=a&text=x=y",
        b"type=a&link=http://h/?type=b&type2=c",
        b"type=a&text=[type=b]",
        b"type=a&text=type=b",
        b"type=a&text=subtype%3Db",
        b"e=1&text=size=3",  # too short to tell
        b"type=" + b"a type=" * 100,
    ],
)
def test_an_unescaped_equals_sign_is_no_joined_line(body: bytes) -> None:
    assert len(PARSERS["form"](body)) == 1
    assert len(PARSERS["lines"](body)) == 1


def test_values_of_json_that_were_joined_are_refused_with_the_cure() -> None:
    with pytest.raises(Refused, match="curl -d @FILE deletes it"):
        parse_json(b'{"a": 1}{"a": 2}', rules=RULES)
    with pytest.raises(Refused, match="curl -d @FILE deletes it"):
        parse_ndjson(b'{"a": 1}{"a": 2}\n', rules=RULES)
    with pytest.raises(Refused, match="looks like NDJSON, whose Content-Type is application/x-ndjson"):
        parse_json(b'{"a": 1}\n{"a": 2}\n', rules=RULES)
    with pytest.raises(Refused, match=r"the JSON is not UTF-8 .this looks like UTF-16"):
        parse_json('[{"a": 1}]'.encode("utf-16"), rules=RULES)
    with pytest.raises(Refused, match=r"not JSON: .*this looks like UTF-16"):
        parse_json('[{"a": 1}]'.encode("utf-16-le"), rules=RULES)


@pytest.mark.parametrize("body", [b'{"a": "1"}', b'\xef\xbb\xbf{"a": "1"} \0\r\n', b'[{"a": "1"}]\0'])
def test_a_single_object_is_an_event(body: bytes) -> None:
    assert parse_json(body, rules=RULES) == [NewEvent('events_to_metrics{a="1"}')]


def test_an_object_and_the_query_make_one_event() -> None:
    expected = NewEvent('events_to_metrics{a="1",b="2"}', "3")
    assert parse_json_event(b"b=2", b'{"a": "1", "value": 3}\n', rules=RULES) == expected
    with pytest.raises(Refused, match="label 'a' is given twice"):
        parse_json_event(b"a=2", b'{"a": "1"}', rules=RULES)
    with pytest.raises(Refused, match="a JSON array: this takes one object, /events many"):
        parse_json_event(b"", b'[{"a": "1"}]', rules=RULES)
    with pytest.raises(Refused, match="not a JSON object"):
        parse_json_event(b"", b"5", rules=RULES)

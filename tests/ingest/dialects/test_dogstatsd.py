"""DogStatsD: what becomes of events and service checks, and of what is none."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from support.strategies import RULES

from oneshotd.core.events import NewEvent, labels_of
from oneshotd.core.parsing.formats import MAX_DATAGRAM_LINES, Rules, parse_datagram
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.dogstatsd import Messages, begins, parse_messages

#: The least that an event and a service check have.
EVENT = b"_e{6,4}:Deploy|done"
CHECK = b"_sc|redis.up|0"


def parse(data: bytes, rules: Rules = RULES) -> Messages:
    found = parse_messages(data, rules=rules, parse_lines=lambda lines: parse_datagram(lines, rules=rules))
    assert found is not None
    return found


def one(data: bytes) -> NewEvent:
    found = parse(data)
    assert found.refusals == []
    assert found.lines == ([], [])
    (event,) = found.events
    return event


def labels(data: bytes) -> dict[str, str]:
    return labels_of(one(data).series)


def detail(data: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(one(data).detail or "{}")
    return found


def titles(events: Sequence[NewEvent]) -> list[str]:
    return [labels_of(event.series)["title"] for event in events]


def test_an_event_with_all_fields() -> None:
    """What an operator sees of a deployment would lack what the program has said."""
    data = (
        "_e{10,13}:Déployé!|von Bär & Co"
        "|d:1764345600|h:web-1|k:deploys|p:low|s:jenkins|t:success|#env:prod,team:shop|c:ci-1234|e:it-false|card:low"
    ).encode()
    assert labels(data) == {
        "type": "event",
        "title": "Déployé!",
        "alert_type": "success",
        "priority": "low",
        "source_type": "jenkins",
        "host": "web-1",
        "env": "prod",
        "team": "shop",
    }
    assert detail(data) == {
        "text": "von Bär & Co",
        "time": "2025-11-28T16:00:00.000Z",
        "aggregation_key": "deploys",
    }


def test_a_service_check_with_all_fields() -> None:
    """A check that fails would not be told from one that is well."""
    data = b"_sc|redis.up|2|d:1764345600|h:web-1|#env:prod,cache|m:no answer\\nfor 10 s: m\\: 5|c:ci-1234"
    assert labels(data) == {
        "type": "service_check",
        "check": "redis.up",
        "status": "critical",
        "host": "web-1",
        "env": "prod",
        "cache": "true",
    }
    assert detail(data) == {"text": "no answer\nfor 10 s: m: 5", "time": "2025-11-28T16:00:00.000Z"}


def test_neither_has_a_value_or_a_key() -> None:
    """Two occurrences with one aggregation key would count once."""
    for data in (EVENT + b"|k:same|#value:7,__id__:x,__name__:y", CHECK + b"|#value:7"):
        event = one(data)
        assert event.value is None
        assert event.key is None
        assert event.series.startswith("events_to_metrics{")
        assert labels_of(event.series)["tag_value"] == "7"


def test_what_is_usual_is_told_by_the_same_labels_as_what_is_not_sent() -> None:
    """One kind of event would be two series, by whether its library writes the defaults."""
    assert one(EVENT).series == one(EVENT + b"|p:normal|t:info|h:|s:|#").series
    assert labels(EVENT) == {"type": "event", "title": "Deploy", "alert_type": "info"}
    assert detail(EVENT) == {"text": "done"}


@pytest.mark.parametrize(
    ("status", "text"), [(b"0", "ok"), (b"1", "warning"), (b"2", "critical"), (b"3", "unknown")]
)
def test_statuses_have_names(status: bytes, text: str) -> None:
    """A number would have to be looked up."""
    assert labels(b"_sc|a|" + status)["status"] == text


# ---- tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("env:prod", {"env": "prod"}),
        ("prod", {"prod": "true"}),
        ("url:http://a:80/b", {"url": "http://a:80/b"}),
        ("env:b,env:a,env:b", {"env": "a,b"}),
        ("env,env:a", {"env": "a,true"}),
        ("a.b:1,a-b:2", {"a_b": "1,2"}),
        ("kube/app:x,größe:y, team : ops ", {"kube_app": "x", "gr__e": "y", "team_": " ops"}),
        ("1st:x,_1st:y", {"_1st": "x,y"}),
        ("env:,,:x, ,", {}),
        ("env:,env:a", {"env": "a"}),
        ("type:x,title:y,alert_type:z", {"tag_type": "x", "tag_title": "y", "tag_alert_type": "z"}),
        ("priority:x,source_type:y", {"tag_priority": "x", "tag_source_type": "y"}),
        (
            "value:5,__name__:up,__id__:x,__:y",
            {"tag_value": "5", "tag_name__": "up", "tag_id__": "x", "tag_": "y"},
        ),
        ("detail.text:x", {"detail_text": "x"}),
        ("check:x,status:y", {"check": "x", "status": "y"}),
        ("dd.internal.entity_id:0b-1,dd.internal.card:none,env:a", {"env": "a"}),
        ("host:web-2", {"host": "web-2"}),
        ("n" * 200 + ":x", {"n" * 120: "x"}),
        ("a{b}<c>:x", {"a_b__c_": "x"}),
    ],
)
def test_tags_become_labels(tags: str, expected: dict[str, str]) -> None:
    """A tag would be lost, change the event, or cost it."""
    own = {"type": "event", "title": "Deploy", "alert_type": "info"}
    assert labels(EVENT + f"|#{tags}".encode()) == {**own, **expected}


def test_tags_cannot_set_the_labels_of_a_service_check() -> None:
    assert labels(CHECK + b"|#type:x,check:y,status:z,title:t") == {
        "type": "service_check",
        "check": "redis.up",
        "status": "ok",
        "tag_type": "x",
        "tag_check": "y",
        "tag_status": "z",
        "title": "t",
    }


def test_the_field_of_the_host_comes_before_its_tag() -> None:
    assert labels(EVENT + b"|#host:a|h:b")["host"] == "b"


def test_the_order_of_tags_makes_no_series() -> None:
    assert one(EVENT + b"|#a:1,b:2,c:4,c:3").series == one(EVENT + b"|#c:3,c:4,b:2,a:1").series


# ---- lengths and line ends


@pytest.mark.parametrize(
    ("data", "title", "text"),
    [
        (b"_e{1,0}:a|", "a", ""),
        (b"_e{3,3}:a|b|c|d", "a|b", "c|d"),
        (b"_e{4,6}:a\\nb|c\\nd\\n", "a\nb", "c\nd\n"),
        ("_e{4,2}:😀|é".encode(), "😀", "é"),
        (b"_e{1,3}:a|b\nc", "a", "b\nc"),
        (b"_e{1,9}:a|b\n_sc|c|1", "a", "b\n_sc|c|1"),
        (b"_e{1,14}:a|_e{1,1}:b|c\nd=|t:error", "a", "_e{1,1}:b|c\nd="),
        (b"_e{1,3}:a|b \0\r\n", "a", "b \0"),
        (b"_e{01,002}:a|bc \t\r\n", "a", "bc"),
        (b"\xef\xbb\xbf_e{1,1}:a|b", "a", "b"),
    ],
)
def test_lengths_decide_where_title_and_text_end(data: bytes, title: str, text: str) -> None:
    """A text with a line end or a separator in it would become two events, or none."""
    assert labels(data)["title"] == title
    assert detail(data).get("text", "") == text


def test_messages_and_lines_stand_side_by_side() -> None:
    """A library that fills its datagrams would cost most of its events."""
    data = b"\n".join(
        [
            b"type=a",
            EVENT,
            CHECK,
            b"",
            b"type=b&value=3",
            b"_e{1,8}:x|y\ntype=z|#a:b",
            b"deploys:1|c|#env:prod",
            CHECK + b"\r",
            b"type=c",
            b"",
        ]
    )
    found = parse(data)
    lines, (refused,) = found.lines
    assert [event.series for event in lines] == [f'events_to_metrics{{type="{name}"}}' for name in "abc"]
    assert [labels_of(event.series)["type"] for event in found.events] == [
        "event",
        "service_check",
        "event",
        "service_check",
    ]
    assert found.refusals == []
    assert "a DogStatsD metric" in refused.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"type=a",
        b"x_e{1,1}:a|b",
        b" _e{1,1}:a|b",
        b"text=_sc|a|1",
        b"deploys:1|c",
        b"_event=1",
        b"_sc=1|x",
    ],
)
def test_other_datagrams_are_left_to_the_grammar(data: bytes) -> None:
    """A line of our own would be refused because of a text in it."""
    assert parse_messages(data, rules=RULES, parse_lines=lambda lines: pytest.fail("not asked")) is None
    assert not begins(data)


def test_a_datagram_is_told_by_its_first_bytes() -> None:
    assert begins(EVENT)
    assert begins(CHECK)


# ---- what cannot be taken


@pytest.mark.parametrize(
    ("data", "reason", "why"),
    [
        (b"_e{", "syntax", "not of the form _e{TITLE BYTES,TEXT BYTES}"),
        (b"_e{1}:a|b", "syntax", "not of the form"),
        (b"_e{1,1}a|b", "syntax", "not of the form"),
        (b"_e{-1,1}:a|b", "syntax", "not of the form"),
        (b"_e{+1,1}:a|b", "syntax", "not of the form"),
        (b"_e{1,9999999999999999999999}:a|b", "syntax", "not of the form"),
        (b"_e{0,1}:|b", "syntax", "title of the event is empty"),
        (b"_e{1,2}:a|b", "syntax", "lengths 1 and 2 .*bytes of UTF-8"),
        (b"_e{1,1}:a|bc", "syntax", "lengths 1 and 1"),
        (b"_e{1,1}:ab|c", "syntax", "lengths 1 and 1"),
        ("_e{1,1}:é|b".encode(), "syntax", "bytes of UTF-8"),
        (b"_e{999999,999999}:a|b", "syntax", "lengths 999999 and 999999"),
        (b"_e{1,1}:\xff|b", "encoding", "is not UTF-8"),
        (b"_e{1,1}:a|\xff", "encoding", "is not UTF-8"),
        (b"_e{1,1}:a|b|#x:\xff", "encoding", "is not UTF-8"),
        (b"_sc|", "syntax", "the service check has no name"),
        (b"_sc||0", "syntax", "the service check has no name"),
        (b"_sc|a", "syntax", "expected 0, 1, 2 or 3, got ''"),
        (b"_sc|a|", "syntax", "expected 0, 1, 2 or 3, got ''"),
        (b"_sc|a|4", "syntax", "expected 0, 1, 2 or 3, got '4'"),
        (b"_sc|a|ok", "syntax", "expected 0, 1, 2 or 3, got 'ok'"),
        (b"_sc|a|0 |m:x", "syntax", "expected 0, 1, 2 or 3, got '0 '"),
        (b"_sc|\xff|0", "encoding", "is not UTF-8"),
        (EVENT + b"|#" + b",".join(b"t%d:x" % n for n in range(65)), "limit", "more than"),
        (EVENT + b"|#" + b",".join(b"a:%d" % n for n in range(257)), "limit", "257 tags, more than 256"),
        (b"_e{5000,1}:" + b"t" * 5000 + b"|x", "limit", "label 'title': the value is longer"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason(data: bytes, reason: str, why: str) -> None:
    """An operator would see that an event is missing, and not why."""
    found = parse(data)
    assert found.events == []
    (refused,) = found.refusals
    assert refused.reason == reason
    assert refused.text.isprintable()
    with pytest.raises(Refused, match=why):
        raise refused


@pytest.mark.parametrize(
    "fields",
    [
        b"|",
        b"||",
        b"|x",
        b"|z:new|#|",
        b"|c:in-123|e:ext|card:orchestrator",
        b"|d:|k:|p:|s:|t:|h:",
        b"|T1764345600",
    ],
)
def test_fields_that_are_new_or_empty_are_ignored(fields: bytes) -> None:
    """With the next version of a library all its events would be refused."""
    assert one(EVENT + fields).series == one(EVENT).series
    assert one(CHECK + fields).series == one(CHECK).series


@pytest.mark.parametrize(
    ("sent", "time"),
    [
        (b"0", "1970-01-01T00:00:00.000Z"),
        (b"99999999999", "5138-11-16T09:46:39.000Z"),
        (b"1764345600000", "1764345600000"),
        (b"-5", "-5"),
        (b"soon", "soon"),
        (b"1764345600.5", "1764345600.5"),
    ],
)
def test_the_senders_time_is_kept(sent: bytes, time: str) -> None:
    """The time of a late event would be lost."""
    assert detail(EVENT + b"|d:" + sent)["time"] == time
    assert detail(CHECK + b"|d:" + sent)["time"] == time


def test_a_long_text_is_cut() -> None:
    """An event with a stack trace would be refused."""
    data = b"_e{1,60000}:a|" + b"\n" * 60000 + b"|d:0|k:key"
    kept = detail(data)
    assert kept["text"].startswith("\n\n")
    assert kept["text"].endswith("…")
    assert (kept["time"], kept["aggregation_key"]) == ("1970-01-01T00:00:00.000Z", "key")


def test_a_datagram_has_no_more_messages_than_lines() -> None:
    """A single datagram would hold up all others."""
    lines = b"x=y\n" * (MAX_DATAGRAM_LINES // 2)
    found = parse(b"_sc|a|0\n" * (MAX_DATAGRAM_LINES // 2) + lines + b"_sc|b|0\n" + b"x=y\n" * 3)
    assert len(found.events) == len(found.lines[0]) == MAX_DATAGRAM_LINES // 2
    assert [refused.reason for refused in found.lines[1]] == ["limit"] * 4


@pytest.mark.parametrize(
    "data", [b"_e{\n" * 16_000, b"_e{1,1}:" * 8_000, b"_sc|\n" * 13_000, b"\n_e{9,999999}:" * 4000]
)
def test_garbage_takes_no_long_time(data: bytes) -> None:
    """Each line would be looked at again for each line before it."""
    found = parse(data)
    assert not found.events
    assert 0 < len(found.refusals) + len(found.lines[1]) <= data.count(b"\n") + 1


@pytest.mark.parametrize(
    "line", [b"deploys:1|c", b"deploys:1|c|@0.5|#env:prod", b"a:1:2:3|d|#x|c:id|T1764345600"]
)
def test_metrics_stay_refused(line: bytes) -> None:
    """A counter would be counted as an event, whatever its number."""
    found = parse(line + b"\n" + EVENT)
    assert len(found.events) == len(found.lines[1]) == 1
    assert "looks like" in found.lines[1][0].text

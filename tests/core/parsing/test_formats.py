"""One event from a query string: what becomes of it, and what is refused with which words."""

from __future__ import annotations

from random import Random
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from support.strategies import RULES, kept, raw_labels, written

from oneshotd.core.events import NewEvent, labels_of
from oneshotd.core.parsing.formats import (
    MAX_BODY_BYTES,
    MAX_KEY_BYTES,
    MAX_LABELS,
    MAX_NAME_BYTES,
    MAX_VALUE_BYTES,
    Rules,
    parse_line,
    parse_query,
)
from oneshotd.core.parsing.idempotency import idempotency_key
from oneshotd.errors import Refused

E = "events_to_metrics"


def refusal(line: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_line(line, rules=RULES)
    assert caught.value.text.isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("line", "series", "value", "key"),
    [
        (b"type=deploy&version=1.2", E + '{type="deploy",version="1.2"}', None, None),
        (b"version=1.2&type=deploy", E + '{type="deploy",version="1.2"}', None, None),
        (b"type=backup&result=failed&value=37.5", E + '{result="failed",type="backup"}', "37.5", None),
        (b"type=test&message=cron_test_manual&seconds=42",
         E + '{message="cron_test_manual",seconds="42",type="test"}', None, None),
        (b"value=42", E, "42", None),
        (b"value=+5", E, "5", None),
        (b"value=1e+3", E, "1000", None),
        (b"value=%2B5", E, "5", None),
        (b"value=%2Binf", E, "+Inf", None),
        (b"Value=x", E + '{Value="x"}', None, None),
        (b"a=", E, None, None),
        (b"a=&b=1", E + '{b="1"}', None, None),
        (b"&&a=1&", E + '{a="1"}', None, None),
        (b"a=b=c", E + '{a="b=c"}', None, None),
        (b"m=two words+more%20yet", E + '{m="two words more yet"}', None, None),
        (b"m=a%2Bb%26c%3Dd%25", E + '{m="a+b&c=d%"}', None, None),
        ("m=größe".encode(), E + '{m="größe"}', None, None),
        (b"m=gr%C3%B6\xc3\x9fe", E + '{m="größe"}', None, None),
        (b"m=%c3\xb6", E + '{m="ö"}', None, None),  # one character, half of it escaped
        (b"m=\r\x00\xe2\x80\xa8\xc2\x85", E + '{m="\\n\0\\n\\n"}', None, None),
        (b"m=%0A%22%5C", E + '{m="\\n\\"\\\\"}', None, None),
        (b"m=a%0D%0Ab%0D%0D%0A%0A", E + '{m="a\\nb\\n\\n\\n"}', None, None),
        (b"m=%0B%0C%1C%1D%1E%C2%85%E2%80%A8%E2%80%A9", E + '{m="' + "\\n" * 8 + '"}', None, None),
        (b"m=%1F%09%00%7F", E + '{m="\x1f\t\0\x7f"}', None, None),
        (b"m=%EF%BF%BD", E + '{m="\ufffd"}', None, None),
        (b"a-b=1&c.d=2&%C3%A9=3", E + '{_="3",a_b="1",c_d="2"}', None, None),
        (b"a/b=1&a:c=2", E + '{a_b="1",a_c="2"}', None, None),
        ("gr\u00f6\u00dfe=1&gro\u0308=2&x\u0924\u093f=3&y\u0663=4".encode(),
         E + '{gr__e="1",gro_="2",x__="3",y_="4"}', None, None),
        (b"1st=x", E + '{_1st="x"}', None, None),
        (b"_x=1", E + '{_x="1"}', None, None),
        (b"job=j&instance=i&le=1", E + '{instance="i",job="j",le="1"}', None, None),
        (b"__name__=deploys&a=1", 'deploys{a="1"}', None, None),
        (b"__name__=deploys", "deploys", None, None),
        (b"__name__=a%3Ab", "a:b", None, None),
        (b"%5F_name__=deploys", "deploys", None, None),
        (b"__id__=7f3&a=1&value=2", E + '{a="1"}', "2", "7f3"),
        ("__id__=\n ö".encode(), E, None, "\n ö"),
        (b"__id__=" + b"k" * MAX_KEY_BYTES, E, None, "k" * MAX_KEY_BYTES),
    ],
)  # fmt: skip
def test_a_line_becomes_the_event_that_its_writer_meant(
    line: bytes, series: str, value: str | None, key: str | None
) -> None:
    assert parse_line(line, rules=RULES) == NewEvent(series, value, key)
    assert parse_query(line, b"", rules=RULES) == NewEvent(series, value, key)


@pytest.mark.parametrize(
    ("line", "reason", "text"),
    [
        (b"", "empty", "there is no event in it"),
        (b"&&&", "empty", "there is no event in it"),
        (b"hello", "syntax", "'hello' is not of the form name=value"),
        (b"a=1&hello", "syntax", "'hello' is not of the form name=value"),
        (b" ", "syntax", "' ' is not of the form name=value"),
        (b"hello%20\xff", "syntax", "'hello%20\ufffd' is not of the form name=value"),
        (b"a=%", "encoding", "'%' is not a percent escape; % itself is %25"),
        (b"a=%zz", "encoding", "'%zz' is not a percent escape"),
        (b"a=%4&b=1", "encoding", "'%4&' is not a percent escape"),
        (b"%g1=1", "encoding", "'%g1' is not a percent escape"),
        (b"a=%\n", "encoding", r"'%\n' is not a percent escape"),
        (b"a=100%25%", "encoding", "'%' is not a percent escape"),
        (b"a=\xff", "encoding", "'a=\ufffd' is not UTF-8"),
        (b"a=%FF", "encoding", "'a=%FF' is not UTF-8"),
        (b"%C3=1", "encoding", "'%C3=1' is not UTF-8"),
        (b"a=%C3&b=%A9", "encoding", "'a=%C3' is not UTF-8"),
        (b"a=%ED%A0%80", "encoding", "is not UTF-8"),  # half of a surrogate pair
        (b"a=\xc0\x80", "encoding", "is not UTF-8"),  # an overlong NUL
        (b"=1", "label", "a label's name is empty"),
        (b" a=1", "label", "label ' a': ' ' is none of letters, digits and _ - . / :"),
        (b"a%20b=1", "label", "label 'a b': ' ' is none of letters"),
        (b"a%00=1", "label", r"label 'a\x00': '\x00' is none of letters"),
        (b"\xef\xbb\xbfa=1", "label", r"label '\ufeffa': '\ufeff' is none of letters"),
        ("\u00b0C=1".encode(), "label", "label '\u00b0C': '\u00b0' is none of letters"),
        ("\u00bd=1".encode(), "label", "'\u00bd' is none of letters"),
        ("\U0001f600=1".encode(), "label", "is none of letters"),
        (b"<" * 5000 + b"=1", "label", "'<' is none of letters"),
        (b"n" * 5000 + b"<=1", "limit", "the name is longer than 128 bytes"),
        (b"__x=1", "label", "label '__x': names that start with __ are reserved"),
        (b"__=1", "label", "label '__': names that start with __ are reserved"),
        (b"__address__=", "label", "label '__address__'"),
        (b"-_x=1", "label", "label '-_x' (written '__x'): names that start with __ are reserved"),
        (b"-_name__=x", "label", "label '-_name__' (written '__name__')"),
        ("部署=1".encode(), "label", "label '部署' (written '__')"),
        (b"a=1&a=2", "label", "label 'a' is given twice"),
        (b"a=1&a=1", "label", "label 'a' is given twice"),
        (b"a=&a=1", "label", "label 'a' is given twice"),
        (b"a=1&%61=2", "label", "label 'a' is given twice"),
        (b"a-b=1&a-b=2", "label", "label 'a-b' is given twice"),
        (b"a-b=1&a_b=2", "label", "labels 'a-b' and 'a_b' are both written 'a_b'"),
        (b"a_b=1&a-b=2", "label", "labels 'a_b' and 'a-b' are both written 'a_b'"),
        (b"a-b=1&a.b=", "label", "labels 'a-b' and 'a.b' are both written 'a_b'"),
        (b"1=1&_1=2", "label", "labels '1' and '_1' are both written '_1'"),
        (b"value=1&value=1", "label", "value is given twice"),
        (b"__id__=1&__id__=2", "label", "__id__ is given twice"),
        (b"__name__=a&__name__=a", "label", "__name__ is given twice"),
        (b"n" * (MAX_NAME_BYTES + 1) + b"=1", "limit", "the name is longer than 128 bytes"),
        (b"1" * MAX_NAME_BYTES + b"=1", "limit", "the name is longer than 128 bytes"),
        (b"a=" + b"x" * (MAX_VALUE_BYTES + 1), "limit", "label 'a': the value is longer than 4096 bytes"),
        (b"a=" + "ö".encode() * 2049, "limit", "label 'a': the value is longer than 4096 bytes"),
        (b"&".join(b"l%d=" % n for n in range(MAX_LABELS + 1)), "limit", "more than 64 labels"),
        (b"value=", "value", "value: '' is not a number"),
        (b"value=abc", "value", "value: 'abc' is not a number"),
        (b"value=1_0", "value", "value: '1_0' is not a number"),
        (b"value=1e400", "value", "value: '1e400' is beyond the range of a 64-bit float"),
        (b"value=" + b"x" * 100_000, "value", "value: '" + "x" * 59 + "…' is not a number"),
        (b"value=%1B%5B31m", "value", r"value: '\x1b[31m' is not a number"),
        (b"__name__=", "name", "__name__: '' is not of the form"),
        (b"__name__=a-b", "name", "__name__: 'a-b' is not of the form [a-zA-Z_:][a-zA-Z0-9_:]*"),
        (b"__name__=up", "name", "__name__: 'up' is taken"),
        (b"__name__=oneshotd_x", "name", "__name__: 'oneshotd_x' is taken"),
        (b"__name__=" + b"n" * 129, "name", "is longer than 128 bytes"),
        (b"__id__=", "key", "__id__ is empty"),
        (b"__id__=" + "ö".encode() * 65, "key", "is longer than 128 bytes"),
        (b"__id__=oneshotd:1", "key", "__id__: 'oneshotd:1' begins with oneshotd:, which is reserved"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_and_why(line: bytes, reason: str, text: str) -> None:
    refused = refusal(line)
    assert (refused.reason, refused.status) == (reason, 400)
    assert text in refused.text


def test_what_is_exactly_at_a_limit_is_accepted() -> None:
    pairs = {f"l{n}": "x" for n in range(MAX_LABELS)}
    line = urlencode({**pairs, "value": "1", "__id__": "k", "__name__": "m" * MAX_NAME_BYTES}).encode()
    assert labels_of(parse_line(line, rules=RULES).series) == pairs
    long = "n" * MAX_NAME_BYTES, "ö" * (MAX_VALUE_BYTES // 2)
    assert labels_of(parse_line("=".join(long).encode(), rules=RULES).series) == dict([long])


def test_the_default_name_and_the_taken_ones_are_the_operators() -> None:
    rules = Rules(metric="things", taken=frozenset({"process_open_fds"}))
    assert parse_line(b"a=1", rules=rules).series == 'things{a="1"}'
    with pytest.raises(Refused, match="'process_open_fds' is taken"):
        parse_line(b"__name__=process_open_fds", rules=rules)


@given(raw_labels())
def test_any_labels_arrive_as_they_were_sent(labels: dict[str, str]) -> None:
    line = urlencode({**labels, "value": "1"}).encode()
    event = parse_line(line, rules=RULES)
    assert labels_of(event.series) == {written(name): kept(text) for name, text in labels.items() if text}


@given(raw_labels())
def test_what_was_accepted_is_read_by_a_scraper(labels: dict[str, str]) -> None:
    """A sample that a scraper cannot parse would cost it the whole response."""
    event = parse_line(urlencode({**labels, "value": "1"}).encode(), rules=RULES)
    [family] = text_string_to_metric_families(f"{event.series} 1\n")
    [sample] = family.samples
    assert sample.name == RULES.metric
    assert sample.labels == {written(name): kept(text) for name, text in labels.items() if text}


@given(raw_labels(max_size=3), st.randoms(use_true_random=False))
def test_the_order_of_labels_does_not_make_another_series(labels: dict[str, str], random: Random) -> None:
    pairs = [*labels.items(), ("value", "1")]
    shuffled = random.sample(pairs, len(pairs))
    series = {parse_line(urlencode(order).encode(), rules=RULES).series for order in (pairs, shuffled)}
    assert len(series) == 1


@given(raw_labels(max_size=3))
def test_raw_and_escaped_utf8_are_the_same(labels: dict[str, str]) -> None:
    pairs = {**labels, "value": "1"}
    raw = "&".join(f"{escape_ascii(name)}={escape_ascii(text)}" for name, text in pairs.items())
    assert parse_line(raw.encode(), rules=RULES) == parse_line(urlencode(pairs).encode(), rules=RULES)


def escape_ascii(text: str) -> str:
    return "".join(quote_plus(char) if char.isascii() else char for char in text)


# ---- POST /event: query and body ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body", "series", "value"),
    [
        (b"a=1", b"b=2", E + '{a="1",b="2"}', None),
        (b"", b"b=2&value=3", E + '{b="2"}', "3"),
        (b"a=1", b"", E + '{a="1"}', None),
        (b"a=1", b"\n", E + '{a="1"}', None),
        (b"", b"b=2\n", E + '{b="2"}', None),
        (b"", b"b=2\r\n", E + '{b="2"}', None),
        (b"", b"b=2 \t\r\n\0\n", E + '{b="2"}', None),
        (b"", b"\xef\xbb\xbfb=2", E + '{b="2"}', None),
        (b"a=1", b"\xef\xbb\xbf", E + '{a="1"}', None),
        (b"", b"b=2%20+", E + '{b="2  "}', None),
        (b"", b"b=%0A", E + '{b="\\n"}', None),
    ],
)
def test_query_and_body_make_one_event(query: bytes, body: bytes, series: str, value: str | None) -> None:
    assert parse_query(query, body, rules=RULES) == NewEvent(series, value)


@pytest.mark.parametrize(
    ("query", "body", "reason", "text", "status"),
    [
        (b"", b"", "empty", "there is no event in it", 400),
        (b"a=1", b"a=1", "label", "label 'a' is given twice", 400),
        (b"a-b=1", b"a.b=1", "label", "labels 'a-b' and 'a.b' are both written 'a_b'", 400),
        (b"value=1", b"value=1", "label", "value is given twice", 400),
        (b"__id__=1", b"__id__=1", "label", "__id__ is given twice", 400),
        (b"", b"a=1\nb=2", "syntax", "the body has several lines", 400),
        (b"", b"x" * (MAX_BODY_BYTES + 1), "limit", "longer than 1048576 bytes", 413),
    ],
)
def test_query_and_body_must_not_contradict(
    query: bytes, body: bytes, reason: str, text: str, status: int
) -> None:
    with pytest.raises(Refused) as caught:
        parse_query(query, body, rules=RULES)
    assert (caught.value.reason, caught.value.status) == (reason, status)
    assert text in caught.value.text


# ---- Idempotency-Key ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b'"7f3"', "7f3"),
        (b"7f3", "7f3"),
        (b'  "7f3" \t', "7f3"),
        (b" 7f3 ", "7f3"),
        (b'"a \\"b\\" \\\\"', 'a "b" \\'),
        (b'a"b', 'a"b'),
        (b"a\\b", "a\\b"),
        ('"ö"'.encode(), "ö"),
        (b'" "', " "),
        (b'"' + b"k" * 128 + b'"', "k" * 128),
    ],
)
def test_a_key_is_the_same_quoted_or_bare(header: bytes, key: str) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize(
    ("header", "reason", "text"),
    [
        (b"", "key", "Idempotency-Key is empty"),
        (b"  ", "key", "Idempotency-Key is empty"),
        (b'""', "key", "Idempotency-Key is empty"),
        (b'"oneshotd:1"', "key", "begins with oneshotd:, which is reserved"),
        (b'"', "key", "is not a quoted string"),
        (b'"a', "key", "is not a quoted string"),
        (b'"a\\"', "key", "is not a quoted string"),
        (b'"a\\n"', "key", "is not a quoted string"),
        (b'"a"b"', "key", "is not a quoted string"),
        (b'"a";b=1', "key", "is not a quoted string"),
        (b'"a", "b"', "key", "is not a quoted string"),
        (b"a\x00b", "key", r"'a\x00b' has a control character"),
        (b'"a\tb"', "key", "has a control character"),
        (b"a\x7f", "key", "has a control character"),
        (b"a\xc2\x85", "key", "has a control character"),
        (b"k" * 129, "key", "longer than 128 bytes"),
        (b"\xff", "encoding", "Idempotency-Key is not UTF-8"),
    ],
)
def test_a_key_that_two_sides_could_read_differently_is_refused(
    header: bytes, reason: str, text: str
) -> None:
    with pytest.raises(Refused) as caught:
        idempotency_key(header)
    assert (caught.value.reason, caught.value.status) == (reason, 400)
    assert text in caught.value.text

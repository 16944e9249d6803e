"""Which form a scraper gets: if these fail, it throws the whole response away, or cannot read it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.negotiation import MAX_HEADER, Format, accepts_gzip, choose_format

TEXT, OPENMETRICS = Format.TEXT, Format.OPENMETRICS

OM = "application/openmetrics-text"
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_53 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_0 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_5 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ONLY_1_0_0 = "text/plain;version=1.0.0;escaping=allow-utf-8"

# Client, Accept header, format of the response
SCRAPERS = [
    ("Prometheus 2.42, OpenTelemetry Collector of its time", PROMETHEUS_2_42, OPENMETRICS),
    ("Prometheus 2.53", PROMETHEUS_2_53, OPENMETRICS),
    ("Prometheus 3.0 to 3.3", PROMETHEUS_3_0, OPENMETRICS),
    ("Prometheus 3.5, OpenTelemetry Collector, Alloy", PROMETHEUS_3_5, OPENMETRICS),
    ("Prometheus with native histograms", f"{PROTOBUF};q=0.7,{PROMETHEUS_3_5}", OPENMETRICS),
    ("Prometheus told to take text only", "text/plain;version=0.0.4;q=0.2,*/*;q=0.1", TEXT),
    ("Prometheus 3.0, likewise", "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.2,*/*;q=0.1", TEXT),
    ("Prometheus told to take text 1.0.0 only", f"{ONLY_1_0_0};q=0.2,*/*;q=0.1", TEXT),
    (
        "Prometheus told to take OpenMetrics 0.0.1 only",
        "application/openmetrics-text;version=0.0.1;q=0.2,*/*;q=0.1",
        TEXT,
    ),
    ("Prometheus told to take protobuf only", f"{PROTOBUF};q=0.2,*/*;q=0.1", TEXT),
    ("Prometheus 2.0", "text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
    ("VictoriaMetrics, vmagent", "text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
    ("Telegraf", f"{PROTOBUF};q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", TEXT),
    ("Datadog before 7.46", "text/plain", TEXT),
    ("Datadog with use_latest_spec", "application/openmetrics-text;version=1.0.0", OPENMETRICS),
    ("Datadog from 7.46 on", PROMETHEUS_2_42, OPENMETRICS),
    ("curl, wget, Python's requests", "*/*", TEXT),
    ("Firefox", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
    (
        "Chromium",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7",
        TEXT,
    ),
    ("a script in a page", "application/json, text/plain, */*", TEXT),
    ("Java", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", TEXT),
]


@pytest.mark.parametrize(
    ("accept", "format"), [row[1:] for row in SCRAPERS], ids=[row[0] for row in SCRAPERS]
)
def test_what_each_scraper_gets(accept: str, format: Format) -> None:
    """The best format that it says it can read."""
    assert choose_format(accept) is format


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        (None, TEXT),
        ("", TEXT),
        (f"{OM}", OPENMETRICS),
        ("Application/OpenMetrics-Text ; Version=1.0.0 ; Charset=UTF-8", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        (f"{OM};version=1.0.0;escaping=values", OPENMETRICS),
        (f"{OM};version=2.0", TEXT),
        (f"{OM};version=2.0.0,{OM};version=1.0.0", OPENMETRICS),
        (f"{OM};version=1.0.0;charset=utf-16", TEXT),
        (f"{OM};version=1.0.0;future=1", TEXT),
        ("application/json", TEXT),
        # weights
        (f"text/plain;q=0.5,{OM};q=0.5", TEXT),
        (f"text/plain;q=0.5,{OM};q=0.500000001", OPENMETRICS),
        (f"text/plain;q=.1,{OM};q=.2", OPENMETRICS),
        (f"text/plain;q=0.1,{OM};q=0.2;version=7", OPENMETRICS),
        (f"{OM};q=0", TEXT),
        (f"{OM};version=1.0.0;q=0,*/*", TEXT),
        (f"text/plain;q=0,{OM};q=0", TEXT),
        (f"text/plain;q=0,{OM};q=0.001", OPENMETRICS),
        # a more specific range counts before a wildcard, and with parameters before one without
        (f"*/*;q=0.9,{OM};q=0.1", TEXT),
        ("*/*;q=0.9,text/plain;q=0.1", OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("text/*;q=0.2,application/*;q=0.1", TEXT),
        (f"{OM};q=0.1,{OM};version=1.0.0,text/plain;q=0.5", OPENMETRICS),
        (f"{OM},{OM};version=1.0.0;q=0.1,text/plain;q=0.5", TEXT),
        (f"text/plain;q=0.1,text/plain;q=0.9,{OM};q=0.5", TEXT),
        # nonsense stands for nothing, and harms nothing that makes sense
        (f"{OM};q=2,*/*;q=0.1", TEXT),
        (f"{OM};q=-1", TEXT),
        (f"{OM};q=,*/*;q=0.1", TEXT),
        (f"{OM};q=.", TEXT),
        (f"{OM};q=nan", TEXT),
        (f"{OM};version", TEXT),
        (f"{OM};;=;q=0.5", OPENMETRICS),
        (f";,,;;q=0.5,/,*,*/,/*,{OM}", OPENMETRICS),
        (f'x/y;z="a,b;c\\"", {OM}', OPENMETRICS),
        (f'x/y;z="{OM},', TEXT),
        (f"{OM}" + " " * MAX_HEADER, TEXT),
    ],
)
def test_what_a_header_means(accept: str | None, format: Format) -> None:
    """As RFC 9110 has it; in doubt the format that every scraper reads."""
    assert choose_format(accept) is format


def test_the_content_type_names_format_and_version() -> None:
    """Prometheus 3 throws away what it cannot recognise by it; 2 takes OpenMetrics for text."""
    assert TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        (None, False),
        ("", False),
        ("gzip", True),  # Prometheus, VictoriaMetrics
        ("gzip, deflate, br, zstd", True),  # browsers, Python's requests
        ("identity", False),  # Prometheus with enable_compression: false
        ("GZip ; Q=0.1", True),
        ("x-gzip", True),
        ("deflate, br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=1.0", True),
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("identity;q=0", False),
        ("identity;q=0, *", True),
        ("identity;q=0, gzip;q=0.1", True),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("identity, gzip", True),
        ("gzip;q=0.5, *", False),
        ("gzip;q=2", False),
        ("gzipped, gzip2", False),
        (",;,;q=1", False),
        ("gzip" + "," * MAX_HEADER, False),
    ],
)
def test_who_gets_gzip(accept_encoding: str | None, gzip: bool) -> None:
    """A client that does not accept gzip would show its user a page of garbage."""
    assert accepts_gzip(accept_encoding) is gzip


HEADERS = st.text(st.sampled_from('",;=*/ \\q01.\n') | st.characters(), max_size=30) | st.lists(
    st.sampled_from(
        ["text/plain", "application/openmetrics-text", "*/*", "gzip", "*", ";", ",", "q=0", '"', "=1"]
    )
).map("".join)


@given(HEADERS)
def test_no_header_is_an_error(header: str) -> None:
    """Whatever a client writes, it gets an answer."""
    assert choose_format(header) in Format
    assert accepts_gzip(header) in (True, False)


@given(st.sampled_from([row[1] for row in SCRAPERS]), st.randoms(use_true_random=False))
def test_order_and_spaces_mean_nothing(accept: str, chance: Random) -> None:
    """A proxy that rewrites the header does not change the format."""
    elements = accept.split(",")
    chance.shuffle(elements)
    rewritten = " ,  ".join(elements).replace(";", " ; ").upper()
    assert choose_format(rewritten) is choose_format(accept)

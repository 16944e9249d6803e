"""Requests, byte by byte."""

from __future__ import annotations

import math
from struct import pack

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import given
from support.receiver_driver import SETTINGS
from support.remote_write_reader import STALE, decompress, read, value_of

from oneshotd.core.events import series_text
from oneshotd.delivery.remote_write import encoding
from oneshotd.delivery.remote_write.encoding import Encoder, block, request, varint
from oneshotd.delivery.remote_write.settings import ReceiverSettings

AT = 1_700_000_000_123


def labels(series: str, settings: ReceiverSettings = SETTINGS) -> list[tuple[str, str]]:
    encoder = Encoder(settings)
    [found] = read(request([encoder.sample(series, None, AT)]))
    return list(found.labels)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (2**32, b"\x80\x80\x80\x80\x10"),
    ],
)
def test_varint(number: int, encoded: bytes) -> None:
    assert varint(number) == encoded


def test_a_request_with_one_sample() -> None:
    expected = (
        b"\x0a\x46"  # timeseries
        b"\x0a\x0d\x0a\x08__name__\x12\x01a"
        b"\x0a\x17\x0a\x08instance\x12\x0bedge-1:8090"
        b"\x0a\x0f\x0a\x03job\x12\x08oneshotd"
        b"\x12\x10\x09" + pack("<d", 2.5) + b"\x10\xfb\xd0\x95\xff\xbc\x31"
    )
    expected = expected[:1] + bytes([len(expected) - 2]) + expected[2:]
    made = Encoder(SETTINGS).sample("a", "2.5", AT)
    assert made == expected
    assert request([made]) == bytes([len(made), (60 << 2), len(made) - 1]) + made


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "00"),
        (1, "01 00"),
        (60, "3c ec"),
        (61, "3d f0 3c"),
        (256, "80 02 f0 ff"),
        (257, "81 02 f4 00 01"),
        (65_536, "80 80 04 f4 ff ff"),
    ],
)
def test_the_head_of_a_block(size: int, head: str) -> None:
    assert block(b"x" * size) == bytes.fromhex(head) + b"x" * size


@given(data=st.binary(max_size=300), times=st.sampled_from([1, 2, 300, 1000]))
def test_a_block_is_read_again(data: bytes, times: int) -> None:
    assert decompress(block(data * times)) == data * times


@pytest.mark.parametrize(
    ("value", "number"),
    [(None, 1.0), ("0", 0.0), ("-2.5e3", -2500.0), ("+Inf", math.inf), ("-Inf", -math.inf)],
)
def test_values(value: str | None, number: float) -> None:
    [found] = read(request([Encoder(SETTINGS).sample("a", value, AT)]))
    [(bits, at)] = found.samples
    assert (value_of(bits), at) == (number, AT)


def test_a_value_that_is_no_number_is_no_stale_marker() -> None:
    [found] = read(request([Encoder(SETTINGS).sample("a", "NaN", AT)]))
    assert found.samples[0][0] == 0x7FF8000000000000


def test_the_marker_has_the_bits_of_a_stale_one() -> None:
    [found] = read(request([Encoder(SETTINGS).marker('a{x="1"}', AT)]))
    assert found.samples == ((STALE, AT),)


@pytest.mark.parametrize("at", [0, 1, 2**35 - 1, 2**35, AT, 2**42 - 1, 2**42, 2**53])
def test_times_of_all_lengths(at: int) -> None:
    [found] = read(request([Encoder(SETTINGS).sample("a", None, at)]))
    assert found.samples[0][1] == at


def test_labels_are_sorted_and_ours_win_over_the_event_s_own() -> None:
    series = series_text("m", [("job", "backup"), ("zone", 'a "b"\\\n'), ("A", "ü"), ("exported_job", "x")])
    assert labels(series) == [
        ("A", "ü"),
        ("__name__", "m"),
        ("exported_exported_job", "backup"),
        ("exported_job", "x"),
        ("instance", "edge-1:8090"),
        ("job", "oneshotd"),
        ("zone", 'a "b"\\\n'),
    ]
    assert labels('m{instance="web1"}')[1] == ("exported_instance", "web1")


def test_without_a_job_the_event_s_own_stays() -> None:
    assert labels('m{job="backup"}', evolve(SETTINGS, job="", instance="")) == [
        ("__name__", "m"),
        ("job", "backup"),
    ]


@pytest.mark.parametrize(
    ("series", "fault"),
    [
        ('a{x="1"}', None),
        ('a{x="1",y="2"}', encoding.MAX_LABELS),
        ('a{x="12345678901"}', None),
        ('a{x="123456789012"}', encoding.MAX_LABEL_VALUE),
        ('a{x="ääääää"}', encoding.MAX_LABEL_VALUE),
        ("a23456789012", encoding.MAX_LABEL_VALUE),
    ],
)
def test_limits_count_what_the_receiver_counts(series: str, fault: str | None) -> None:
    """VictoriaMetrics counts ``__name__``, and answers 204 for what it drops."""
    encoder = Encoder(evolve(SETTINGS, max_labels=4, max_label_value=11))
    assert encoder.fault(series) == encoder.fault(series) == fault


def test_the_kept_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_KEPT", 3)
    encoder = Encoder(SETTINGS)
    first = encoder.sample("a0", None, AT)
    for number in range(10):
        encoder.sample(f"a{number}", None, AT)
        assert len(encoder._kept) <= 3
    assert encoder.sample("a0", None, AT) == first
    monkeypatch.setattr(encoding, "MAX_KEPT", 1000)
    monkeypatch.setattr(encoding, "MAX_KEPT_BYTES", 1000)
    most = 0
    for number in range(100):
        encoder.sample(f"a{number}", None, AT)
        assert sum(len(name) + len(kept[0]) + len(kept[1]) for name, kept in encoder._kept.items()) <= 1000
        most = max(most, len(encoder._kept))
    assert most > 3
    assert encoder.sample("a0", None, AT) == first

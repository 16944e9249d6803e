"""The same bytes as Google's protobuf makes from the public schema of Remote Write 1.0."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from support.debian_packages import fetch
from support.examples import examples
from support.receiver_driver import SETTINGS
from support.remote_write_reader import decompress

from oneshotd.core.events import labels_of, series_text
from oneshotd.delivery.remote_write.encoding import Encoder, request

pytestmark = pytest.mark.e2e

#: A sample: series, value, Unix ms.
Sample = tuple[str, str | None, int]

Reference = Callable[[Sequence[Sample]], bytes]


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Return the bytes of a WriteRequest, by the protobuf package of Debian."""
    os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    package = fetch("python3-protobuf") / "usr/lib/python3/dist-packages"
    sys.path.append(str(package))
    try:
        return _reference()
    finally:
        sys.path.remove(str(package))


def _reference() -> Reference:
    from importlib import import_module

    descriptor: Any = import_module("google.protobuf.descriptor_pb2")
    pools: Any = import_module("google.protobuf.descriptor_pool")
    factories: Any = import_module("google.protobuf.message_factory")
    field = descriptor.FieldDescriptorProto
    file = descriptor.FileDescriptorProto(name="remote.proto", package="p", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str | None]) -> None:
        made = file.message_type.add(name=name)
        for field_name, number, kind, inner in fields:
            label = field.LABEL_REPEATED if inner else field.LABEL_OPTIONAL
            added = made.field.add(name=field_name, number=number, type=kind, label=label)
            if inner:
                added.type_name = f".p.{inner}"

    message("Label", ("name", 1, field.TYPE_STRING, None), ("value", 2, field.TYPE_STRING, None))
    message("Sample", ("value", 1, field.TYPE_DOUBLE, None), ("timestamp", 2, field.TYPE_INT64, None))
    labels, samples = ("labels", 1, field.TYPE_MESSAGE, "Label"), ("samples", 2, field.TYPE_MESSAGE, "Sample")
    message("TimeSeries", labels, samples)
    message("WriteRequest", ("timeseries", 1, field.TYPE_MESSAGE, "TimeSeries"))
    pool = pools.DescriptorPool()
    pool.Add(file)
    kind = factories.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName("p.WriteRequest"))

    def encode(given: Sequence[Sample]) -> bytes:
        made = kind()
        for series, value, at in given:
            one = made.timeseries.add()
            found = {**labels_of(series), "job": "oneshotd", "instance": "edge-1:8090"}
            found["__name__"] = series.partition("{")[0]
            for name in sorted(found):
                one.labels.add(name=name, value=found[name])
            one.samples.add(value=1.0 if value is None else float(value), timestamp=at)
        encoded: bytes = made.SerializeToString()
        return encoded

    return encode


NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("job", "instance", "__name__")
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)
SERIES = st.builds(lambda name, pairs: series_text(name, pairs.items()), NAMES, st.dictionaries(NAMES, TEXTS))
# proto3 leaves out a zero: the daemon writes it, which every decoder reads the same way.
VALUES = st.one_of(
    st.none(), st.floats(allow_nan=False).filter(bool).map(repr), st.sampled_from(["+Inf", "-Inf", "NaN"])
)
TIMES = st.one_of(st.integers(1_600_000_000_000, 2_000_000_000_000), st.integers(1, 2**53))


@given(samples=st.lists(st.tuples(SERIES, VALUES, TIMES), max_size=20))
@settings(
    examples(30),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
)
def test_the_bytes_are_those_of_protobuf(samples: list[Sample], reference: Reference) -> None:
    encoder = Encoder(evolve(SETTINGS))
    ours = decompress(request([encoder.sample(*sample) for sample in samples]))
    assert ours == reference(samples)


def test_the_reference_is_the_schema_of_remote_write(reference: Reference) -> None:
    """Written by hand from the specification, so that the reference itself is checked."""
    expected = (
        b"\x0a\x44\x0a\x0d\x0a\x08__name__\x12\x01a\x0a\x17\x0a\x08instance\x12\x0bedge-1:8090"
        b"\x0a\x0f\x0a\x03job\x12\x08oneshotd\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf8\x7f\x10\x05"
    )
    assert reference([("a", "NaN", 5)]) == expected[:1] + bytes([len(expected) - 2]) + expected[2:]
    assert math.isnan(float("NaN"))

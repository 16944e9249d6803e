"""Encode samples as a request of Remote Write 1.0: protobuf in a snappy block.

Both by hand, as the messages are few: ``WriteRequest{timeseries = 1}``, ``TimeSeries{labels = 1, samples =
2}``, ``Label{name = 1, value = 2}``, ``Sample{value = 1 (double), timestamp = 2 (int64, ms)}``. The block has
literals only: it is not compressed, which every snappy decoder reads.

All of a series but its sample is encoded once and kept (`Encoder.prefix`).
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack

from oneshotd.core.events import labels_of, metric_of
from oneshotd.core.scrape_limits import EXPORTED
from oneshotd.delivery.remote_write.settings import ReceiverSettings

#: Series whose encoded labels are kept, some 200 bytes each, and the bytes of all of them.
MAX_KEPT, MAX_KEPT_BYTES = 50_000, 1 << 25

#: Names of labels whose encoding is kept.
MAX_NAMES = 5000

#: Reasons of losses: the sample exceeds a limit that the receiver's settings name.
MAX_LABELS, MAX_LABEL_VALUE = "max_labels", "max_label_value"

#: The value of a stale marker, the NaN that ends a series (prometheus/model/value). Kept as bytes, since a
#: float may lose the bits of a NaN.
STALE = b"\x02\x00\x00\x00\x00\x00\xf0\x7f"

_ONE = pack("<d", 1.0)
_SHORT = tuple(bytes((number,)) for number in range(0x80))
#: The length of the literals of a block, one after the other; more needs a longer length.
_LITERAL = 65_536
#: Times (ms) whose varint has six bytes: from 1971 to 2109.
_SIX_FROM, _SIX_UNTIL = 1 << 35, 1 << 42
_SAMPLE, _SAMPLE_SIX = b"\x12", b"\x12\x10\x09"


def varint(number: int) -> bytes:
    """Return an unsigned number as a protobuf varint."""
    if number < 0x80:
        return _SHORT[number]
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def block(data: bytes) -> bytes:
    """Return data as a snappy block of literals."""
    parts = [varint(len(data))]
    for start in range(0, len(data), _LITERAL):
        literal = data[start : start + _LITERAL]
        last = len(literal) - 1
        if last < 60:
            parts.append(bytes((last << 2,)))
        elif last < 256:
            parts.append(bytes((60 << 2, last)))
        else:
            parts.append(b"\xf4" + pack("<H", last))
        parts.append(literal)
    return b"".join(parts)


class Encoder:
    """Encodes the samples for one receiver."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._kept: dict[str, tuple[bytes, bytes] | str] = {}
        self._kept_bytes = 0
        self._names: dict[str, bytes] = {}
        ours = {"job": settings.job, "instance": settings.instance}
        self._given = {name: value for name, value in ours.items() if value}

    def fault(self, series: str) -> str | None:
        """Return the limit that the series exceeds; None if it exceeds none."""
        found = self._kept.get(series) or self._keep(series)
        return found if type(found) is str else None

    def sample(self, series: str, value: str | None, at: int) -> bytes:
        """Return the ``timeseries`` field of a request for one sample.

        :param series: without a `fault`.
        :param value: None: 1.
        :param at: Unix ms.
        """
        return self._sample(series, _ONE if value is None else pack("<d", float(value)), at)

    def marker(self, series: str, at: int) -> bytes:
        """Return the ``timeseries`` field of a request for a stale marker."""
        return self._sample(series, STALE, at)

    def _sample(self, series: str, value: bytes, at: int) -> bytes:
        found = self._kept.get(series) or self._keep(series)
        assert type(found) is tuple, "a series with a fault has no samples"
        if _SIX_FROM <= at < _SIX_UNTIL:
            time = bytes(
                (
                    at & 0x7F | 0x80,
                    at >> 7 & 0x7F | 0x80,
                    at >> 14 & 0x7F | 0x80,
                    at >> 21 & 0x7F | 0x80,
                    at >> 28 & 0x7F | 0x80,
                    at >> 35,
                )
            )
            return found[0] + value + b"\x10" + time
        sample = b"\x09" + value + b"\x10" + varint(at)
        return _field(b"\x0a", found[1] + _field(_SAMPLE, sample))

    def _keep(self, series: str) -> tuple[bytes, bytes] | str:
        found = self._encode(series)
        size = len(series) + (0 if type(found) is str else len(found[0]) + len(found[1]))
        if len(self._kept) >= MAX_KEPT or self._kept_bytes + size > MAX_KEPT_BYTES:
            self._kept.clear()
            self._kept_bytes = 0
        self._kept[series] = found
        self._kept_bytes += size
        return found

    def _encode(self, series: str) -> tuple[bytes, bytes] | str:
        """Return the start of a field with a six-byte time, and the labels; or the limit that is exceeded."""
        labels = self._labels(series)
        if 0 < self._settings.max_labels < len(labels):
            return MAX_LABELS
        most = self._settings.max_label_value
        if 0 < most < max(len(value.encode()) for _, value in labels):
            return MAX_LABEL_VALUE
        parts: list[bytes] = []
        for name, text in labels:
            start, value = self._names.get(name) or self._name(name), text.encode()
            size = varint(len(value))
            parts += (b"\x0a", varint(len(start) + len(size) + len(value)), start, size, value)
        encoded = b"".join(parts)
        return b"\x0a" + varint(len(encoded) + 18) + encoded + _SAMPLE_SIX, encoded

    def _name(self, name: str) -> bytes:
        """Return the start of a label's content, up to the length of its value."""
        if len(self._names) >= MAX_NAMES:
            self._names.clear()
        found = self._names[name] = _field(b"\x0a", name.encode()) + b"\x12"
        return found

    def _labels(self, series: str) -> list[tuple[str, str]]:
        """Return the labels, sorted, as a scrape with ``honor_labels: false`` would store them."""
        own = labels_of(series)
        for name in self._given:
            if name in own:
                value, to = own.pop(name), EXPORTED + name
                while to in own:
                    to = EXPORTED + to
                own[to] = value
        own.update(self._given)
        own["__name__"] = metric_of(series)
        return sorted(own.items())


def request(fields: Iterable[bytes]) -> bytes:
    """Return the body of a request with these ``timeseries`` fields."""
    return block(b"".join(fields))


def fitting(fields: Iterable[bytes], most: int) -> list[bytes]:
    """Return the first fields that have so many bytes together at most; in any case the very first one."""
    found: list[bytes] = []
    for encoded in fields:
        most -= len(encoded)
        if most < 0 and found:
            break
        found.append(encoded)
    return found


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content

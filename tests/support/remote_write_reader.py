"""Read a request of Remote Write 1.0: a decoder written from the specifications, not from the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack

from attrs import frozen

#: The bytes of a stale marker's value.
STALE = 0x7FF0000000000002


@frozen
class Series:
    """One ``TimeSeries``.

    :param samples: (the value's 64 bits, Unix ms).
    """

    labels: tuple[tuple[str, str], ...]
    samples: tuple[tuple[int, int], ...]


def value_of(bits: int) -> float:
    """Return the number of a value's bits."""
    number: float = unpack("<d", bits.to_bytes(8, "little"))[0]
    return number


def decompress(block: bytes) -> bytes:
    """Decode a snappy block (format_description.txt): literals and copies."""
    length, place = _varint(block, 0)
    out = bytearray()
    while place < len(block):
        tag = block[place]
        place += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                width = size - 59
                size = int.from_bytes(block[place : place + width], "little")
                place += width
            out += block[place : place + size + 1]
            assert len(block) >= place + size + 1, "the literal is cut off"
            place += size + 1
            continue
        if tag & 3 == 1:
            size, back = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[place]
            place += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            size, back = (tag >> 2) + 1, int.from_bytes(block[place : place + width], "little")
            place += width
        for _ in range(size):
            out.append(out[-back])
    assert len(out) == length, "the length of the block is wrong"
    return bytes(out)


def read(body: bytes) -> list[Series]:
    """Return the series of a request."""
    found = []
    for number, content in _fields(decompress(body)):
        assert number == 1 and isinstance(content, bytes), "a WriteRequest has time series alone"
        labels, samples = [], []
        for kind, part in _fields(content):
            assert isinstance(part, bytes)
            pairs = dict(_fields(part))
            if kind == 1:
                name, value = pairs[1], pairs[2]
                assert isinstance(name, bytes) and isinstance(value, bytes)
                labels.append((name.decode(), value.decode()))
            else:
                assert kind == 2
                bits, at = pairs[1], pairs[2]
                assert isinstance(bits, int) and isinstance(at, int)
                samples.append((bits, at))
        found.append(Series(tuple(labels), tuple(samples)))
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
        elif key & 7 == 1:
            yield key >> 3, int.from_bytes(message[place : place + 8], "little")
            place += 8
        else:
            assert key & 7 == 2
            size, place = _varint(message, place)
            assert place + size <= len(message), "the field is cut off"
            yield key >> 3, message[place : place + size]
            place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7

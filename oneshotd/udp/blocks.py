"""Datagrams that are blocks of a text: the lines that a copying program has cut in two.

``nc -u < file`` sends what it reads at once, whatever lines are in it. The two halves of a line
would be garbage each: ``type=dep`` and ``loy&version=1``, or worse ``ty`` and ``pe=deploy``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

#: Bytes that `nc -u`, and the buffers of programs that write into it, copy at once. A datagram of
#: several lines and just this size whose last line has no end is such a block. Smaller ones are
#: not told: clients that fill a packet of some 1400 bytes may well send 1024.
BLOCK_SIZES = frozenset((2048, 4096, 8192, 16384, 32768))

#: Seconds in which the sender's next datagram is taken for the rest of its last line.
REST_SECONDS = 1.0

#: Senders that are remembered.
MAX_SENDERS = 64


class Blocks:
    """Finds the halves of lines, in the datagrams of each sender in their order.

    :param seconds: a clock that does not jump.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._expecting: dict[Hashable, float] = {}  # sender -> until when a rest is expected

    def concerns(self, data: bytes) -> bool:
        """Whether `whole_lines` may find something; quick, for it is asked of every datagram."""
        return bool(self._expecting) or len(data) in BLOCK_SIZES

    def whole_lines(self, data: bytes, sender: Hashable) -> tuple[bytes, list[bytes]]:
        """Return the datagram without halves of lines, and these halves."""
        halves = []
        is_block = len(data) in BLOCK_SIZES
        until = self._expecting.pop(sender, None)
        if until is not None and self._seconds() < until:
            rest, _, data = data.partition(b"\n")
            if rest:
                halves.append(rest)
        if is_block and b"\n" in data and not data.endswith(b"\n"):
            data, _, beginning = data.rpartition(b"\n")
            halves.append(beginning)
            if len(self._expecting) >= MAX_SENDERS:
                self._expecting.clear()
            self._expecting[sender] = self._seconds() + REST_SECONDS
        return data, halves

"""Inflates a body with ``Content-Encoding: gzip``, a step in a turn of the reactor.

A small body can be inflated to a large one, so the output is bounded while it is made, and nothing beyond the
bound is inflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from io import BytesIO

from oneshotd.errors import Refused
from oneshotd.web.transport.request import too_large

#: Bytes that are inflated in one turn: some milliseconds on a slow machine.
TURN = 256 * 1024

#: Bytes of input that are given to zlib at once: it copies what is left of them at each call.
PORTION = 16 * 1024

#: Members of a body (RFC 1952 section 2.2); compressors make one. Each costs time, even if it is empty.
MAX_MEMBERS = 16

_GZIP = 16 + zlib.MAX_WBITS


async def inflated(
    body: bytes, *, most: int, hold: Callable[[int], None], pause: Callable[[], Awaitable[None]]
) -> bytes:
    """Return the body without its coding.

    :param most: bytes that it may have then.
    :param hold: is told how many further bytes are in memory; may raise.
    :param pause: waits for the next turn of the reactor; a small body does without.
    :raises Refused: 413 (too large), 400 (not gzip, or cut off).
    """
    output = BytesIO()
    inflater, members = zlib.decompressobj(_GZIP), 1
    size, turn_ends = 0, TURN
    at, rest = 0, b""
    while True:
        if not rest:
            rest = body[at : at + PORTION]
            at += len(rest)
        try:
            part = inflater.decompress(rest, TURN)
        except zlib.error as error:
            raise _malformed(f"not gzip: {error}") from None
        size += len(part)
        if size > most:
            raise too_large(most)
        hold(len(part))
        output.write(part)
        if inflater.eof:
            rest = inflater.unused_data
            if not (rest.strip(b"\0") or body[at:].strip(b"\0")):  # zeros fill up a block
                return output.getvalue()
            members += 1
            if members > MAX_MEMBERS:
                raise _malformed(f"expected at most {MAX_MEMBERS} members")
            inflater = zlib.decompressobj(_GZIP)
        else:
            rest = inflater.unconsumed_tail
            if not (part or rest or at < len(body)):
                raise _malformed("it is cut off")
        if size + at >= turn_ends:
            turn_ends = size + at + TURN
            await pause()


def _malformed(what: str) -> Refused:
    return Refused(f"body with Content-Encoding gzip: {what}", reason="encoding")

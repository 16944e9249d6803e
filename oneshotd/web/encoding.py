"""gzip, where the client takes it and it is worth it."""

from __future__ import annotations

import gzip

from twisted.internet.threads import deferToThread

#: Bytes from which on a body is compressed: below, it fits one packet anyway (RFC 9110 knows no
#: number; nginx takes 20, Apache none). A response has at least some kilobytes of own metrics.
WORTH_IT = 1400

#: zlib's level: each further one costs more time than it saves bytes of series text.
LEVEL = 1

#: Bytes from which on it is done in a thread: some milliseconds of zlib.
LARGE = 256 * 1024


async def compressed(body: bytes) -> bytes:
    """The body, gzipped; a large one off the reactor's thread."""
    if len(body) < LARGE:
        return gzip.compress(body, LEVEL, mtime=0)
    return await deferToThread(gzip.compress, body, LEVEL, mtime=0)

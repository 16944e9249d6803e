"""gzip, where the client takes it and it is worth it.

Measured with series of 110 bytes, as tools report them, and zlib 1.2.13 on one core:

=========  =======  =======  =======  =======
body       level 1  level 4  level 6  level 9
=========  =======  =======  =======  =======
5 KB       1.1 KB   1.1 KB   1.1 KB   1.1 KB
in         0.02 ms  0.02 ms  0.02 ms  0.03 ms
2.3 MB     429 KB   379 KB   360 KB   339 KB
in         15 ms    48 ms    63 ms    218 ms
=========  =======  =======  =======  =======
"""

from __future__ import annotations

import gzip
from typing import cast

from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool

#: Bytes from which on a body is compressed: below, it fits one packet anyway (RFC 9110 knows no
#: number; nginx takes 20, Apache none). A response has at least some kilobytes of own metrics.
WORTH_IT = 1400

#: zlib's level: the further ones take three times as long and more, for a tenth less.
LEVEL = 1

#: Bytes from which on it is done in a thread: 1 to 2 ms of zlib, fifty times what the thread costs.
LARGE = 256 * 1024


async def compressed(body: bytes, reactor: IReactorTime) -> bytes:
    """The body, gzipped; a large one in a thread.

    :param reactor: with threads, if the body is large.
    """
    if len(body) < LARGE:
        return gzip.compress(body, LEVEL, mtime=0)
    threads = cast(IReactorThreads, reactor)
    return await deferToThreadPool(threads, threads.getThreadPool(), gzip.compress, body, LEVEL, mtime=0)

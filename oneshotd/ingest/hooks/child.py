"""The process that translates one large body; `large_bodies.py` starts it.

Standard input has a job, standard output gets the result. It limits itself: memory, processor time, and the
time on the clock; and it ends with the daemon, by descriptor 3, of which the daemon holds the other end.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import select
import signal
import sys
from contextlib import suppress

from oneshotd.errors import Refused
from oneshotd.ingest.hooks.wire import Head, refusal_line, result_lines

#: Bytes of address space. A body of 25 MB of records takes some 250 MB when it is decoded.
MAX_MEMORY = 512 * 1024 * 1024

#: Seconds of processor time. 25 MB take some 2 s.
MAX_CPU_SECONDS = 20

#: Seconds on the clock.
MAX_SECONDS = 30

#: The descriptor whose other end the daemon holds.
LIFE_LINE = 3


def main() -> None:
    """Translate the body on standard input."""
    _end_with_the_daemon()
    _limit()
    gc.disable()  # the tree of a body has no cycles, and is scanned again and again while it grows
    out = sys.stdout.buffer
    try:
        job = None
        head = Head.parse(sys.stdin.buffer.readline())
        job = head.job(sys.stdin.buffer.read(head.size))
        lines = list(result_lines(job.recipe.translate(job.message, job.context)))
    except Refused as refused:
        lines = [refusal_line(refused)]
    except MemoryError:
        del job
        text = f"the body takes more than {MAX_MEMORY // 1024**2} MiB of memory when it is decoded"
        lines = [refusal_line(Refused(text, reason="limit", status=413))]
    out.writelines(lines)
    out.flush()
    os._exit(0)  # freeing the tree takes as long as making it


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    # At the second limit the kernel would send SIGKILL, which the daemon could not tell from another one.
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(MAX_SECONDS)
    with suppress(OSError):  # a sandbox may forbid it
        os.nice(5)


def _end_with_the_daemon() -> None:
    """Let the kernel end this process when the other end of `LIFE_LINE` is closed.

    The daemon cannot do that when it is killed, and a decoder that runs for seconds looks at nothing.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(LIFE_LINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(LIFE_LINE, fcntl.F_GETFL)
    fcntl.fcntl(LIFE_LINE, fcntl.F_SETFL, flags | os.O_ASYNC)
    poll = select.poll()
    poll.register(LIFE_LINE, select.POLLIN)
    if poll.poll(0):  # it was closed before
        os._exit(1)

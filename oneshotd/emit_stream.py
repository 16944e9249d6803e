"""Lines of standard input as events, in batches: by count for files, by time for ``tail -f``.

The daemon takes a body whole or not at all. A batch that it refuses is halved until the bad lines
stand alone; they are named with the daemon's reason, and the good ones are sent.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from oneshotd.emit_answer import EmitError, EmitRefused, EmitUnavailable
from oneshotd.emit_send import sender
from oneshotd.emit_settings import Settings

#: Lines and bytes of a batch. The daemon takes 10 000 and 1 MiB.
BATCH_LINES = 1000
BATCH_BYTES = 256 * 1024
#: Seconds that a line waits for others.
BATCH_SECONDS = 0.25
#: Bytes of a line; the daemon takes no longer body.
LONGEST_LINE = 1024 * 1024
#: Bad lines that are named; the others are counted.
MAX_NAMED = 20

#: Seconds until there is a progress line, and between two states of it.
PROGRESS_AFTER = 1.0
PROGRESS_EVERY = 0.2

OK, REFUSED, UNAVAILABLE = 0, 1, 75

# What says that the lines are at fault, not who sends them or where.
_FAULT_OF_LINES = (400, 413, 422)

Numbered = tuple[int, bytes]
Complain = Callable[[str], None]


def stream(settings: Settings, common: bytes, complain: Complain, source: int = 0) -> int:
    """Send what can be read, to its end; the exit status.

    SIGINT and SIGTERM end it, too: what was read goes out first, without a second attempt.

    :param common: labels for each line, as a line; b"" for none.
    :param source: a file descriptor.
    """
    stop = Stop()
    progress = Progress(source)
    outlet = Outlet(settings, common, complain, progress, stop)
    previous = {number: signal.signal(number, stop.asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            with stop:
                for batch in batches(source, progress):
                    with stop.postponed():
                        outlet.send(batch)
    finally:
        for number, action in previous.items():
            signal.signal(number, action)

"""Send lines of standard input as events, in batches: by count for files, by time for ``tail -f``.

The daemon takes a body whole or not at all. A batch that it refuses is halved until the bad lines
stand alone; they are named with the daemon's reason, and the good ones are sent.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from oneshotd.emit.answers import EmitError, EmitRefused
from oneshotd.emit.cli.help import OK, REFUSED, UNREADABLE, status_of
from oneshotd.emit.cli.progress import Progress
from oneshotd.emit.settings import Settings
from oneshotd.emit.transport import Sender, sender

#: Lines and bytes of a batch. The daemon takes 10 000 and 1 MiB.
BATCH_LINES = 1000
BATCH_BYTES = 256 * 1024
#: Seconds that a line waits for others.
BATCH_SECONDS = 0.25
#: Bytes of a line that are kept; the daemon refuses a body of this length.
LONGEST_LINE = 1024 * 1024 + 1
#: Bad lines that are named; the others are counted.
MAX_NAMED = 20

# Statuses that refuse a line; others refuse the client or the URL.
_FAULT_OF_LINES = (400, 413, 422)

#: A line with its number in the input, from 1.
Numbered = tuple[int, bytes]
Complain = Callable[[str], None]


def stream(settings: Settings, common: bytes, complain: Complain, source: int = 0) -> int:
    """Send the input to its end; return the exit status.

    SIGINT and SIGTERM end it, too: complete lines that were read are sent first, without retries.
    A second signal ends the process at once.

    :param common: labels for each line, as a line; b"" for none.
    :param source: a file descriptor.
    :raises SettingsError: a file with a credential cannot be used; nothing was sent.
    """
    stop, progress = Stop(), Progress(source)
    client = sender(settings, stop.sleep)
    outlet = Outlet(client, common, progress, complain)
    previous = {number: signal.signal(number, stop.heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for batch in batches(source, stop, progress):
            if stop.number:
                client.give_up()
            outlet.send(batch)
            progress.show(outlet.sent, outlet.refused)
    except Stopped:  # between two attempts
        outlet.stopped(signal.Signals(stop.number).name)
    except EmitError as error:
        outlet.stopped(settings.located(error))
        return status_of(error)
    except OSError as error:
        outlet.stopped(f"standard input: {error.strerror}")
        return UNREADABLE
    finally:
        client.close()
        progress.end(outlet.sent, outlet.refused)
        for number, action in previous.items():
            signal.signal(number, action)
    if outlet.refused:
        complain(f"refused {outlet.refused} of {outlet.refused + outlet.sent} lines")
    if stop.number:
        return 128 + stop.number
    return REFUSED if outlet.refused else OK


class Stopped(Exception):
    """A signal arrived while the process waited."""


class Stop:
    """Handles SIGINT and SIGTERM, which interrupt waiting but no request."""

    def __init__(self) -> None:
        self.number = 0
        self._waits = False

    def heard(self, number: int, frame: FrameType | None) -> None:
        """Record the signal; a second one has its default action."""
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
        if self._waits:
            raise Stopped

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Allow signals to interrupt the block.

        :raises Stopped: a signal arrived, now or before.
        """
        self._waits = True
        try:
            if self.number:
                raise Stopped
            yield
        finally:
            self._waits = False

    def sleep(self, seconds: float) -> None:
        """Like `time.sleep`; raises `Stopped`."""
        with self.waiting():
            time.sleep(seconds)


class Lines:
    r"""Splits bytes into numbered lines without blank ones; only ``\n`` ends a line, as in the daemon.

    The byte order mark and the blanks that the daemon strips are stripped here: with the labels of
    the command line they would no longer be at the beginning of the body and the end of a line.
    """

    def __init__(self) -> None:
        self._number = 0
        self._begun = b""

    def feed(self, data: bytes) -> Iterator[Numbered]:
        """Return the lines that these bytes complete."""
        *ended, begun = data.split(b"\n")
        for part in ended:
            self._number += 1
            line = (self._begun + part)[:LONGEST_LINE]
            if self._number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.rstrip(b" \t\r\0")
            self._begun = b""
            if line and not line.isspace():
                yield self._number, line
        self._begun = (self._begun + begun)[:LONGEST_LINE]


def batches(source: int, stop: Stop, progress: Progress) -> Iterator[list[Numbered]]:
    """Return the input in batches; end with the input or at a signal.

    :raises OSError: the input cannot be read.
    """
    lines, batch, size, due = Lines(), list[Numbered](), 0, 0.0
    ended = False
    while not ended:
        try:
            with stop.waiting():
                wait = max(0.0, due - time.monotonic()) if batch else None
                ready = select.select([source], [], [], wait)[0]
        except Stopped:
            break
        data = os.read(source, 65536) if ready else b""
        progress.read(len(data))
        ended = bool(ready) and not data
        for line in lines.feed(b"\n" if ended else data):  # the last line may lack its end
            if not batch:
                due = time.monotonic() + BATCH_SECONDS
            batch.append(line)
            size += len(line[1])
            if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch and time.monotonic() >= due:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Outlet:
    """Sends batches and counts sent and refused lines.

    :param common: labels for each line, as a line; b"" for none.
    """

    def __init__(self, client: Sender, common: bytes, progress: Progress, complain: Complain) -> None:
        self.sent = 0
        self.refused = 0
        self._next = 1
        self._client = client
        self._suffix = b"&" + common if common else b""
        self._progress = progress
        self._complain = complain

    def send(self, batch: Sequence[Numbered]) -> None:
        """Send the good lines of a batch and name the bad ones.

        :raises EmitError: further batches would fail, too.
        """
        lines = [line + self._suffix for _, line in batch]
        try:
            if len(lines) == 1:  # the refusal then has no line number of the daemon's
                # Without the line end the daemon may take it for lines that were joined.
                self._client.event(lines[0] + b"\n")
            else:
                self._client.lines(lines)
            self.sent += len(lines)
        except EmitRefused as error:
            if error.status not in _FAULT_OF_LINES:
                raise
            if len(batch) > 1:
                half = len(batch) // 2
                self.send(batch[:half])
                self.send(batch[half:])
            else:
                self._bad(batch[0][0], error)
        self._next = batch[-1][0] + 1

    def stopped(self, why: str) -> None:
        """Report the first line that was not sent."""
        self._progress.clear()
        self._complain(f"{why}; stopped before line {self._next}, with {self.sent} sent")

    def _bad(self, number: int, error: EmitRefused) -> None:
        self.refused += 1
        if self.refused <= MAX_NAMED:
            self._progress.clear()
            self._complain(f"line {number}: {error}")
            if self.refused == MAX_NAMED:
                self._complain("further lines that are refused are only counted")

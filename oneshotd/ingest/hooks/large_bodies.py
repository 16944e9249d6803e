"""Translate large bodies in a process of their own: decoding 25 MB holds an interpreter for seconds.

| state   | entered                              | left                                                    |
|---------|--------------------------------------|---------------------------------------------------------|
| waiting | a body arrives while another is read | it is its turn; or its client has gone                  |
| running | its process is started               | the process has ended; at `cancel` and at a time limit  |
|         |                                      | it is killed first                                      |

One process at a time; at most `MAX_WAITING` bodies wait, others are refused with 503.
"""

from __future__ import annotations

import signal
import sys
from collections import deque
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Context, Message, Translation
from oneshotd.ingest.hooks.child import LIFE_LINE, MAX_CPU_SECONDS, MAX_SECONDS
from oneshotd.ingest.hooks.wire import Job, ResultReader

#: Bytes of a body that is translated in this process: it takes 10 ms.
LARGE = 256 * 1024

#: Commas of such a body, each times `Recipe.weight`: it has no more elements. That takes some 40 ms.
MANY = 25_000

#: `work` of such a body, see `dialects.mapping.outcomes`. That takes some 40 ms, too.
SMALL_WORK = 256 * 1024

#: Bodies that wait for the process, each with its bytes in memory.
MAX_WAITING = 4

#: Bytes of a result, of a line in it, and of what the process writes to standard error.
MAX_RESULT, MAX_LINE, MAX_COMPLAINT = 64 * 1024 * 1024, 4 * 1024 * 1024, 4096

#: Bytes that are written to it at once; a pipe takes no more.
PIECE = 64 * 1024

#: The process imports what this one would, and nothing from its environment or working directory.
_CODE = "import sys; sys.path[:] = sys.argv[1:]; from oneshotd.ingest.hooks.child import main; main()"


def is_large(body: bytes, recipe: Recipe) -> bool:
    """Return whether a body would hold this process for too long."""
    return len(body) > LARGE or body.count(b",") * recipe.weight > MANY


@define(eq=False)
class _Task:
    """A body and the result that its request awaits."""

    job: Job
    done: Deferred[Translation]
    process: _Reader | None = None


class LargeBodies:
    """Translates large bodies, one at a time."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[_Task] = deque()
        self._running: _Task | None = None
        self._stopped = False

    def translate(self, recipe: Recipe, message: Message, context: Context) -> Deferred[Translation]:
        """Return the translation of a message; to cancel it ends its process.

        :raises Refused: as the recipe does; 503 if too many bodies wait, or the process fails.
        """
        done: Deferred[Translation] = Deferred(lambda _: self._drop(task))
        task = _Task(Job(recipe=recipe, message=message, context=context), done)
        if self._stopped or len(self._waiting) >= MAX_WAITING:
            text = "too many large bodies wait to be read" if not self._stopped else "the daemon stops"
            done.errback(Refused(text, reason="busy", status=503, retry_after=10))
        else:
            self._waiting.append(task)
            self._next()
        return done

    def stop(self) -> None:
        """Refuse what waits, and end the process."""
        self._stopped = True
        while self._waiting:
            refused = Refused("the daemon stops", reason="busy", status=503)
            self._waiting.popleft().done.errback(refused)
        if self._running is not None and self._running.process is not None:
            self._running.process.kill("the daemon stops")

    def _next(self) -> None:
        if self._running is None and self._waiting:
            task = self._running = self._waiting.popleft()
            task.process = _Reader(self._reactor)
            task.process.ended.addBoth(self._finish, task)
            task.process.start(task.job)

    def _drop(self, task: _Task) -> None:
        """Forget a task whose request has gone."""
        if task in self._waiting:
            self._waiting.remove(task)
        elif task.process is not None:
            task.process.kill("its client has gone")

    def _finish(self, result: Translation | Failure, task: _Task) -> None:
        self._running = None
        if isinstance(result, Failure) and not result.check(Refused):
            self._log.error(
                "hook {name}: the process that reads large bodies has failed: {why}",
                name=task.job.recipe.name,
                why=result.getErrorMessage(),
            )
            text = "the body could not be read; the log of the daemon has the reason"
            result = Failure(Refused(text, reason="hook", status=503))
        if not task.done.called:
            task.done.callback(result)
        self._next()


@implementer(IPullProducer)
class _Body:
    """Writes a body to the process in pieces: the transport would copy a large one as a whole, and twice."""

    def __init__(self, transport: Any, body: bytes) -> None:
        self._transport = transport
        self._rest = memoryview(body)

    def resumeProducing(self) -> None:
        """Write the next piece; behind the last one comes the end of the file."""
        piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
        self._transport.write(bytes(piece))
        if not self._rest:
            self._transport.unregisterProducer()
            self._transport.closeStdin()

    def stopProducing(self) -> None:
        """Write no more: the process has ended."""
        self._rest = self._rest[:0]


class _Failed(Exception):
    """The process has ended without a result."""


class _Reader(ProcessProtocol):
    """One process.

    :ivar ended: its translation, when it has ended.
    """

    def __init__(self, reactor: Any) -> None:
        self.ended: Deferred[Translation] = Deferred()
        self._reactor = reactor
        self._result = ResultReader()
        self._rest = b""
        self._size = 0
        self._complaint = b""
        self._killed: str | None = None
        self._timeout: IDelayedCall | None = None

    def start(self, job: Job) -> None:
        """Start the process and write the job."""
        try:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-I", "-c", _CODE, *sys.path],
                env=None,
                childFDs={0: "w", 1: "r", 2: "r", LIFE_LINE: "w"},
            )
        except OSError as error:
            self.ended.errback(_Failed(error.strerror or str(error)))
            return
        # The process ends itself after MAX_SECONDS, unless it does not even get that far.
        self._timeout = self._reactor.callLater(MAX_SECONDS + 5, self.kill, "it took too long")
        transport: Any = self.transport  # IProcessTransport lacks registerProducer, which all of them have
        transport.write(job.head())
        transport.registerProducer(_Body(transport, job.message.body), False)

    def kill(self, why: str) -> None:
        """End the process."""
        if self._killed is None and self.transport is not None and self.transport.pid is not None:
            self._killed = why
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        """Decode what has arrived; each line is short."""
        self._size += len(data)
        if self._size > MAX_RESULT or len(self._rest) > MAX_LINE:
            self.kill("its result is too long")
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._result.take(line)

    def errReceived(self, data: bytes) -> None:
        """Keep the end of what it complains about."""
        self._complaint = (self._complaint + data)[-MAX_COMPLAINT:]

    def processEnded(self, reason: Failure) -> None:
        """Pass on the result."""
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        try:
            if not reason.check(ProcessDone) or not self._result.is_whole:
                raise self._failure(reason.value)
            found = self._result.translation()
        except Exception:
            self.ended.errback(Failure())
        else:
            self.ended.callback(found)

    def _failure(self, ended: Any) -> Exception:
        number = getattr(ended, "signal", None)
        if self._killed is not None:
            return _Failed(self._killed)
        if number in (signal.SIGXCPU, signal.SIGALRM):
            limit = f"{MAX_CPU_SECONDS} s of processor time, or {MAX_SECONDS} s"
            return Refused(f"to read the body takes more than {limit}", reason="limit", status=413)
        last = self._complaint.decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {number}" if number is not None else f"status {getattr(ended, 'exitCode', None)}"
        return _Failed(f"{how}{': ' if last else ''}{''.join(last)[:500]}")

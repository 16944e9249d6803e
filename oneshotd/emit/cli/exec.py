"""Run a command and report how it ended.

The command inherits standard input, output and error: nothing is read, copied or buffered. Signals
that ask a program to end are forwarded. The report is sent afterwards, within a time limit; an error
prints one line on standard error.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple, NoReturn

#: Seconds that a daemon which does not answer may delay the command's caller.
EXEC_TIMEOUT = 2.0

#: Signals that are forwarded to the command.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

# Python ignores these signals; the command must not inherit that.
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)
# As a shell.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126

Complain = Callable[[str], None]


class Ended(NamedTuple):
    """How the command ended.

    :param status: "ok", "failed" or "killed" (by a signal).
    :param exit_code: the command's; 128 + the signal's number; 126 or 127 if it could not be run.
    :param seconds: the command's run time.
    """

    status: str
    exit_code: int
    seconds: float


class _Interrupted(Exception):
    """A signal arrived during the report."""


def execute(command: Sequence[str], environ: Mapping[str, str], complain: Complain) -> Ended:
    """Run the command to its end.

    :param command: the program, looked up in the path, and its arguments.
    """
    # If SIGCHLD is inherited as ignored, the kernel keeps no exit status.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    began = time.monotonic()
    try:
        child = _spawned(list(command), environ, mask)
    except OSError as error:
        complain(f"{command[0]}: {error.strerror}")
        return Ended("failed", _NOT_FOUND if error.errno == errno.ENOENT else _NOT_EXECUTABLE, 0.0)
    code = _awaited(child)
    seconds = time.monotonic() - began
    # Discard pending signals: a Ctrl-C that ended the command must not interrupt the report.
    while signal.sigtimedwait(FORWARDED, 0) is not None:
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    if code < 0:
        return Ended("killed", 128 - code, seconds)
    return Ended("failed" if code else "ok", code, seconds)


def _spawned(command: list[str], environ: Mapping[str, str], mask: set[int | signal.Signals]) -> int:
    try:
        return os.posix_spawnp(command[0], command, environ, setsigmask=mask, setsigdef=_PYTHONS_OWN)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a first line that names its interpreter: as execvp(3) and every shell do.
        words = ["sh", *command]
        return os.posix_spawn("/bin/sh", words, environ, setsigmask=mask, setsigdef=_PYTHONS_OWN)


def _awaited(child: int) -> int:
    """Wait for the command, forward signals, return its exit code (negative: the signal's number)."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        arrived = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        # The kernel sends a terminal's signal to the command as well; forward only those of processes.
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code <= 0:
            os.kill(child, arrived.si_signo)


def report(send: Callable[[], None], seconds: float, complain: Complain) -> None:
    """Call `send` in a thread; stop waiting for it after `seconds` or at a signal.

    :param send: reports its own errors; exceptions are reported here.
    """
    import threading  # here: an import before the command would delay it

    def attempt() -> None:
        try:
            send()
        except Exception as error:
            complain(f"not reported: {error!r}")

    # A daemon thread, because the resolver of host names has no timeout; it ends with the process.
    sending = threading.Thread(target=attempt, daemon=True)
    try:
        _listen(_interrupt)
        sending.start()
        sending.join(seconds + 0.1)  # the message of its own timeout says more
        if sending.is_alive():
            complain(f"not reported: no answer within {seconds:g} s")
    except _Interrupted as interrupted:
        complain(f"not reported: {interrupted}")
    finally:
        _listen(signal.SIG_IGN)  # a signal now would only change the exit status


def _listen(action: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise _Interrupted(signal.Signals(number).name)

"""Run a command as if it ran alone, and report how it ended.

Standard input, output and error are the command's own: nothing is read, copied or held back. The
signals that ask a program to end are passed on. Reporting comes after, is bounded, and can only
write a line to standard error.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple, NoReturn

#: Seconds that a daemon which is away may keep the command's caller waiting.
EXEC_TIMEOUT = 2.0

#: Signals that are meant for the command.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

# What Python ignores for itself, and a command must not inherit.
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)
# As a shell has them.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126

Complain = Callable[[str], None]


class Ended(NamedTuple):
    """How the command ended.

    :param status: "ok", "failed" or "killed" (by a signal).
    :param exit_code: its own; 128 + the signal's number; 126, 127 where it could not be run.
    :param seconds: how long it ran.
    """

    status: str
    exit_code: int
    seconds: float


class _Interrupted(Exception):
    """Somebody wants us to end while we report."""


def execute(command: Sequence[str], environ: Mapping[str, str], complain: Complain) -> Ended:
    """Run the command to its end.

    :param command: the program, looked up in the path, and its arguments.
    """
    # Inherited as ignored, it would leave no exit status to wait for.
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
    # What ended the command, as Ctrl-C does, was not meant for the report.
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
    """Its exit code (negative: the signal's number), passing on signals meanwhile."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        came = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        # A signal of the kernel comes from the terminal, and the command has got it as well.
        if came.si_signo != signal.SIGCHLD and came.si_code <= 0:
            os.kill(child, came.si_signo)


def report(send: Callable[[], None], seconds: float, complain: Complain) -> None:
    """Call `send`, and leave it alone after so many seconds or at a signal, whatever it hangs in.

    :param send: does its own complaining; what else it raises is told, too.
    """
    import threading  # here: the command did not wait for it

    def attempt() -> None:
        try:
            send()
        except Exception as error:
            complain(f"not reported: {error!r}")

    # A thread, for the resolver of host names cannot be told how long it may take. It ends with us.
    sending = threading.Thread(target=attempt, daemon=True)
    try:
        _listen(_interrupt)
        sending.start()
        sending.join(seconds + 0.1)  # its own timeout says more than ours
        if sending.is_alive():
            complain(f"not reported: no answer within {seconds:g} s")
    except _Interrupted as interrupted:
        complain(f"not reported: {interrupted}")
    finally:
        _listen(signal.SIG_IGN)  # there is nothing left to interrupt but the exit status


def _listen(action: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise _Interrupted(signal.Signals(number).name)

"""SIGHUP, as sent by logrotate or a closing terminal, does not end the daemon."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from oneshotd.daemon.tap import Daemon, Options, Unstartable
from oneshotd.errors import OneshotError


class RecordingReactor:
    """A reactor that records the calls from threads and signal handlers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def callFromThread(self, *call: Any) -> None:
        self.calls.append(call)


class Slow(Service):
    """A service whose stop takes until `stopped` fires."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.stopped


def test_sighup_is_ignored_and_logged_until_the_daemon_has_stopped() -> None:
    """SIGHUP would end the daemon like `kill -9`."""
    before = signal.getsignal(signal.SIGHUP)
    recorder, slow = RecordingReactor(), Slow()
    daemon = Daemon(recorder, Options())
    daemon.addService(slow)
    daemon.startService()
    os.kill(os.getpid(), signal.SIGHUP)
    stopping = daemon.stopService()
    os.kill(os.getpid(), signal.SIGHUP)
    assert len(recorder.calls) == 2
    seen: list[LogEvent] = []
    observer = implementer(ILogObserver)(lambda event: seen.append(event))
    globalLogPublisher.addObserver(observer)
    try:
        for function, *arguments in recorder.calls:
            function(*arguments)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert ["SIGHUP ignored" in event["log_format"] for event in seen] == [True, True]
    slow.stopped.callback(None)
    assert stopping.called
    assert signal.getsignal(signal.SIGHUP) is before


def test_sighup_reads_the_files_again_until_the_stop_begins() -> None:
    """A new password would need a restart; or a daemon that stops would begin to read files."""
    recorder, reloads = RecordingReactor(), []
    daemon = Daemon(recorder, Options(), lambda: reloads.append("reloaded"))
    daemon.addService(Slow())
    daemon.startService()
    os.kill(os.getpid(), signal.SIGHUP)
    assert reloads == [], "in the middle of whatever the signal has interrupted"
    for function, *arguments in recorder.calls:
        function(*arguments)
    assert reloads == ["reloaded"]
    stopping = daemon.stopService()
    os.kill(os.getpid(), signal.SIGHUP)
    function, *arguments = recorder.calls[-1]
    function(*arguments)
    assert reloads == ["reloaded"]
    (slow,) = daemon
    slow.stopped.callback(None)
    assert stopping.called


def test_a_start_that_fails_leaves_the_signal_as_it_was() -> None:
    class Failing(Service):
        def startService(self) -> None:
            raise OneshotError("no")

    before = signal.getsignal(signal.SIGHUP)
    daemon = Daemon(RecordingReactor(), Options())
    daemon.addService(Failing())
    with pytest.raises(Unstartable):
        daemon.startService()
    assert signal.getsignal(signal.SIGHUP) is before

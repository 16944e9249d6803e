"""The log level, for all that twistd logs.

twistd has no option for it. It has a place for an application's own observer, though: so this
makes the observer that twistd would have made, and filters in front of it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import IO, Any, cast

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile


def add_filtered_observer(
    application: Componentized, reactor: Any, twistd: Mapping[str, Any], level: str
) -> None:
    """Let the application log to where its options say, from `level` on.

    An observer of twistd's own ``--logger`` wins over it and gets everything.

    :param twistd: the options before the subcommand.
    :param level: one of `config.LOG_LEVELS`.
    """
    predicate = LogLevelFilterPredicate(LogLevel.lookupByName(level))
    application.setComponent(ILogObserver, FilteringLogObserver(_observer(reactor, twistd), [predicate]))


def _observer(reactor: Any, twistd: Mapping[str, Any]) -> ILogObserver:
    """The observer that twistd makes of ``--syslog``, ``--prefix``, ``--logfile``, ``--nodaemon``."""
    if twistd.get("syslog"):
        from twisted.python.syslog import SyslogObserver  # not on every platform

        return LegacyLogObserverWrapper(cast(Any, SyslogObserver(twistd["prefix"]).emit))
    name, foreground = twistd.get("logfile"), twistd.get("nodaemon")
    if name == "-" and not foreground:
        sys.exit("twistd oneshot: a daemon cannot log to stdout; -n keeps it in the foreground")
    if name == "-" or (foreground and not name):
        return textFileLogObserver(sys.stdout)
    return textFileLogObserver(cast(IO[str], _rotated(reactor, name or "twistd.log")))


def _rotated(reactor: Any, name: str) -> LogFile:
    """A log file that starts anew at SIGUSR1, as twistd's does."""
    file: LogFile = LogFile.fromFullPath(name)

    def rotate(*_: object) -> None:
        reactor.callFromThread(file.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return file

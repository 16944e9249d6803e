"""The log level, for all that twistd logs.

twistd has no option for it. It has a place for an application's own observer, though: so this
makes the observer that twistd would have made, and filters in front of it. Where standard output
is the journal, each line says its level, and leaves the time to the journal.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import IO, Any, cast

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    textFileLogObserver,
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

#: The journal's number of each level (syslog(3); sd-daemon(3) has the prefix).
PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}


def add_filtered_observer(
    application: Componentized,
    reactor: Any,
    twistd: Mapping[str, Any],
    level: str,
    journal: str | None = None,
) -> None:
    """Let the application log to where its options say, from `level` on.

    An observer of twistd's own ``--logger`` wins over it and gets everything.

    :param twistd: the options before the subcommand.
    :param level: one of `config.LOG_LEVELS`.
    :param journal: $JOURNAL_STREAM (systemd.exec(5)): which file the journal reads, if any.
    """
    predicate = LogLevelFilterPredicate(LogLevel.lookupByName(level))
    observer = _observer(reactor, twistd, journal)
    application.setComponent(ILogObserver, FilteringLogObserver(observer, [predicate]))


def _observer(reactor: Any, twistd: Mapping[str, Any], journal: str | None) -> ILogObserver:
    """The observer that twistd makes of ``--syslog``, ``--prefix``, ``--logfile``, ``--nodaemon``."""
    if twistd.get("syslog"):
        from twisted.python.syslog import SyslogObserver  # not on every platform

        return LegacyLogObserverWrapper(cast(Any, SyslogObserver(twistd["prefix"]).emit))
    name, foreground = twistd.get("logfile"), twistd.get("nodaemon")
    if name == "-" and not foreground:
        sys.exit("twistd oneshot: a daemon cannot log to stdout; -n keeps it in the foreground")
    if name == "-" or (foreground and not name):
        if journal and _is_file(sys.stdout, journal):
            return FileLogObserver(sys.stdout, for_journal)
        return textFileLogObserver(sys.stdout)
    return textFileLogObserver(cast(IO[str], _rotated(reactor, name or "twistd.log")))


def _is_file(stream: IO[str], journal: str) -> bool:
    """Whether the stream goes to the file with this "device:inode"."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal == f"{found.st_dev}:{found.st_ino}"


def for_journal(event: LogEvent) -> str | None:
    """The event as the journal reads it, its level before each line; None where it says nothing."""
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    prefix = f"<{PRIORITIES.get(event.get('log_level', LogLevel.info), 6)}>"
    return "".join(f"{prefix}{line}\n" for line in text.splitlines()) or None


def _rotated(reactor: Any, name: str) -> LogFile:
    """A log file that starts anew at SIGUSR1, as twistd's does."""
    file: LogFile = LogFile.fromFullPath(name)

    def rotate(*_: object) -> None:
        reactor.callFromThread(file.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return file

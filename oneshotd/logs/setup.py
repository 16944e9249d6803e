"""Set the log level for everything that twistd logs.

twistd has no option for the level, but accepts an application's own observer. So this module makes the
observer that twistd would make, with a filter in front of it. If standard output is the journal, each
line carries its level, and the journal adds the time.
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
    """Set the application's log observer: twistd's destination, lines of `level` and above.

    An observer of twistd's own ``--logger`` replaces this one and gets all lines.

    :param twistd: the options before the subcommand.
    :param level: one of `option_values.LOG_LEVELS`.
    :param journal: $JOURNAL_STREAM (systemd.exec(5)): the file that the journal reads, if any.
    """
    predicate = LogLevelFilterPredicate(LogLevel.lookupByName(level))
    observer = _observer(reactor, twistd, journal)
    application.setComponent(ILogObserver, FilteringLogObserver(observer, [predicate]))


def _observer(reactor: Any, twistd: Mapping[str, Any], journal: str | None) -> ILogObserver:
    """Return the observer that twistd makes of ``--syslog``, ``--prefix``, ``--logfile``, ``--nodaemon``."""
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
    """Format an event for the journal, with its level before each line; None if it has no text."""
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    prefix = f"<{PRIORITIES.get(event.get('log_level', LogLevel.info), 6)}>"
    return "".join(f"{prefix}{line}\n" for line in text.splitlines()) or None


def _rotated(reactor: Any, name: str) -> LogFile:
    """Return a log file that is rotated at SIGUSR1, as twistd's is."""
    file: LogFile = LogFile.fromFullPath(name)

    def rotate(*_: object) -> None:
        reactor.callFromThread(file.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return file

"""``twistd oneshot``: make the service from the command line.

Only this module uses the global reactor, the environment and twistd's own options.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.components import Componentized

from oneshotd import __version__
from oneshotd.daemon.config import OPTIONS, Config, Option
from oneshotd.daemon.config_sources import configure
from oneshotd.daemon.systemd import Supervision
from oneshotd.errors import ConfigError, OneshotError
from oneshotd.logs.setup import add_filtered_observer

_log = Logger()


class Unstartable(SystemExit, Exception):
    """The daemon cannot start; the reason is in the log.

    twistd removes its PID file and tells the waiting parent process for every `Exception`; a
    `SystemExit` ends the process without a traceback.
    """


class Options(usage.Options):
    """The command line; `parseOptions` sets `config`."""

    synopsis = "[options]"
    longdesc = "Durations are written 500ms, 90s, 5m, 1h, 1d; sizes 512K, 64M, 1G. " + (
        "The command line wins over --config FILE, the file over the environment."
    )
    config: Config

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, str | bool] = {}
        self.repeated: dict[str, list[str]] = {}
        self.file: str | None = None

    def opt_config(self, file: str) -> None:
        """a TOML file with the same options; etc/oneshotd.toml has them all (FILE)"""
        self.file = file

    def opt_version(self) -> None:
        """show the version and exit"""
        print(f"oneshotd {__version__}")
        sys.exit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse as `usage.Options` does, but report an error in one line.

        twistd would print three screens of help before the error.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"twistd oneshot: {error} (--help lists the options)")

    def postOptions(self) -> None:
        try:
            self.config = configure({**self.given, **self.repeated}, os.environ, self.file)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from error


def _method(name: str, option: Option) -> Callable[..., None]:
    """Return the `Options` method for one option of the table."""

    def switch(self: Options) -> None:
        self.given[name] = True

    def once(self: Options, text: str) -> None:
        self.given[name] = text

    def again(self: Options, text: str) -> None:
        self.repeated.setdefault(name, []).append(text)

    method = switch if option.unit is None else again if option.repeats else once
    method.__doc__ = _help(option)
    return method


def _help(option: Option) -> str:
    default = {False: "off", (): "none"}.get(option.default, option.default)
    text = ", ".join(default) if isinstance(default, tuple) else default
    unit = "switch" if option.unit is None else option.unit
    return f"{option.help} ({unit}{', repeatable' if option.repeats else ''}) [default: {text}]"


for _name, _option in OPTIONS.items():
    setattr(Options, f"opt_{_name.replace('-', '_')}", _method(_name, _option))


class Daemon(MultiService):
    """The service that twistd starts: the daemon, its log level, and an exit with status 1 on failure.

    :param reload: called at SIGHUP; None: the signal is ignored.
    """

    def __init__(self, reactor: Any, options: Options, reload: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._reactor = reactor
        self._options = options
        self._reload = reload
        self._previous_handler: Any = signal.SIG_DFL  # of SIGHUP

    def setServiceParent(self, parent: Any) -> None:
        """Join the application and set the log level.

        twistd looks for a log observer on the application right after it has made it; this is the
        only call in between.
        """
        super().setServiceParent(parent)
        if isinstance(parent, Componentized) and self._options.parent is not None:
            level = self._options.config.log_level
            journal = os.environ.get("JOURNAL_STREAM")
            add_filtered_observer(parent, self._reactor, self._options.parent, level, journal)

    def privilegedStartService(self) -> None:
        with _unstartable():
            super().privilegedStartService()

    def startService(self) -> None:
        self._previous_handler = signal.signal(signal.SIGHUP, self._on_sighup)
        try:
            with _unstartable():
                super().startService()
        except BaseException:
            self._restore()
            raise

    def stopService(self) -> Deferred[None]:
        return maybeDeferred(super().stopService).addBoth(self._restore)

    def _restore(self, result: Any = None) -> Any:
        signal.signal(signal.SIGHUP, self._previous_handler)
        return result

    def _on_sighup(self, *_: object) -> None:
        # A signal may interrupt any code, also the writing of a log line.
        self._reactor.callFromThread(self._hang_up)

    def _hang_up(self) -> None:
        if self._reload is None:
            _log.info(
                "SIGHUP ignored: there is no file of --web-config, --access, --hooks, --pings or --receivers"
                " to read again"
            )
        elif self.running:
            _log.info(
                "SIGHUP: the files of --web-config, --access, --hooks, --pings and --receivers are read again"
            )
            self._reload()


@contextmanager
def _unstartable() -> Iterator[None]:
    try:
        yield
    except OneshotError as error:
        _log.critical("cannot start: {why}", why=str(error))
        stop = Unstartable(str(error))
        stop.code = 1
        raise stop from error


def use_steady_time(reactor: Any) -> None:
    """Make the reactor's timers use the monotonic clock.

    Twisted's reactors use the wall clock (twisted#2424): after a step back, every scheduled call
    is late by the length of the step, and the service manager gets no keep-alive.

    :raises ConfigError: calls are scheduled already, by the wall clock.
    """
    if reactor.seconds is time.monotonic:
        return
    scheduled = reactor.getDelayedCalls()
    if scheduled:
        raise ConfigError(
            f"the reactor cannot change to the monotonic clock: {len(scheduled)} calls are scheduled on it"
            f" already, the first of them {scheduled[0]}"
        )
    reactor.seconds = time.monotonic


def makeService(options: Options) -> IService:
    """Make the daemon for twistd; it opens nothing before it is started."""
    from twisted.internet import reactor

    from oneshotd.daemon.service import OneshotService

    try:
        use_steady_time(reactor)
    except ConfigError as error:
        sys.exit(f"twistd oneshot: {error}")
    # Rendering a large response makes tens of thousands of small objects without cycles. With the
    # default threshold of 700 the garbage collector would scan them again and again meanwhile.
    gc.set_threshold(20_000, *gc.get_threshold()[1:])
    config = options.config
    supervision = Supervision.from_environment(os.environ, os.getpid())
    service = OneshotService(reactor, config, supervision)
    files = (config.web_config, config.access, config.hooks, config.pings, config.receivers)
    has_files = any(each is not None for each in files)
    daemon = Daemon(reactor, options, service.reload if has_files else None)
    service.setServiceParent(daemon)
    return daemon

"""`twistd oneshot`: --help, one-line errors, log level, failures at the start."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application, Service
from twisted.logger import ILogObserver, LogLevel
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from oneshotd import __version__
from oneshotd.daemon import option_values
from oneshotd.daemon.config import OPTIONS, Config
from oneshotd.daemon.tap import Daemon, Options, Unstartable
from oneshotd.errors import OneshotError, StoreRefused


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


def parsed(*words: str) -> Config:
    options = Options()
    options.parseOptions(list(words))
    return options.config


def test_no_option_gives_the_defaults() -> None:
    """The daemon of the README would differ from the documented one."""
    assert parsed() == Config()


def test_options_reach_the_configuration() -> None:
    """An option would be accepted without effect."""
    words = ["--http=1", "--http", "unix:/x", "--hold=10m", "--access-log", "--allow-emit=::1"]
    config = parsed(*words)
    assert config.http == ("1", "unix:/x")
    assert config.hold == 600.0
    assert config.access_log
    assert "::1" in config.allow_emit


def test_options_are_not_shared_between_command_lines() -> None:
    """A repeated option would pile up in the class."""
    assert parsed("--udp=1").udp != parsed("--udp=2").udp
    assert len(parsed("--udp=2").udp) == 1


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd the store would not be in the state directory."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/oneshotd")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    config = parsed()
    assert (config.store.path, config.log_level) == ("/var/lib/oneshotd/oneshotd.sqlite", "debug")


def test_a_file_is_read_and_the_command_line_wins(tmp_path: Path) -> None:
    """`--config` would be ignored, or the command line could not override it."""
    (tmp_path / "x.toml").write_text('hold = "2h"\nmetric = "a"')
    config = parsed("--metric=b", f"--config={tmp_path / 'x.toml'}")
    assert (config.hold, config.metric) == (7200.0, "b")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--hodl=1h"], "option --hodl not recognized"),
        (["--hold=long"], "--hold: expected a duration"),
        (["--hold"], "option --hold requires argument"),
        (["--access-log=yes"], "option --access-log must not have an argument"),
        (["--hold=1m", "--newcomers=2m"], "newcomers: expected at most the hold, 60 s, got 120 s"),
        (["--config=/nowhere.toml"], "/nowhere.toml: No such file or directory"),
        (["start"], "Wrong number of arguments"),
    ],
)
def test_a_wrong_command_line_is_an_error_of_one_line(words: list[str], error: str) -> None:
    """The reason would scroll away above three screens of help, or be a traceback."""
    with pytest.raises(SystemExit) as raised:
        parsed(*words)
    assert isinstance(raised.value.code, str), "the status would not be 1"
    assert raised.value.code.startswith(f"twistd oneshot: {error}")
    assert "\n" not in raised.value.code


def test_help_has_every_option_with_its_unit_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would have to look up the option in the source."""
    monkeypatch.setenv("COLUMNS", "80")
    text = re.sub(r"\s+", "", Options().getUsage())
    for name, option in OPTIONS.items():
        default: Any = option.default or ("off" if option.unit is None else "none")
        default = default if isinstance(default, str) else ",".join(default)
        assert f"--{name}{'=' if option.unit else ''}" in text
        assert re.sub(r"\s+", "", f"({option.unit or 'switch'}") in text
        assert re.sub(r"\s+", "", f"{option.help}") in text
        assert f"[default:{default}]" in text
    assert "--config=" in text


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report would name Twisted's version."""
    with pytest.raises(SystemExit) as raised:
        parsed("--version")
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"oneshotd {__version__}\n"


# ---- the log level ---------------------------------------------------------------------------


def application(level: str, twistd: dict[str, Any]) -> Componentized:
    options = Options()
    options.parent = usage.Options()  # twistd's own, before the subcommand
    options.parent.update(twistd)
    options.parseOptions([f"--log-level={level}"])
    app: Componentized = Application("oneshotd")
    Daemon(None, options).setServiceParent(app)
    return app


def say(app: Componentized, level: str) -> None:
    observer: ILogObserver = app.getComponent(ILogObserver)
    event = {"log_level": LogLevel.lookupByName(level), "log_namespace": "n", "log_format": f"<{level}>"}
    observer(event)


@pytest.mark.parametrize("least", option_values.LOG_LEVELS)
@pytest.mark.parametrize("twistd", [{"nodaemon": True}, {"nodaemon": True, "logfile": "-"}])
def test_lines_below_the_level_are_not_logged(
    capsys: pytest.CaptureFixture[str], least: str, twistd: dict[str, Any]
) -> None:
    """The log would have lines below its level, or lack errors."""
    app = application(least, twistd)
    for level in option_values.LOG_LEVELS:
        say(app, level)
    written = re.findall("<(.*)>", capsys.readouterr().out)
    assert written == list(option_values.LOG_LEVELS[option_values.LOG_LEVELS.index(least) :])


def test_in_the_journal_each_line_has_its_level_and_no_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`journalctl -p err` would show nothing, or a traceback's first line only."""
    with open(1, "w", closefd=False) as stdout:
        found = os.fstat(1)
        monkeypatch.setattr("sys.stdout", stdout)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        app = application("debug", {"nodaemon": True})
        for level in option_values.LOG_LEVELS:
            say(app, level)
        observer: ILogObserver = app.getComponent(ILogObserver)
        bug = {"log_level": LogLevel.critical, "log_namespace": "n", "log_format": "bug"}
        observer({**bug, "log_failure": Failure(OSError("x"))})
    written = capfd.readouterr().out.splitlines()
    assert written[:5] == ["<7><debug>", "<6><info>", "<4><warn>", "<3><error>", "<2><critical>"]
    assert written[5] == "<2>bug" and len(written) > 6
    assert all(line.startswith("<2>") for line in written[5:])


@pytest.mark.parametrize("stream", ["1:1", "nonsense", ""])
def test_lines_outside_the_journal_have_the_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    """A daemon started from a service's shell, its output in a file, would log without time."""
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    say(application("info", {"nodaemon": True}), "warn")
    assert re.fullmatch(r"\S+ \[n#warn\] <warn>\n", capsys.readouterr().out)


@pytest.fixture
def log_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close all log files at the end, and keep the process's signal handlers."""
    opened: list[LogFile] = []
    make = LogFile.fromFullPath

    def keep(name: str) -> LogFile:
        opened.append(make(name))
        return opened[-1]

    monkeypatch.setattr(LogFile, "fromFullPath", keep)
    monkeypatch.setattr("signal.getsignal", lambda number: print)
    yield
    for file in opened:
        file.close()


@pytest.mark.usefixtures("log_files")
@pytest.mark.parametrize("twistd", [{}, {"logfile": "twistd.log"}, {"nodaemon": True, "logfile": "x.log"}])
def test_a_log_file_is_filtered_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twistd: dict[str, Any]
) -> None:
    """`twistd --logfile` would be without effect, or unfiltered."""
    monkeypatch.chdir(tmp_path)
    app = application("warn", twistd)
    say(app, "info")
    say(app, "warn")
    assert re.findall("<(.*)>", (tmp_path / twistd.get("logfile", "twistd.log")).read_text()) == ["warn"]


def test_a_daemon_cannot_log_to_a_terminal() -> None:
    """The log lines would be lost, because a daemon has no standard output."""
    with pytest.raises(SystemExit, match="a daemon cannot log to stdout"):
        application("info", {"logfile": "-"})


# ---- failing to start ------------------------------------------------------------------------


class Failing(Service):
    """A service that cannot start."""

    def __init__(self, error: Exception, at: str) -> None:
        self.error = error
        self.at = at

    def privilegedStartService(self) -> None:
        if self.at == "privileged":
            raise self.error

    def startService(self) -> None:
        if self.at == "start":
            raise self.error


def start(error: Exception, at: str) -> None:
    daemon = Daemon(None, Options())
    daemon.addService(Failing(error, at))
    daemon.privilegedStartService()
    daemon.startService()


@pytest.mark.parametrize("at", ["privileged", "start"])
@pytest.mark.parametrize("error", [OneshotError("HTTP: tcp port 8090 is in use"), StoreRefused("not ours")])
def test_a_start_that_fails_ends_with_status_1(error: Exception, at: str) -> None:
    """The process would run without ports, or end with status 0."""
    with pytest.raises(Unstartable, match=re.escape(str(error))) as raised:
        start(error, at)
    assert raised.value.code == 1
    assert isinstance(raised.value, Exception), "twistd would leave its PID file behind"


def test_a_bug_at_the_start_keeps_its_traceback() -> None:
    """A fault of the program would be logged without its place."""
    with pytest.raises(ZeroDivisionError):
        start(ZeroDivisionError(), "start")

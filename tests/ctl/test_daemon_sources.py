"""The configuration is found where the service has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oneshotd.ctl import daemon_sources
from oneshotd.ctl.daemon_sources import add_daemon_options, daemon_options, service_sources
from oneshotd.ctl.results import Parser
from oneshotd.daemon.config import OPTIONS
from oneshotd.daemon.config_sources import configure
from oneshotd.errors import ConfigError

UNIT = Path(__file__).resolve().parents[2] / "etc" / "systemd" / "oneshotd.service"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a service's two files, of which the configuration is there."""
    monkeypatch.setattr(daemon_sources, "CONFIG", str(tmp_path / "oneshotd.toml"))
    monkeypatch.setattr(daemon_sources, "DEFAULTS", str(tmp_path / "default"))
    (tmp_path / "oneshotd.toml").write_text('http = ["1234"]\n')
    return tmp_path


def test_the_unit_has_the_same_files() -> None:
    """The command would check a file that the service does not read."""
    unit = UNIT.read_text(encoding="utf-8")
    assert f"\nEnvironmentFile=-{daemon_sources.DEFAULTS}\n" in unit
    assert f" oneshot --config {daemon_sources.CONFIG} $ONESHOTD_OPTS\n" in unit
    (state,) = re.findall(r"(?m)^StateDirectory=(.*)$", unit)
    assert f"/var/lib/{state}" == daemon_sources.STATE
    assert f"\nWorkingDirectory=%S/{state}\n" in unit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('ONESHOTD_OPTS="--http', "DEFAULTS: ONESHOTD_OPTS: No closing quotation"),
        ('ONESHOTD_OPTS="--http \'"', "DEFAULTS: ONESHOTD_OPTS: No closing quotation"),
        ("ONESHOTD_OPTS=--htpt 8090", "DEFAULTS: ONESHOTD_OPTS: unrecognized arguments: --htpt 8090"),
        ("ONESHOTD_OPTS=--hold", "DEFAULTS: ONESHOTD_OPTS: argument --hold: expected one argument"),
        ("ONESHOTD_OPTS=--access-log=yes", "DEFAULTS: ONESHOTD_OPTS: argument --access-log: ignored"),
        (b"A=\xff", "DEFAULTS: 'utf-8' codec can't decode"),
        (None, "DEFAULTS: Is a directory"),
    ],
)
def test_a_wrong_environment_file_is_told(service: Path, text: str | bytes | None, why: str) -> None:
    """The service would not start, and the command would say that all is well."""
    file = service / "default"
    if text is None:
        file.mkdir()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        service_sources(None, {})
    assert str(raised.value).replace(str(file), "DEFAULTS").startswith(why)


def test_the_service_s_options_win(service: Path) -> None:
    """What the command says of the service would not be so."""
    (service / "default").write_text(
        '# ONESHOTD_OPTS="--http 1"\n; X=1\n\nLOG_LEVEL = debug\nNOTHING\n'
        "ONESHOTD_OPTS=\"--http 9190 --http 'unix:/run/a b' \\\n --access-log --hold=2h\"\n"
    )
    sources = service_sources(None, {"LOG_LEVEL": "error"})
    config = configure(sources.given, sources.environ, sources.file)
    assert config.http == ("9190", "unix:/run/a b")
    assert (config.hold, config.access_log, config.log_level) == (7200, True, "debug")
    assert config.store.path == f"{daemon_sources.STATE}/oneshotd.sqlite"
    assert (sources.folder, sources.defaults) == (daemon_sources.STATE, str(service / "default"))


def test_the_service_s_options_may_name_another_file(service: Path) -> None:
    """The wrong file would be checked."""
    (service / "default").write_text(f"ONESHOTD_OPTS=--config {service}/other.toml\n")
    assert service_sources(None, {}).file == f"{service}/other.toml"


def test_a_named_file_is_read_with_the_caller_s_environment(service: Path) -> None:
    """A file that is checked before its installation would be mixed with the installed service."""
    (service / "default").write_text("LOG_LEVEL=debug\n")
    sources = service_sources("mine.toml", {"LOG_LEVEL": "error"})
    assert (sources.file, sources.environ, sources.given) == ("mine.toml", {"LOG_LEVEL": "error"}, {})
    assert sources.folder == ""


def test_without_a_service_there_is_the_environment_alone(service: Path) -> None:
    """A machine without the package would show the package's folders."""
    (service / "oneshotd.toml").unlink()
    (service / "default").write_text("LOG_LEVEL=debug\n")
    sources = service_sources(None, {})
    assert (sources.file, sources.environ, sources.folder) == (None, {}, "")


def test_every_option_of_the_daemon_is_taken() -> None:
    """A new option in $ONESHOTD_OPTS would be refused here, and taken by the daemon."""
    parser = Parser()
    add_daemon_options(parser)
    assert daemon_options(parser.parse_args([])) == {}
    for name, option in OPTIONS.items():
        words = [f"--{name}"] if option.unit is None else [f"--{name}", "x", f"--{name}=y"]
        wanted = True if option.unit is None else ["x", "y"] if option.repeats else "y"
        assert daemon_options(parser.parse_args(words)) == {name: wanted}

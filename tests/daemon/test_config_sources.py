"""Command line, file, environment and defaults: precedence and errors."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oneshotd.daemon.config import OPTIONS, Config
from oneshotd.daemon.config_sources import configure, examine
from oneshotd.daemon.option_values import StoreAddress
from oneshotd.errors import ConfigError

COMMENTED = Path(__file__).resolve().parents[2] / "etc" / "oneshotd.toml"

UDP = "[HOST:]PORT, unix:PATH[:mode=MODE] or systemd:NAME"


def from_file(folder: Path, text: str, **given: Any) -> Config:
    file = folder / "oneshotd.toml"
    file.write_text(text, encoding="utf-8")
    return configure(given, {}, str(file))


@pytest.mark.parametrize(
    ("given", "file", "environ", "level"),
    [
        ({"log-level": "error"}, 'log-level = "warn"', {"LOG_LEVEL": "debug"}, "error"),
        ({}, 'log-level = "warn"', {"LOG_LEVEL": "debug"}, "warn"),
        ({}, "", {"LOG_LEVEL": "debug"}, "debug"),
        ({}, "", {"LOG_LEVEL": ""}, "info"),
        ({}, "", {}, "info"),
    ],
)
def test_precedence(
    tmp_path: Path, given: Mapping[str, str], file: str, environ: Mapping[str, str], level: str
) -> None:
    """An option on the command line would not override the file."""
    (tmp_path / "file").write_text(file)
    assert configure(given, environ, str(tmp_path / "file")).log_level == level


@pytest.mark.parametrize(
    ("given", "environ", "path"),
    [
        ({}, {}, "oneshotd.sqlite"),
        ({}, {"STATE_DIRECTORY": "/var/lib/oneshotd"}, "/var/lib/oneshotd/oneshotd.sqlite"),
        ({}, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/oneshotd.sqlite"),
        ({"store": "sqlite:x"}, {"STATE_DIRECTORY": "/var/lib/oneshotd"}, "x"),
    ],
)
def test_where_the_store_is(given: Mapping[str, str], environ: Mapping[str, str], path: str) -> None:
    """After a restart the daemon would open another, empty store."""
    assert configure(given, environ).store == StoreAddress(kind="sqlite", path=path)


def test_all_kinds_of_values_in_a_file(tmp_path: Path) -> None:
    """A file with natural TOML values would be refused."""
    config = from_file(
        tmp_path,
        """
        http = [8090, "unix:/run/oneshotd.sock"]
        udp = []
        trusted-proxy = "192.0.2.0/24"
        hold = "2h"
        max-events = 5_000
        max-bytes = 1048576
        access-log = true
        """,
    )
    assert config.http == ("8090", "unix:/run/oneshotd.sock")
    assert config.udp == ()
    assert "192.0.2.7" in config.trusted_proxy
    assert (config.hold, config.max_events, config.max_bytes, config.access_log) == (7200, 5000, 2**20, True)


def test_a_list_of_the_command_line_replaces_the_file_s(tmp_path: Path) -> None:
    """A port that the command line removes would stay open because of the file."""
    assert from_file(tmp_path, "http = [1, 2]", http=["3"]).http == ("3",)


def test_a_shorter_hold_shortens_the_window_of_new_scrapers() -> None:
    """`--hold 1m` alone would be refused because of an option that was not given."""
    assert configure({"hold": "1m"}, {}).newcomers == 60.0
    with pytest.raises(ConfigError, match="newcomers: expected at most the hold"):
        configure({"hold": "1m", "newcomers": "5m"}, {})


@pytest.mark.parametrize(
    ("given", "environ", "error"),
    [
        ({"hold": "5"}, {}, "--hold: expected a duration such as .*, got '5'"),
        ({"udp": ["8090", "x"]}, {}, "--udp: expected a port number up to 65535, got 'x'"),
        ({}, {"LOG_LEVEL": "trace"}, r"\$LOG_LEVEL: expected one of debug, .*, got 'trace'"),
    ],
)
def test_the_error_names_where_the_value_came_from(
    given: Mapping[str, Any], environ: Mapping[str, str], error: str
) -> None:
    """An operator would look for the typing error in the wrong place."""
    with pytest.raises(ConfigError, match=f"^{error}$"):
        configure(given, environ)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("hodl = '1h'", "FILE:1: there is no option 'hodl'; the nearest is 'hold'"),
        ("max_events = 5", "FILE:1: there is no option 'max_events'; the nearest is 'max-events'"),
        ("[udp]\nport = 1", f"FILE:1: udp: expected {UDP}, or a list of such, got {{'port': 1}}"),
        ("hold = ['1h']", "FILE:1: hold: expected duration, got ['1h']"),
        ("hold = 90", "FILE:1: hold: expected a duration such as 500ms, 90s, 5m, 1h or 1d, got '90'"),
        ("max-events = 1.5", "FILE:1: max-events: expected events, got 1.5"),
        ("max-events = true", "FILE:1: max-events: expected events, got True"),
        ("udp = [8090, false]", f"FILE:1: udp: expected {UDP}, or a list of such, got [8090, False]"),
        ("access-log = 'yes'", "FILE:1: access-log: expected true or false, got 'yes'"),
        ("hold = '1h'\nx = = 1", "FILE:2: Invalid value (at line 2, column 5)"),
        ("hold = ", "FILE: Invalid value (at end of document)"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, error: str) -> None:
    """A misspelt option would be ignored, or the error would be a traceback."""
    with pytest.raises(ConfigError) as raised:
        from_file(tmp_path, text)
    message = str(raised.value).replace(str(tmp_path / "oneshotd.toml"), "FILE")
    assert message.startswith(error)
    assert "\n" not in message


def test_every_error_is_found_with_its_line(tmp_path: Path) -> None:
    """An operator would start the daemon once for each typing error."""
    file = tmp_path / "oneshotd.toml"
    file.write_text(
        '# hold = "x"\nhttp = [\n  8090,\n]\n  "hold" = "5"\nhodl = 1\n'
        'udp = [8090, "x"]\nmax-events = true\n[uddp]\nb = 1\n'
    )
    config, errors = examine({"metric": "0"}, {"LOG_LEVEL": "loud"}, str(file))
    assert config is None
    assert [error.replace(str(file), "FILE").partition(", ")[0] for error in errors] == [
        "FILE:6: there is no option 'hodl'; the nearest is 'hold'",
        "FILE:8: max-events: expected events",
        "FILE:9: there is no option 'uddp'; the nearest is 'udp'",
        "FILE:7: udp: expected a port number up to 65535",
        "FILE:5: hold: expected a duration such as 500ms",
        "--metric: expected a metric name that is free",
        "$LOG_LEVEL: expected one of debug",
    ]
    with pytest.raises(ConfigError, match="hodl"):
        configure({}, {}, str(file))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The daemon would start with defaults instead of the file's options."""
    with pytest.raises(ConfigError, match="missing: No such file"):
        configure({}, {}, str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="Is a directory"):
        configure({}, {}, str(tmp_path))
    (tmp_path / "latin").write_bytes(b"metric = '\xe4'")
    with pytest.raises(ConfigError, match=r"latin: .*utf-8"):
        configure({}, {}, str(tmp_path / "latin"))


def uncommented(text: str) -> str:
    """Return the commented file with its settings uncommented."""
    return re.sub(r"(?m)^#(?=[a-z-]+ = )", "", text)


def test_the_commented_file_gives_the_defaults(tmp_path: Path) -> None:
    """Uncommenting a line would change the behaviour."""
    text = COMMENTED.read_text(encoding="utf-8")
    assert from_file(tmp_path, text) == Config()
    assert from_file(tmp_path, uncommented(text)) == Config()


def test_the_commented_file_has_every_option_once_and_its_unit() -> None:
    """An option would be documented in the source only."""
    text = COMMENTED.read_text(encoding="utf-8")
    assert list(tomllib.loads(uncommented(text))) == list(OPTIONS)
    comments = {}
    for block in text.split("\n\n")[1:]:
        *comment, setting = block.strip().splitlines()
        comments[setting[1:].partition(" = ")[0]] = " ".join(comment)
    for name, option in OPTIONS.items():
        if option.unit in ("duration", "size"):
            assert f"({option.unit})" in comments[name], name
        assert comments[name], name

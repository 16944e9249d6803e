"""Merge the sources of configuration: command line over file over environment over default.

`configure` reads the one file that it is given; otherwise it is pure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from attrs import frozen

from oneshotd.daemon.config import OPTIONS, Config, Option
from oneshotd.errors import ConfigError

_Given = str | Sequence[str] | bool


@frozen(kw_only=True)
class _Layer:
    """The options of one source.

    :param names: option -> its name in this source, for errors.
    """

    given: Mapping[str, _Given]
    names: Mapping[str, str]


#: Option -> the environment variable that sets it, for errors.
_VARIABLES = {
    "log-level": "$LOG_LEVEL",
    "store": "$STATE_DIRECTORY",
    "timestamps": "$USE_EXPLICIT_TIMESTAMPS",
}


def configure(given: Mapping[str, _Given], environ: Mapping[str, str], file: str | None = None) -> Config:
    """Merge all sources to one configuration.

    :param given: options of the command line, by name without the dashes; True for a switch.
    :param environ: provides LOG_LEVEL, STATE_DIRECTORY (systemd.exec(5)) and USE_EXPLICIT_TIMESTAMPS.
    :param file: a TOML file, or None.
    :raises ConfigError: one line with the source, the option, the expected and the given value.
    """
    config, errors = examine(given, environ, file)
    if config is None:
        raise ConfigError(errors[0])
    return config


def examine(
    given: Mapping[str, _Given], environ: Mapping[str, str], file: str | None = None
) -> tuple[Config | None, Sequence[str]]:
    """Merge all sources as `configure` does; return every error, one line each, and None if there are any."""
    errors: list[str] = []
    layers = [_Layer(given=given, names={name: f"--{name}" for name in given})]
    if file is not None:
        layers.append(_read(file, errors))
    layers.append(_environment(environ))
    values: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        for layer in layers:
            if name in layer.given:
                try:
                    values[name] = _value(option, layer.given[name], layer.names[name])
                except ConfigError as error:
                    errors.append(str(error))
                break
    if errors:
        return None, errors
    try:
        return _check(values), ()
    except ConfigError as error:
        return None, (str(error),)


def _value(option: Option, given: _Given, where: str) -> Any:
    try:
        return option.value(given)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check(values: dict[str, Any]) -> Config:
    """Make the `Config`, which checks the rules between options."""
    defaults = Config()
    hold = values.get("hold", defaults.hold)
    # A shorter hold without `newcomers` shortens the window of new scrapers, too.
    values.setdefault("newcomers", min(defaults.newcomers, hold))
    try:
        return Config(**{name.replace("-", "_"): value for name, value in values.items()})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _environment(environ: Mapping[str, str]) -> _Layer:
    given: dict[str, _Given] = {}
    if level := environ.get("LOG_LEVEL"):
        given["log-level"] = level
    # The variable of the Go server, oneShotMetricsServer.
    if environ.get("USE_EXPLICIT_TIMESTAMPS", "").lower() in ("1", "t", "true"):
        given["timestamps"] = "event"
    # systemd passes all state directories of a unit, separated by colons; the first one is used.
    if state := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        given["store"] = f"sqlite:{PurePath(state) / 'oneshotd.sqlite'}"
    return _Layer(given=given, names=_VARIABLES)


def _read(file: str, errors: list[str]) -> _Layer:
    """Read a TOML file; append what is wrong with it to `errors`."""
    given: dict[str, _Given] = {}
    names: dict[str, str] = {}
    try:
        text = Path(file).read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        errors.append(f"{file}: {error.strerror}")
        return _Layer(given=given, names=names)
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        found = re.search(r"\(at line (\d+), ", str(error))
        errors.append(f"{file}{f':{found[1]}' if found else ''}: {error}")
        return _Layer(given=given, names=names)
    for name, value in table.items():
        where = f"{file}{_line(text, name)}"
        if name not in OPTIONS:
            errors.append(f"{where}: there is no option {name!r}{_nearest(name)}")
            continue
        names[name] = f"{where}: {name}"
        try:
            given[name] = _texts(OPTIONS[name], value, names[name])
        except ConfigError as error:
            errors.append(str(error))
    return _Layer(given=given, names=names)


def _line(text: str, name: str) -> str:
    """Return ``:LINE`` of a key at the top of a TOML text, empty if it is not found."""
    key = re.escape(name)
    found = re.search(
        rf"""^[ \t]*(?:{key}|"{key}"|'{key}'|\[\[?[ \t]*{key})[ \t]*[=.\]]""", text, re.MULTILINE
    )
    return "" if found is None else f":{text.count(chr(10), 0, found.start()) + 1}"


def _nearest(name: str) -> str:
    near = get_close_matches(name.lower().replace("_", "-"), OPTIONS, n=1, cutoff=0)
    return "".join(f"; the nearest is {known!r}" for known in near)


def _texts(option: Option, value: object, where: str) -> _Given:
    """Convert a value of the file to the texts that the command line would have.

    :raises ConfigError: its type is not that of the option.
    """
    if option.unit is None:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{where}: expected true or false, got {value!r}")
    values = value if option.repeats and isinstance(value, list) else [value]
    texts = list(_scalars(values))
    if len(texts) < len(values):
        expected = f"{option.unit}, or a list of such" if option.repeats else option.unit
        raise ConfigError(f"{where}: expected {expected}, got {value!r}")
    return texts if option.repeats else texts[0]


def _scalars(values: Sequence[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            yield str(value)

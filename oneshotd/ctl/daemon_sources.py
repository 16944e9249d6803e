"""Find the configuration of the daemon as its service has it: file, environment, options.

Without ``--config``, this is the service of the packages (etc/systemd/oneshotd.service): its file is
`CONFIG`, its environment comes from `DEFAULTS`, and $ONESHOTD_OPTS there is the end of its command line.
Drop-ins of the unit are not read. With ``--config``, the environment is the caller's.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

from oneshotd.ctl.results import Parser, UsageError
from oneshotd.daemon.config import OPTIONS
from oneshotd.errors import ConfigError

CONFIG = "/etc/oneshotd/oneshotd.toml"
DEFAULTS = "/etc/default/oneshotd"
#: StateDirectory= and WorkingDirectory= of the unit.
STATE = "/var/lib/oneshotd"

_PREFIX = "daemon_option_"


@frozen(kw_only=True)
class DaemonSources:
    """The options with which the daemon would be started; the arguments of `config_sources.configure`.

    :param given: options of its command line.
    :param environ: its environment.
    :param file: its configuration file.
    :param folder: its working directory; relative paths in options start there.
    :param defaults: the file that `environ` comes from, if it was read.
    """

    given: Mapping[str, Any] = field(factory=dict)
    environ: Mapping[str, str]
    file: str | None
    folder: str = ""
    defaults: str | None = None


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``twistd oneshot``, which --help does not list."""
    for name, option in OPTIONS.items():
        keywords: dict[str, Any] = {"action": "store_true", "default": None}
        if option.unit is not None:
            keywords = {"action": "append" if option.repeats else "store", "metavar": option.unit}
        dest = _PREFIX + name.replace("-", "_")
        parser.add_argument(f"--{name}", dest=dest, help=argparse.SUPPRESS, **keywords)


def daemon_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the given options among those of `add_daemon_options`, by name without dashes."""
    return {
        dest.removeprefix(_PREFIX).replace("_", "-"): value
        for dest, value in vars(arguments).items()
        if dest.startswith(_PREFIX) and value is not None
    }


def service_sources(file: str | None, environ: Mapping[str, str]) -> DaemonSources:
    """Return the sources of the daemon's configuration.

    :param file: of --config; None: the service's, if it exists.
    :param environ: of the caller.
    :raises ConfigError: the service's environment file is wrong.
    """
    if file is not None or not os.path.exists(CONFIG):
        return DaemonSources(environ=environ, file=file)
    variables = dict(_variables())
    options = Parser(add_help=False)
    options.add_argument("--config")
    add_daemon_options(options)
    try:
        arguments = options.parse_args(shlex.split(variables.get("ONESHOTD_OPTS", "")))
    except (UsageError, ValueError) as error:
        raise ConfigError(f"{DEFAULTS}: ONESHOTD_OPTS: {error}") from None
    return DaemonSources(
        given=daemon_options(arguments),
        environ={"STATE_DIRECTORY": STATE, **environ, **variables},
        file=arguments.config or CONFIG,
        folder=STATE,
        defaults=DEFAULTS if variables else None,
    )


def _variables() -> Iterator[tuple[str, str]]:
    """Read `DEFAULTS` as systemd does (EnvironmentFile= in systemd.exec(5)); it may be missing.

    :raises ConfigError: it cannot be read, or a quotation is not closed.
    """
    try:
        with open(DEFAULTS, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{DEFAULTS}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{DEFAULTS}: {error}") from None
    for line in text.replace("\\\n", "").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        try:
            yield name.strip(), " ".join(shlex.split(value))
        except ValueError as error:
            raise ConfigError(f"{DEFAULTS}: {name}: {error}") from None

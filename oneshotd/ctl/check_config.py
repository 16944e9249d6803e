"""``oneshotctl check-config``: read all that the daemon reads at its start, and say what it would do."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import Factory, define

from oneshotd.access.access_file import read_access_file
from oneshotd.access.findings import udp_takes
from oneshotd.access.rules import Rule
from oneshotd.core.parsing.formats import Rules
from oneshotd.ctl.daemon_sources import (
    CONFIG,
    DaemonSources,
    add_daemon_options,
    daemon_options,
    service_sources,
)
from oneshotd.ctl.describe import (
    PLAIN,
    access_lines,
    http_line,
    is_local,
    store_lines,
    udp_line,
)
from oneshotd.ctl.error_lines import with_line
from oneshotd.ctl.results import FAILED, OK, complain
from oneshotd.ctl.rule_notes import rule_notes
from oneshotd.daemon.config import Config
from oneshotd.daemon.config_sources import examine
from oneshotd.daemon.option_values import LOCALHOST
from oneshotd.errors import ConfigError

if TYPE_CHECKING:
    from oneshotd.access.web_config import WebConfig
    from oneshotd.ingest.dialects.pings import Checks

#: Options that name a file, which is read here.
_FILES = ("web-config", "access", "hooks", "pings", "receivers")

T = TypeVar("T")

HELP = "read every file of the configuration, and say what the daemon would do"

DESCRIPTION = f"""\
Reads what the daemon reads at its start: its configuration, its environment, the web configuration with
its certificates, the access file, the hooks, the files of checks and of receivers. Says in plain lines what
it would do, and notes what has no effect. Each error is one line on standard error: file, line, key, and what
is wrong. Opens no port and no store, and shows no secret.

Without --config it reads {CONFIG} and the environment of the service,
/etc/default/oneshotd; drop-ins of the unit are not read. Options of the daemon (twistd oneshot --help)
can be given as well, and win over the file. Run it as the daemon's user, to find out whether that user can
read the files:

    runuser -u oneshotd -- oneshotctl check-config"""

STATUSES = {
    0: "the daemon can start with it",
    1: "something is wrong; with --strict also if there is a note",
    2: "the command line is wrong",
}


@define
class Findings:
    """The result of a check; `lines` says what the daemon would do, in order."""

    lines: list[str] = Factory(list)
    notes: list[str] = Factory(list)
    errors: list[str] = Factory(list)

    def tried(self, step: Callable[..., T], *arguments: object) -> T | None:
        """Return the result of a step; None and an error if it raises `ConfigError`."""
        try:
            return step(*arguments)
        except ConfigError as error:
            self.errors.append(str(error))
            return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, and those of the daemon."""
    parser.add_argument("--config", metavar="FILE", help=f"the daemon's configuration (default: {CONFIG})")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--strict", action="store_true", help="take notes for errors")
    add_daemon_options(parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print what was found; return whether the daemon can start."""
    found = check(arguments.config, daemon_options(arguments), environ)
    for error in found.errors:
        complain(error)
    if found.errors:
        return FAILED
    if arguments.strict:
        for note in found.notes:
            complain(f"note: {note}")
    if not arguments.quiet:
        for line in found.lines:
            print(line)
        if not arguments.strict:
            for note in found.notes:
                print(f"note: {note}")
    return FAILED if arguments.strict and found.notes else OK


def check(file: str | None, options: Mapping[str, Any], environ: Mapping[str, str]) -> Findings:
    """Read all files.

    :param file: of --config.
    :param options: of the daemon, by name without dashes; they win over the service's.
    """
    found = Findings()
    sources = found.tried(service_sources, file, environ)
    if sources is None:
        return found
    # A relative path on this command line starts at the caller's folder, not at the service's.
    here = {name: os.path.abspath(options[name]) for name in _FILES if options.get(name)}
    config, errors = examine({**sources.given, **options, **here}, sources.environ, sources.file)
    found.errors += errors
    if config is None:
        return found
    found.lines += _source_lines(sources)
    _check(config, sources.folder, found)
    return found


def _source_lines(sources: DaemonSources) -> Iterator[str]:
    yield f"configuration: {sources.file or 'no file, the defaults'}"
    if sources.defaults is not None:
        yield f"environment: {sources.defaults}"


def _check(config: Config, folder: str, found: Findings) -> None:
    """Read the files that the configuration names, and describe all of it."""
    web = rules = None
    if config.web_config is not None:
        web = found.tried(_read_web_config, Path(folder, config.web_config))
    if config.access is not None:
        rules = found.tried(_read_access_file, Path(folder, config.access), _limits(config))
    if config.hooks is not None:
        _hooks(Path(folder, config.hooks), config, found)
    checks = None
    if config.pings is not None:
        checks = found.tried(_read_checks_file, Path(folder, config.pings), _limits(config))
    if config.receivers is not None:
        _receivers(Path(folder, config.receivers), found)
    users = () if web is None else tuple(web.users)
    _listeners(config, rules, web, found)
    found.lines += store_lines(config, folder)
    if web is not None:
        _web(web, found)
    found.lines += access_lines(config, rules, has_users=bool(users))
    if checks is not None:
        found.lines.append(f"pings: {', '.join(checks.names) or 'no check'}")
    if rules is not None:
        found.notes += rule_notes(
            rules,
            users=users,
            verifies_certificates=web is not None and web.tls is not None and web.tls.client_auth.verifies,
            emit=config.allow_emit,
            scrape=config.allow_scrape,
        )


def _receivers(path: Path, found: Findings) -> None:
    """Read the receivers, with their secrets and certificates."""
    from oneshotd.delivery.remote_write.receivers_file import read_receivers_file

    content = found.tried(read_receivers_file, path)
    if content is not None:
        receivers, _ = content
        sent = [f"{each.name} ({each.destination.url})" for each in receivers]
        found.lines.append(f"receivers: {', '.join(sent) or 'none'}")


def _hooks(folder: Path, config: Config, found: Findings) -> None:
    """Read the hooks; with a bad one the daemon starts, but it answers 503 there."""
    from oneshotd.ingest.hooks.folder import read_folder

    content = found.tried(read_folder, folder, _limits(config))
    if content is None:
        return
    hooks, _ = content
    for path, error in hooks.bad.items():
        found.errors.append(with_line(error, path))
    for name, hook in hooks.good.items():
        how = hook.file.verification
        lets = (
            "the access rules decide who may send" if how is None else f"{how.by} in the header {how.header}"
        )
        found.lines.append(f"POST /hook/{name}: {lets}")


def _listeners(config: Config, rules: Sequence[Rule] | None, web: WebConfig | None, found: Findings) -> None:
    has_users = web is not None and bool(web.users)
    for where in config.http:
        speaks = found.tried(_speaks, where, web is not None and web.tls is not None)
        found.lines.append(http_line(where, speaks or ""))
        has_credentials = has_users or any(rule.token_sha256 is not None for rule in rules or ())
        if has_credentials and speaks == PLAIN and not is_local(where):
            found.notes.append(f"HTTP {where}: without TLS, passwords and tokens can be read on their way")
    found.lines += [udp_line(address) for address in config.udp] or ["UDP: no address"]
    takes = udp_takes(rules, has_users=has_users)
    if config.udp and takes is not None:
        takes_something = any(rule.fits_datagrams for rule in rules or ())
        (found.lines if takes_something else found.notes).append(takes)


def _web(web: WebConfig, found: Findings) -> None:
    from oneshotd.ctl.describe_web import check_packages, own_certificate, web_lines, web_notes

    found.tried(check_packages, web)
    certificate = found.tried(own_certificate, web.tls) if web.tls is not None else None
    now = time.time()
    found.lines += web_lines(web, certificate, now)
    found.notes += web_notes(web, certificate, now)


def _speaks(where: str, has_tls: bool) -> str:
    """Return whether an address of HTTP speaks TLS.

    :raises ConfigError: it is no address, or cannot speak TLS.
    """
    kind, colon, _ = where.partition(":")
    # systemd's sockets are those of the daemon's process.
    if colon and kind not in (LOCALHOST, "systemd"):
        from twisted.internet.endpoints import serverFromString

        try:
            serverFromString(None, where)
        except Exception as error:  # of the parsers: ValueError, TypeError, KeyError, OSError, OpenSSL's
            raise ConfigError(f"http: {where}: {str(error) or type(error).__name__}") from error
    if has_tls:
        from oneshotd.daemon.sockets import speaks_tls

        return "with TLS" if speaks_tls(where) else PLAIN
    return "with TLS of its own" if kind == "ssl" else PLAIN


def _read_web_config(path: Path) -> WebConfig:
    # Not everybody has the packages that it needs.
    from oneshotd.access.web_config import read_web_config

    return read_web_config(path)


def _limits(config: Config) -> Rules:
    return Rules(metric=config.metric, max_labels=config.max_labels, max_value=config.max_label_value)


def _read_checks_file(path: Path, limits: Rules) -> Checks:
    # Few daemons have one.
    from oneshotd.ingest.hooks.checks_file import read_checks_file

    return read_checks_file(path, limits)


def _read_access_file(path: Path, limits: Rules) -> Sequence[Rule]:
    try:
        return read_access_file(path, limits)
    except ConfigError as error:
        raise ConfigError(with_line(str(error), path)) from None

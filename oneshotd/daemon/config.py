"""The configuration: one table of all options with default, unit and help.

`Config` is the table. The option of a field is its name with ``-`` for ``_``, both on the command line
(``--max-events``) and in the file (``max-events = …``). `daemon/config_sources.py` merges command line,
file and environment; this module reads neither files nor the environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import Attribute, field, fields, frozen

from oneshotd.core.networks import Networks, parse_member
from oneshotd.core.parsing.formats import MAX_LABELS, MAX_VALUE_BYTES
from oneshotd.core.parsing.numbers import duration
from oneshotd.core.scraper_features import Timestamps
from oneshotd.daemon.option_values import (
    LOG_LEVELS,
    DatagramAddress,
    StoreAddress,
    body_size,
    bounded,
    count,
    datagram_address,
    endpoint,
    level_name,
    metric_name,
    mode,
    on_or_off,
    path_or_none,
    short_text,
    size,
)

#: The least lease-margin (seconds): a delivery can be revoked for a second after the scrape's timeout.
MIN_LEASE_MARGIN = 2.0


@frozen(kw_only=True)
class Option:
    """The spelling, parser and help text of one field of `Config`.

    :param help: the meaning, in half a sentence.
    :param unit: the form of the value; None for a switch.
    :param default: the default as text; a tuple for an option that may be repeated.
    :param parse: parses one text; raises `ValueError` "expected …, got …".
    :param gather: makes the field's value from the parsed texts, if the option may be repeated.
    """

    help: str
    unit: str | None
    default: str | tuple[str, ...] | bool
    parse: Callable[[str], Any]
    gather: Callable[[Iterable[Any]], Any] | None = None

    @property
    def repeats(self) -> bool:
        return self.gather is not None

    def value(self, given: str | Iterable[str] | bool) -> Any:
        """Return the field's value; raises as `parse` does."""
        if isinstance(given, bool):
            return given
        if self.gather is not None:
            return self.gather([self.parse(text) for text in ([given] if isinstance(given, str) else given)])
        assert isinstance(given, str)
        return self.parse(given)


def _networks(members: Iterable[Any]) -> Networks:
    return Networks(members=tuple(members))


def _option(
    default: str | tuple[str, ...] | bool,
    parse: Callable[[str], Any],
    unit: str | None,
    help: str,
    gather: Callable[[Iterable[Any]], Any] | None = None,
    validator: Callable[[Any, Any, Any], None] | None = None,
) -> Any:
    option = Option(help=help, unit=unit, default=default, parse=parse, gather=gather)
    return field(default=option.value(default), validator=validator, metadata={Option: option})


def _within_hold(config: Config, attribute: Attribute[float], seconds: float) -> None:
    if seconds > config.hold:
        raise ValueError(f"newcomers: expected at most the hold, {config.hold:g} s, got {seconds:g} s")


def _at_least_a_margin(config: Config, attribute: Attribute[float], seconds: float) -> None:
    if seconds < MIN_LEASE_MARGIN:
        raise ValueError(f"lease-margin: expected {MIN_LEASE_MARGIN:g} s or more, got {seconds:g} s")


def _at_least_one(config: Config, attribute: Attribute[tuple[str, ...]], http: tuple[str, ...]) -> None:
    if not http:
        raise ValueError("http: expected at least one endpoint, got none")


def _with_backup_dir(config: Config, attribute: Attribute[str | None], socket: str | None) -> None:
    if (socket is None) is not (config.backup_dir is None):
        raise ValueError("backup-dir and backup-socket: expected both or neither, got one")
    if socket is not None and config.store.kind != "sqlite":
        raise ValueError(
            "backup-dir and backup-socket: expected a store in a file, got a database (use pg_dump)"
        )


@frozen(kw_only=True)
class Config:
    """All options of the daemon; durations are in seconds, sizes in bytes."""

    http: tuple[str, ...] = _option(
        ("8090",),
        endpoint,
        "PORT, localhost:PORT or Twisted endpoint",
        "address of HTTP; a port alone: IPv4 and IPv6",
        tuple,
        validator=_at_least_one,
    )
    udp: tuple[DatagramAddress, ...] = _option(
        ("8090",),
        datagram_address,
        "[HOST:]PORT, unix:PATH[:mode=MODE] or systemd:NAME",
        "address of UDP, a port alone: IPv4 and IPv6; or a UNIX datagram socket, or one that systemd passes",
        tuple,
    )
    store: StoreAddress = _option(
        "sqlite:oneshotd.sqlite",
        StoreAddress.parse,
        "sqlite:PATH or postgresql:DSN",
        "file of the store, by default in $STATE_DIRECTORY, else in the working directory; or a database",
    )
    daemon_name: str = _option(
        "",
        short_text,
        "name",
        "name of this daemon among those that share a database: under it, it ends after a crash what it left"
        " behind; by default the host's name and the first HTTP address",
    )
    lease_margin: float = _option(
        "30s",
        duration,
        "duration",
        "how long the scrapers of a dead daemon wait beyond their timeout, where daemons share a database;"
        " longer than the database needs for a failover",
        validator=_at_least_a_margin,
    )
    hold: float = _option(
        "1h", duration, "duration", "how long events are held, and how long a scraper may be absent"
    )
    newcomers: float = _option(
        "5m",
        duration,
        "duration",
        "age of the oldest event that a new scraper gets; at most the hold",
        validator=_within_hold,
    )
    metric: str = _option("events_to_metrics", metric_name, "name", "metric name of events without __name__")
    timestamps: Timestamps = _option(
        "scrape",
        mode,
        "scrape|event",
        "timestamp of samples, if the scraper does not choose; see also $USE_EXPLICIT_TIMESTAMPS",
    )
    max_labels: int = _option(
        str(MAX_LABELS),
        bounded(MAX_LABELS),
        "labels",
        "most labels of an event; an event with more is refused",
    )
    max_label_value: int = _option(
        str(MAX_VALUE_BYTES),
        bounded(MAX_VALUE_BYTES),
        "bytes",
        "longest value of a label; an event with a longer one is refused",
    )
    max_events: int = _option("1000000", count, "events", "most events held; the oldest are deleted first")
    max_bytes: int = _option("1G", size, "size", "most bytes held; the oldest events are deleted first")
    trusted_proxy: Networks = _option(
        (), parse_member, "CIDR|unix", "proxies whose X-Forwarded-For and X-Real-IP are trusted", _networks
    )
    allow_emit: Networks = _option(
        (), parse_member, "CIDR|unix", "clients that may send events; none: all clients", _networks
    )
    allow_scrape: Networks = _option(
        (), parse_member, "CIDR|unix", "clients that may scrape and look; none: all clients", _networks
    )
    web_config: str | None = _option(
        "",
        path_or_none,
        "FILE",
        "TLS, users, headers and a rate limit, in Prometheus' format of a web configuration; read again"
        " when it changes",
    )
    access: str | None = _option(
        "",
        path_or_none,
        "FILE",
        "rules of who may send events, scrape, look and administer, in TOML; read again when it changes",
    )
    hooks: str | None = _option(
        "",
        path_or_none,
        "DIR",
        "folder of hooks, a TOML file NAME.toml for each POST /hook/NAME; read again when it changes",
    )
    pings: str | None = _option(
        "",
        path_or_none,
        "FILE",
        "checks whose pings are taken at /ping/ and /p/, in TOML; read again when it changes",
    )
    receivers: str | None = _option(
        "",
        path_or_none,
        "FILE",
        "receivers of remote write, to which events are sent under their own time, in TOML; read again when"
        " it changes",
    )
    backup_dir: str | None = _option(
        "", path_or_none, "PATH", "folder for backups of the store; requires backup-socket"
    )
    backup_socket: str | None = _option(
        "",
        path_or_none,
        "PATH",
        "UNIX socket, for its owner only, at which POST /api/v1/backup makes a backup",
        validator=_with_backup_dir,
    )
    max_hook_body: int = _option(
        "25M",
        body_size,
        "size",
        "largest body of a webhook, at /hook/NAME, as sent and inflated; at most 25M",
    )
    max_connections: int = _option("1000", count, "connections", "most HTTP connections at a time")
    request_timeout: float = _option("30s", duration, "duration", "time limit for a request to arrive")
    idle_timeout: float = _option(
        "10m", duration, "duration", "time after which an idle connection is closed"
    )
    log_level: str = _option(
        "info", level_name, "|".join(LOG_LEVELS), "lowest level that is logged; see also $LOG_LEVEL"
    )
    access_log: bool = _option(False, str, None, "log every HTTP request")
    fast_path: bool = _option(
        "on",
        on_or_off,
        "on|off",
        "the shorter way for a plain POST /event; off with access-log, and with headers or rate_limit in"
        " web-config",
    )


#: Every option by its name on the command line and in the file, in the order of --help.
OPTIONS: dict[str, Option] = {
    attribute.name.replace("_", "-"): attribute.metadata[Option] for attribute in fields(Config)
}

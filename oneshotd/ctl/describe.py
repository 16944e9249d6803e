"""Say in plain lines what the daemon would do with a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from oneshotd.access.rules import Rule
from oneshotd.core.networks import Networks
from oneshotd.daemon.config import Config
from oneshotd.daemon.option_values import LOCALHOST, DatagramAddress, SystemdSocket, UnixAddress

#: What an address of HTTP speaks.
PLAIN = "without TLS"

_LOOPBACK = Networks.parse(["127.0.0.0/8", "::1"])

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def duration_text(seconds: float) -> str:
    """Return a duration as the options have it: ``1h``, ``90s``, ``500ms``."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


def networks_text(networks: Networks) -> str:
    """Return the members of a set of networks; a single address without its length."""
    return ", ".join(str(member).removesuffix("/32").removesuffix("/128") for member in networks.members)


def http_line(where: str, tls: str) -> str:
    """Return the line of one address of HTTP.

    :param tls: what it speaks, for instance "with TLS".
    """
    host, colon, port = where.partition(":")
    if not colon:
        where = f"port {where} of every address"
    elif host == LOCALHOST:
        where = f"port {port} of this machine only"
    return f"HTTP: {where}, {tls}"


def is_local(where: str) -> bool:
    """Return whether only this machine reaches an address of HTTP."""
    kind, _, rest = where.partition(":")
    if kind in (LOCALHOST, "unix"):
        return True
    found = re.search(r"(?:^|:)interface=((?:\\:|[^:])*)", rest)
    interface = found[1].replace("\\:", ":") if found else ""
    return interface == "localhost" or interface in _LOOPBACK


def udp_line(address: DatagramAddress) -> str:
    """Return the line of one address of UDP."""
    if isinstance(address, UnixAddress):
        return f"UDP: {address}, with the permissions {address.mode:03o}"
    if isinstance(address, SystemdSocket):
        return f"UDP: the socket {address.name} of systemd"
    if address.host is None:
        where = f"port {address.port} of every address"
    elif address.host == LOCALHOST:
        where = f"port {address.port} of this machine only"
    else:
        where = f"port {address.port} of {address.host}"
    return f"UDP: {where}"


def store_lines(config: Config, folder: str) -> Iterator[str]:
    """Yield the lines of the store and its backups.

    :param folder: the daemon's working directory, empty if it is unknown.
    """
    where = config.store.path
    if config.store.kind == "postgresql":
        where = f"PostgreSQL, {where}"
    elif not where.startswith("/"):
        where = f"{folder}/{where}" if folder else f"{where} in the working directory of the daemon"
    yield f"store: {where}, events are held for {duration_text(config.hold)}"
    if config.backup_socket is not None:
        yield f"backups: in {config.backup_dir}, asked for at {config.backup_socket}"


def access_lines(config: Config, rules: Sequence[Rule] | None, *, has_users: bool) -> Iterator[str]:
    """Yield who may do what."""
    if rules is not None:
        yield f"access: {config.access}, {len(rules)} rules, of which the first that fits decides"
        yield from (rule_line(rule) for rule in rules)
    elif has_users:
        yield "access: no file, so each user may do all"
    for option, networks, does in (
        ("--allow-emit", config.allow_emit, "send events"),
        ("--allow-scrape", config.allow_scrape, "scrape and look"),
    ):
        if networks:
            yield f"access: only {networks_text(networks)} may {does} ({option})"
        elif rules is None and not has_users:
            yield f"access: every client may {does}"
    if config.trusted_proxy:
        proxies = networks_text(config.trusted_proxy)
        yield f"access: the address of a client behind {proxies} is in X-Forwarded-For (--trusted-proxy)"


def rule_line(rule: Rule) -> str:
    """Return the line of a rule: its clients, its role and its bounds."""
    bounds = list(_bounds(rule))
    return f"{rule}{': ' if bounds else ''}{'; '.join(bounds)}"


def _bounds(rule: Rule) -> Iterator[str]:
    if rule.scraper is not None:
        yield f"scraper {rule.scraper}"
    if rule.labels:
        yield "labels " + ", ".join(f'{name}="{value}"' for name, value in rule.labels.items())
    if rule.metrics:
        yield "metrics " + ", ".join(rule.metrics)
    if rule.types:
        yield "types " + ", ".join(rule.types)
    if rule.events_per_second is not None:
        yield f"{rule.events_per_second:g} events a second"
    if rule.series_per_day is not None:
        yield f"{rule.series_per_day} series a day"

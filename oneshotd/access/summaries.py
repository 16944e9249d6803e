"""One line about a web configuration, an access file, or what is new in one: for the log, without secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from attrs import evolve

from oneshotd.access.rules import Role, Rule
from oneshotd.access.web_config import WebConfig

#: Names that a line has at most; beyond them it has their number.
_MOST_NAMES = 5


def date(seconds: float) -> str:
    """Return Unix seconds as ``2026-11-28 08:30 UTC``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def web_summary(config: WebConfig, end: float | None) -> str:
    """Return what a web configuration locks.

    :param end: of the certificate, Unix seconds.
    """
    parts = ["no TLS" if config.tls is None or end is None else f"TLS with a certificate until {date(end)}"]
    parts.append(_number(len(config.users), "user"))
    if config.headers:
        parts.append(_number(len(config.headers), "header"))
    if config.rate_limit is not None:
        parts.append("a rate limit")
    return ", ".join(parts)


def web_changes(before: WebConfig, after: WebConfig) -> Iterator[str]:
    """Yield what differs in two web configurations, but for the content of the files that they name."""
    if before.tls != after.tls:
        yield "TLS settings"
    users = [
        *_named(after.users.keys() - before.users.keys(), "added"),
        *_named(before.users.keys() - after.users.keys(), "removed"),
        *_named(
            {name for name, known in before.users.items() if after.users.get(name, known) != known},
            "with another password",
        ),
    ]
    if users:
        yield f"users: {', '.join(users)}"
    if before.headers != after.headers:
        yield "headers"
    if before.rate_limit != after.rate_limit:
        yield "rate limit"


def rules_summary(rules: Sequence[Rule]) -> str:
    """Return how many rules of which roles there are."""
    roles = Counter(rule.role for rule in rules)
    each = ", ".join(f"{roles[role]} {role.value}" for role in Role if roles[role])
    return _number(len(rules), "rule") + (f" ({each})" if each else "")


def rule_changes(before: Sequence[Rule], after: Sequence[Rule]) -> Iterator[str]:
    """Yield how many rules were added and removed, and whether they have another order."""
    old, new = _contents(before), _contents(after)
    added, removed = sum((Counter(new) - Counter(old)).values()), sum((Counter(old) - Counter(new)).values())
    if added or removed:
        yield f"rules: {added} added, {removed} removed"
    elif old != new:
        yield "rules: another order"


def _contents(rules: Sequence[Rule]) -> list[str]:
    return [repr(evolve(rule, number=0)) for rule in rules]


def _named(names: Collection[str], what: str) -> Iterator[str]:
    if len(names) > _MOST_NAMES:
        yield f"{len(names)} {what}"
    elif names:
        yield f"{', '.join(sorted(names))} {what}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def replaced(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Return the names of files whose content differs."""
    return [name for name, content in after.items() if before.get(name) != content]

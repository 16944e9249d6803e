"""Reads the access file (``--access``): a TOML file of ``[[allow]]`` tables (docs/security.md).

Reading is strict: what is not understood is an error that names the file, the rule and the key. No error
repeats the value of `token_sha256`, which may be a token that was put there by mistake.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.grammar import MAX_NAME_BYTES, MAX_VALUE_BYTES, Rules, one_line_end
from oneshotd.core.patterns import matches_any
from oneshotd.core.toml_values import exposed_label, parse_toml, shown, unknown_key
from oneshotd.errors import ConfigError

#: Bounds of the file: bytes, rules, and members of a list.
MAX_FILE_BYTES, MAX_RULES, MAX_LIST = 1 << 20, 1000, 1000

#: Characters of a user's name, of a SAN and of a type.
MAX_TEXT = 1024

#: Bounds of `events_per_second` and `series_per_day`. A series takes some 150 bytes of memory.
MIN_RATE, MAX_RATE, MAX_SERIES = 0.001, 1_000_000, 1_000_000

_TOKEN = re.compile(r"[0-9a-f]{64}")
_SCRAPER = re.compile(r"[A-Za-z0-9._:@/*-]{1,64}")
_METRIC = re.compile(r"[a-zA-Z_:*][a-zA-Z0-9_:*]*")

#: Turns a value of the file into one of the rule.
#: :raises ValueError: "expected …, got …".
_Parse = Callable[[Any], Any]


def read_access_file(path: str | os.PathLike[str], limits: Rules | None = None) -> Sequence[Rule]:
    """Read the rules of an access file, in their order.

    :param limits: of events, which forced labels have to meet, too.
    :raises ConfigError: one line, "FILE: allow 3: key: what is wrong".
    """
    file = os.fspath(path)
    try:
        return _rules(_read(file), limits or Rules())
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None


def _read(file: str) -> Mapping[str, Any]:
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):  # a pipe without a writer would hold up the daemon
            raise ValueError("expected a regular file")
        with open(file, "rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file is longer than {MAX_FILE_BYTES} bytes")
    return parse_toml(data)


def _rules(table: Mapping[str, Any], limits: Rules) -> Sequence[Rule]:
    for name in table:
        if name != "allow":
            raise ValueError(unknown_key(name, ["allow"]))
    found = table.get("allow", [])
    if not isinstance(found, list) or not all(isinstance(member, dict) for member in found):
        raise ValueError("allow: expected tables, [[allow]]")
    if not found:
        raise ValueError("there is no [[allow]]: without one, nobody may do anything")
    if len(found) > MAX_RULES:
        raise ValueError(f"there are {len(found)} rules, more than {MAX_RULES}")
    rules = []
    for number, keys in enumerate(found, 1):
        try:
            rules.append(_rule(number, keys, limits))
        except ValueError as error:
            raise ValueError(f"allow {number}: {error}") from None
    return rules


def _rule(number: int, keys: Mapping[str, Any], limits: Rules) -> Rule:
    for name in keys:
        if name != "role" and name not in _PARSERS:
            raise ValueError(unknown_key(name, ["role", *_PARSERS]))
    if "role" not in keys:
        raise ValueError(f"role: expected {_ROLES}, got none")
    role = _parsed("role", _role, keys["role"])
    for name in keys:
        if name in _OF_ROLE and _OF_ROLE[name] is not role:
            raise ValueError(f"{name}: belongs to the role {_OF_ROLE[name].value}, not to {role.value}")
    if not any(name in keys for name in _PRINCIPALS):
        raise ValueError(f"expected at least one of {', '.join(_PRINCIPALS)}: who may {role.value}?")
    values = {name: _parsed(name, _PARSERS[name], value) for name, value in keys.items() if name != "role"}
    rule = Rule(number=number, role=role, **values)
    _check_labels(rule, limits)
    return rule


def _check_labels(rule: Rule, limits: Rules) -> None:
    """Check the forced labels against the limits of events and the types of the rule."""
    if len(rule.labels) > limits.max_labels:
        raise ValueError(f"labels: expected at most {limits.max_labels} (max-labels), got {len(rule.labels)}")
    for name, text in rule.labels.items():
        size = len(text.encode())
        if size > limits.max_value:
            raise ValueError(
                f"labels: {name}: expected at most {limits.max_value} bytes (max-label-value), got {size}"
            )
    kind = rule.labels.get("type")
    if kind is not None and rule.types and not matches_any(rule.types, kind):
        raise ValueError(f"labels: the type {kind!r} is none of types, so no event would be allowed")


def _parsed(name: str, parse: _Parse, value: object) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _role(value: object) -> Role:
    try:
        return Role(value)
    except ValueError:
        raise ValueError(f"expected {_ROLES}, got {shown(value)}") from None


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise ValueError(f"expected {what}, got {shown(value)}")
    return value


def _user(value: object) -> str:
    user = _text("the name of a user", value)
    if ":" in user:  # RFC 7617 section 2
        raise ValueError(f"expected a name without a colon, got {shown(value)}")
    return user


def _token(value: object) -> str:
    lowered = value.lower() if isinstance(value, str) else ""
    if not _TOKEN.fullmatch(lowered):
        got = f"{len(value)} characters" if isinstance(value, str) else "no string"
        raise ValueError(
            f"expected the SHA-256 of a token, 64 hexadecimal digits, got {got} (which are not shown)"
        )
    return lowered


def _scraper(value: object) -> str:
    if not isinstance(value, str) or not _SCRAPER.fullmatch(value):
        raise ValueError(f"expected 1 to 64 characters of A-Z a-z 0-9 . _ : @ / - and *, got {shown(value)}")
    return value


def _list(parse: _Parse, value: object) -> tuple[Any, ...]:
    """Parse one text, or a list of them."""
    members = value if isinstance(value, list) else [value]
    if not 0 < len(members) <= MAX_LIST:
        raise ValueError(f"expected 1 to {MAX_LIST} members, got {len(members)}")
    return tuple(parse(member) for member in members)


def _network(value: object) -> str:
    return _text("a network such as 192.0.2.0/24, or unix", value)


def _networks(value: object) -> Networks:
    return Networks.parse(_list(_network, value))


def _metric(value: object) -> str:
    if not isinstance(value, str) or not _METRIC.fullmatch(value) or len(value) > MAX_NAME_BYTES:
        raise ValueError(f"expected a metric name, or a pattern of names with *, got {shown(value)}")
    return value


def _labels(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f'expected a table such as {{ team = "shop" }}, got {shown(value)}')
    return {exposed_label(name): _label_value(name, text) for name, text in value.items()}


def _label_value(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a text that is not empty, got {shown(value)}")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise ValueError(f"{name}: expected at most {MAX_VALUE_BYTES} bytes, got {len(value.encode())}")
    return one_line_end(value)


def _rate(value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not MIN_RATE <= value <= MAX_RATE:  # type: ignore[operator,arg-type]  # is_number
        raise ValueError(f"expected a number from {MIN_RATE:g} to {MAX_RATE}, got {shown(value)}")
    return float(value)  # type: ignore[arg-type]  # is_number


def _series(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SERIES:
        raise ValueError(f"expected a whole number from 1 to {MAX_SERIES}, got {shown(value)}")
    return value


_ROLES = ", ".join(role.value for role in Role)
_PRINCIPALS = ("user", "token_sha256", "san", "network")

#: Key -> its parser.
_PARSERS: Mapping[str, _Parse] = {
    "user": _user,
    "token_sha256": _token,
    "san": partial(_text, "a subject alternative name, as ci.example.org"),
    "network": _networks,
    "scraper": _scraper,
    "labels": _labels,
    "metrics": partial(_list, _metric),
    "types": partial(_list, partial(_text, "a type of events, or a pattern of types with *")),
    "events_per_second": _rate,
    "series_per_day": _series,
}

#: Key -> the only role that it belongs to.
_OF_ROLE: Mapping[str, Role] = {
    "scraper": Role.SCRAPE,
    "labels": Role.EMIT,
    "metrics": Role.EMIT,
    "types": Role.EMIT,
    "events_per_second": Role.EMIT,
    "series_per_day": Role.EMIT,
}

"""Reads the file of --pings: a TOML file of ``[[check]]`` tables (docs/dialects.md).

Reading is strict: what is not understood is an error that names the file, the check and the key. No error
repeats a UUID or a key: the URL of a ping is a credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneshotd.access.small_files import read_small
from oneshotd.core.parsing.grammar import Rules, event
from oneshotd.core.parsing.numbers import duration
from oneshotd.core.toml_values import exposed_label, parse_toml, shown, unknown_key
from oneshotd.errors import ConfigError, Refused
from oneshotd.ingest.dialects.healthchecks import is_slug, is_uuid
from oneshotd.ingest.dialects.pings import KEEP, TYPE, Check, Checks, Place

#: Bounds of the file: bytes, and checks.
MAX_FILE_BYTES, MAX_CHECKS = 1 << 20, 10_000

#: Characters of a key. A guess at 16 of them is hopeless; Healthchecks' ping keys have 22.
MIN_KEY = 16

#: The longest time for which a start is kept, and its name in an error.
MAX_KEEP, MAX_KEEP_TEXT = 7 * 86400.0, "7d"

_KEYS = ("name", "uuid", "key", "slug", "keep", "labels")

#: Labels that the pings themselves have.
_OWN = ("type", "check", "state", "exit_code")


def read_checks_file(path: Path, limits: Rules | None = None) -> Checks:
    """Read the checks of a file.

    :param limits: of events, which the labels of checks have to meet, too.
    :raises ConfigError: one line, "FILE: check 3: key: what is wrong".
    """
    data = read_small(path, where=str(path), limit=MAX_FILE_BYTES)
    try:
        return Checks(_checks(parse_toml(data), limits or Rules()))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _checks(table: Mapping[str, Any], limits: Rules) -> Mapping[Place, Check]:
    for name in table:
        if name != "check":
            raise ValueError(unknown_key(name, ["check"]))
    found = table.get("check", [])
    if not isinstance(found, list) or not all(isinstance(member, dict) for member in found):
        raise ValueError("check: expected tables, [[check]]")
    if len(found) > MAX_CHECKS:
        raise ValueError(f"there are {len(found)} checks, more than {MAX_CHECKS}")
    checks: dict[Place, Check] = {}
    numbers: dict[Place, int] = {}
    for number, keys in enumerate(found, 1):
        try:
            place, check = _place(keys), _check(keys, limits)
            if place in numbers:
                raise ValueError(f"has the uuid, or the key and slug, of check {numbers[place]}")
        except ValueError as error:
            raise ValueError(f"check {number}: {error}") from None
        checks[place], numbers[place] = check, number
    return checks


def _place(keys: Mapping[str, Any]) -> Place:
    for name in keys:
        if name not in _KEYS:
            raise ValueError(unknown_key(name, _KEYS))
    if "uuid" in keys:
        if "key" in keys or "slug" in keys:
            raise ValueError("uuid: expected either uuid, or key and slug, got both")
        uuid = keys["uuid"].lower() if isinstance(keys["uuid"], str) else ""
        if not is_uuid(uuid):
            raise ValueError(
                "uuid: expected the form 01234567-89ab-cdef-0123-456789abcdef, got another one (not shown)"
            )
        return (uuid,)
    if "key" not in keys:
        raise ValueError("expected uuid, or key and slug, got none")
    key, slug = keys["key"], keys.get("slug", keys.get("name"))
    if not isinstance(key, str) or not is_slug(key) or len(key) < MIN_KEY:
        raise ValueError(
            f"key: expected {MIN_KEY} to 100 letters, digits, _ and -, got something else (not shown)"
        )
    if not isinstance(slug, str) or not is_slug(slug):
        raise ValueError(f"slug: expected letters, digits, _ and -, got {_given(slug)}")
    return (key, slug)


def _check(keys: Mapping[str, Any], limits: Rules) -> Check:
    name = keys.get("name")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"name: expected a text, got {_given(name)}")
    labels = keys.get("labels", {})
    if not isinstance(labels, dict):
        raise ValueError(f'labels: expected a table such as {{ team = "shop" }}, got {shown(labels)}')
    for label, text in labels.items():
        if label in _OWN:
            raise ValueError(f"labels: {label} is the ping's own")
        if not isinstance(text, str) or not text:
            raise ValueError(f"labels: {label}: expected a text that is not empty, got {shown(text)}")
        try:
            exposed_label(label)
        except ValueError as error:
            raise ValueError(f"labels: {error}") from None
    try:
        event(
            [*labels.items(), ("type", TYPE), ("check", name), ("state", "success"), ("exit_code", "0")],
            limits,
        )
    except Refused as refused:
        raise ValueError(refused.text) from None
    return Check(name=name, labels=labels, keep=_keep(keys.get("keep")))


def _keep(value: object) -> float:
    if value is None:
        return KEEP
    try:
        seconds = duration(value) if isinstance(value, str) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MAX_KEEP:
        raise ValueError(f"keep: expected a time such as 90m, at most {MAX_KEEP_TEXT}, got {shown(value)}")
    return seconds


def _given(value: object) -> str:
    return "none" if value is None else shown(value)

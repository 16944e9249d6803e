"""Parse TOML files strictly: an error names the key, says what was expected, and shows what came instead."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from oneshotd.core.parsing.grammar import label_name
from oneshotd.core.parsing.names import MAX_NAME_BYTES
from oneshotd.errors import Refused

#: Pairs that are no labels.
RESERVED = ("value", "__name__", "__id__")


def parse_toml(data: bytes) -> Mapping[str, Any]:
    """Return the tables of a TOML file.

    :raises ValueError: it is not TOML; names the line.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"expected UTF-8, got another byte (at line {line})") from None
    except tomllib.TOMLDecodeError as error:
        last = f"at line {len(data.splitlines())}, the last"
        raise ValueError(str(error).replace("at end of document", last)) from None
    except RecursionError:
        raise ValueError("lists or tables are nested too deeply") from None


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Return the error for a key that there is not, with the nearest one that there is."""
    near = get_close_matches(name.lower().replace("-", "_")[:MAX_NAME_BYTES], known, n=1, cutoff=0.5)
    return f"there is no key {name[:80]!a}" + "".join(f"; the nearest is {other!r}" for other in near)


def shown(value: object) -> str:
    """Return a value for an error, shortened; of a table or list its kind only."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return f"{value!a}"[:80] if isinstance(value, str) else str(value)[:80]


def exposed_label(name: str) -> str:
    """Return the name of a label that is written as it is exposed.

    :raises ValueError: it is no label, or would be exposed under another name.
    """
    if name in RESERVED:
        raise ValueError(f"{name} is no label")
    try:
        written = label_name(name)
    except Refused as refused:
        raise ValueError(refused.text) from None
    if written != name:
        raise ValueError(f"expected the name as it is exposed, {written!r}, got {name[:80]!a}")
    return name

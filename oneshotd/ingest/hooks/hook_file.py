"""Read the file of a hook: ``NAME.toml``, a mapping or a preset, and how senders are verified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from oneshotd.access.small_files import read_small
from oneshotd.core.parsing.formats import Rules
from oneshotd.core.toml_values import parse_toml
from oneshotd.errors import ConfigError
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.hooks.verification import Verification, Verifier

#: Bytes of a file.
MAX_FILE_BYTES = 64 * 1024

#: How the name of a hook is written.
NAME = "1 to 64 characters of a-z 0-9 and -"

_NAME = re.compile(r"[a-z0-9-]{1,64}")


@frozen(kw_only=True)
class HookFile:
    """The content of a file.

    :param verification: None: the access rules decide.
    """

    recipe: Recipe
    verification: Verification | None = None


def hook_name(path: Path) -> str:
    """Return the name of the hook of a file.

    :raises ConfigError: it cannot be in a URL.
    """
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: expected a name of {NAME}, with .toml")
    return path.stem


def parse_hook_file(data: bytes, name: str, limits: Rules | None = None) -> HookFile:
    """Parse the content of a file; no other file is read.

    :param limits: of events, which constant labels have to keep, too.
    :raises ValueError: "KEY: expected …, got …".
    """
    tables = dict(parse_toml(data))
    verify = tables.pop("verify", None)
    recipe = Recipe.parse(name, tables, limits)
    if verify is None:
        return HookFile(recipe=recipe)
    try:
        return HookFile(recipe=recipe, verification=Verification.parse(verify, recipe.preset))
    except ValueError as error:
        raise ValueError(f"verify: {error}") from None


def read_hook_file(path: Path, limits: Rules | None = None) -> HookFile:
    """Read a file, without the secrets that it names.

    :raises ConfigError: one line, "FILE: KEY: what is wrong".
    """
    name = hook_name(path)
    data = read_small(path, where=str(path), limit=MAX_FILE_BYTES)
    try:
        return parse_hook_file(data, name, limits)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def files_of(path: Path, file: HookFile) -> Sequence[Path]:
    """Return the file, and those of its secrets."""
    secrets = () if file.verification is None else file.verification.paths(path.parent)
    return (path, *secrets)


def read_secrets(path: Path, file: HookFile) -> Verifier | None:
    """Read the secrets that a file names.

    :raises ConfigError: "FILE: verify: secret_files: what is wrong".
    """
    if file.verification is None:
        return None
    try:
        return file.verification.read(path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: verify: secret_files: {error}") from None

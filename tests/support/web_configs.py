"""Web configuration files for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneshotd.access.web_config import WebConfig, read_web_config
from oneshotd.errors import ConfigError


def read_text(folder: Path, text: str) -> WebConfig:
    """Write a web configuration file, ``web.yml``, and read it."""
    path = folder / "web.yml"
    path.write_text(text, encoding="utf-8")
    return read_web_config(path)


def error_of(folder: Path, text: str) -> str:
    """Return the error of a bad web configuration file, from the number of the line on."""
    with pytest.raises(ConfigError) as raised:
        read_text(folder, text)
    place = f"{folder}/web.yml:"
    assert str(raised.value).startswith(place)
    return str(raised.value).removeprefix(place)

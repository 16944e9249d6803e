"""The command blocks of the README."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"

_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(marker: str) -> str:
    """The one fenced block of the README in which `marker` occurs."""
    found = [text for text in _FENCED.findall(README.read_text(encoding="utf-8")) if marker in text]
    assert len(found) == 1, f"README.md has {len(found)} blocks with {marker!r}"
    return str(found[0])


def on_port(text: str, port: int) -> str:
    """The same commands for a daemon that has only 127.0.0.1 and this port."""
    return text.replace("localhost:8090", f"127.0.0.1:{port}").replace("localhost/8090", f"127.0.0.1/{port}")

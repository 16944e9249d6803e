"""The names of the ways by which events reach a store."""

from __future__ import annotations

from pathlib import Path

from oneshotd.core.way import Way

API = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_api_page_has_each_way() -> None:
    """Who reads the field would meet a value that nobody has explained."""
    (row,) = [line for line in API.read_text(encoding="utf-8").splitlines() if line.startswith("| `way` |")]
    assert all(f"`{way.value}`" in row for way in Way)

"""docs/recipes.md, taken apart: the files of each recipe, and the samples that it promises."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def chapters() -> dict[str, str]:
    """Return the page's chapters: heading -> text."""
    _, *found = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: text for heading, _, text in (part.partition("\n") for part in found)}


def block(heading: str, language: str, number: int = 0) -> str:
    """Return a file of a recipe: the chapter's blocks in this language are counted from 0."""
    texts = [text for kind, text in _FENCED.findall(chapters()[heading]) if kind == language]
    return str(texts[number])


def promises(heading: str) -> list[str]:
    """Return the samples that the chapter promises, in its order."""
    return re.findall(r"`(events_to_metrics\{[^`]+)`", chapters()[heading])

"""docs/compatibility.md lists existing names only."""

from __future__ import annotations

import re
from pathlib import Path

import oneshotd.emit

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"


def row(title: str) -> list[str]:
    """Return the names in a row of the table."""
    found = re.search(rf"^\| \*\*{title}\*\* \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, title
    return re.findall(r"`([^`]+)`", found[1])


def test_the_python_names_can_be_imported() -> None:
    """A program relies on a name that the package does not have."""
    module, *names = row("Python")
    assert module == "oneshotd.emit"
    assert names and set(names) <= set(oneshotd.emit.__all__)


def test_every_endpoint_is_on_a_page() -> None:
    """An endpoint would be promised that no page explains."""
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGE.parent.glob("*.md") if path != PAGE)
    for endpoint in row("HTTP"):
        assert endpoint.rstrip("…") in pages, endpoint

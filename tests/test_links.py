"""The links between the pages of the documentation, their pictures, and the files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[`*]", "", title).strip().lower() for title in _HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """A reader follows a link into nothing."""
    for link in map("".join, _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_each_page_is_reached_from_the_first_one(page: Path) -> None:
    """A reader would not find the page."""
    assert f"docs/{page.name}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_source_file_that_is_named_is_there(page: Path) -> None:
    """A reader looks for a file that has another name now."""
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[\w.-]+/)*\w+\.(?:py|sql|pyi))`", text):
        folders = (ROOT, ROOT / "oneshotd", ROOT / "tests")
        # A name without a folder means a neighbour of the one that was named before it.
        there = any((folder / name).exists() for folder in folders)
        assert there or ("/" not in name and any(ROOT.glob(f"[obt]*/**/{name}"))), name

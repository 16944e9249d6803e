"""docs/recipes.md: a test for each recipe, and each says what a retry and an absent daemon do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.recipes_page import PAGE, chapters

from oneshotd.core.parsing import foreign

RECIPES = [heading for heading in chapters() if heading not in ("curl or oneshot-emit", "StatsD")]


def test_the_table_of_contents_has_each_chapter() -> None:
    listed = re.findall(r"^\* \[(.+)\]\(#", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == list(chapters())


@pytest.mark.parametrize("heading", RECIPES)
def test_each_recipe_is_run_by_a_test(heading: str) -> None:
    """A recipe that nobody runs goes wrong some day."""
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (Path(__file__).parent / "e2e").glob("test_recipes_*.py")
    )
    kinds = set(re.findall(r"^```(\w+)$", chapters()[heading], re.MULTILINE)) - {"systemd"}
    assert kinds
    for kind in kinds:
        assert re.search(rf'block\((?:"{re.escape(heading)}"|CHAPTER), "{kind}"', tests), kind


@pytest.mark.parametrize("heading", RECIPES)
def test_each_recipe_says_what_the_sender_pays(heading: str) -> None:
    text = chapters()[heading]
    assert "**The daemon is away**" in text
    assert re.search(r"\*\*A re(try|petition|start)|\*\*A refused", text)


def test_each_format_that_a_refusal_names_has_its_remedy() -> None:
    """The refusal says "see docs/emitting.md", and the page would not know the format."""
    page = PAGE.with_name("emitting.md").read_text(encoding="utf-8")
    table = page.partition("## Lines of other formats\n")[2].partition("\n## ")[0].lower()
    for what, _ in foreign._FORMATS:
        name = re.sub(r"^an? ", "", what).partition(",")[0].lower()
        assert name in table or all(word.rstrip("s") in table for word in name.split()), what

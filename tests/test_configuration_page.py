"""docs/configuration.md is made from the option table."""

from pathlib import Path

from tools.configuration_page import page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"


def test_the_page_is_made_from_the_table() -> None:
    """The page would have an option that does not exist, or lack one."""
    hint = "python -m tools.configuration_page > docs/configuration.md"
    assert PAGE.read_text(encoding="utf-8") == page(), hint

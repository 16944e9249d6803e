"""docs/configuration.md says what the option table says."""

from pathlib import Path

from tools.configuration_page import page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"


def test_the_page_is_made_from_the_table() -> None:
    """An operator would look up an option that the daemon does not have, or not find one that it has."""
    hint = "python -m tools.configuration_page > docs/configuration.md"
    assert PAGE.read_text(encoding="utf-8") == page(), hint

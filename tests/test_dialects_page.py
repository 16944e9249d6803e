"""The examples of docs/dialects.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.hook_messages import CONTEXT, message

from oneshotd.ingest.hooks.hook_file import parse_hook_file
from oneshotd.ingest.hooks.trial import tried

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "dialects.md").read_text(encoding="utf-8")
CHAPTER = PAGE.partition("## A hook of your own\n")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    """The chapter's fenced blocks in this language."""
    found = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", CHAPTER)
    return [text for kind, text in found if kind == language]


def test_the_example_shows_what_the_command_prints() -> None:
    """The first hook that a user copies would do something else."""
    (payload,) = blocks("json")
    hook = parse_hook_file(blocks("toml")[0].encode(), "ci")
    shown = [
        re.sub(r"oneshotd:[0-9a-f]{64}", "oneshotd:KEY", line)
        for line in tried(hook.recipe, message(payload.encode()), CONTEXT).lines()
    ]
    (wanted,) = blocks("")
    assert shown == re.sub(r"oneshotd:[0-9a-f]+…", "oneshotd:KEY", wanted).splitlines()


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_file_of_the_page_is_read(text: str) -> None:
    if text.startswith("[verify]"):
        text = f'{text}\n[labels]\ntype = "=x"\n'
    parse_hook_file(text.encode(), "ci")

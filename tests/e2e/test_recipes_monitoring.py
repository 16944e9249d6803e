"""docs/recipes.md: a real Nagios notifies, and Icinga's command is run with the values of its macros."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nagios import Nagios
from support.processes import until
from support.recipe_machine import PATIENCE, Machine, machine
from support.recipes_page import block, promises

pytestmark = pytest.mark.e2e

CHAPTER = "Nagios and Icinga"

#: What a plug-in may write.
HOSTILE = """DISK 'CRITICAL': 5% free & "x" $(id) `id` \\ = ü"""

#: Runtime macros of Icinga 2 for a notification of a service.
ICINGA = {
    "host.name": "web-1",
    "service.name": "disk",
    "service.state": "CRITICAL",
    "service.output": HOSTILE,
    "service.last_state_change": "1795860000.123456",
    "notification.type": "PROBLEM",
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def test_nagios_reports_each_state_once(here: Machine) -> None:
    """Nagios repeats a notification as long as the problem lasts."""
    folder = here.folder / "nagios"
    with Nagios(folder, here.adapted(block(CHAPTER, "nagios")), here.variables) as nagios:

        def repeated() -> bool:
            nagios.submit(2, HOSTILE)
            return nagios.notifications() >= 3

        until(repeated, PATIENCE, lambda: f"notifications\n{(folder / 'nagios.log').read_text()}")
        problem = here.await_events(1, type="notification")[0]
        assert problem["detail"]["text"].startswith("DISK CRITICAL: 5% free ")
        assert problem["detail"]["text"].endswith("= ü")
        until(lambda: here.duplicates() >= 2, PATIENCE, "repetitions are duplicates")
        assert here.samples() == promises(CHAPTER)
        nagios.submit(0, "fine")
        here.await_events(2, type="notification")
        (recovery,) = here.events(kind="RECOVERY")
        assert recovery["labels"] == {**problem["labels"], "kind": "RECOVERY", "state": "OK"}


def test_icinga_2(here: Machine) -> None:
    """Icinga replaces the macros in each word, and runs the words without a shell."""
    text = here.adapted(block(CHAPTER, "icinga"))
    (words,) = re.findall(r"command = \[(.*?)\]", text, re.DOTALL)
    command = [
        re.sub(r"\$([\w.]+)\$", lambda found: ICINGA[found[1]], word)
        for word in re.findall(r'"([^"]*)"', words)
    ]
    for _ in range(2):
        here.run(*command)
    assert here.samples() == promises(CHAPTER)
    assert here.duplicates() == 1
    assert here.events(type="notification")[0]["detail"] == {"text": HOSTILE}

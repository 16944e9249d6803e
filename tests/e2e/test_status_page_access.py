"""The status page for everybody: on a phone, by keyboard and screen reader, without JavaScript, with a login;
and its table of access rules.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.chromium import Chromium
from support.daemon import Daemon
from support.status_page import Door, shows

pytestmark = pytest.mark.e2e

#: Set to a folder, the screenshots go there: ``make screenshots``.
SCREENSHOTS = "ONESHOTD_SCREENSHOTS"


def test_it_works_without_javascript(busy: Daemon, browser: Chromium) -> None:
    """A hardened browser, or one in a terminal, would show an empty page."""
    page = browser.page(script=False)
    page.goto(busy.url)
    root = page.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    html = page.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
    for words in (
        "has not scraped for",
        "unit_failed",
        "prometheus-a",
        "reload for newer",
        "scrape_configs:",
    ):
        assert words in html
    assert "<button" not in html


@pytest.mark.parametrize("width", [320, 360, 768, 1200])
def test_nothing_has_to_be_scrolled_sideways(busy: Daemon, browser: Chromium, width: int) -> None:
    """On a phone half of each line would be out of sight."""
    page = browser.page(width=width)
    page.goto(busy.url)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = page.evaluate(
        "[...document.querySelectorAll('#live *')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)"
    )
    assert wide == []


def test_the_keyboard_reaches_everything(busy: Daemon, browser: Chromium) -> None:
    """Who has no mouse could not copy the configuration."""
    page = browser.page()
    page.goto(busy.url)
    shows(page, "Copy", "#how")
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText.split('\\n')[0]"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", reached
    assert reached[0] == "Skip to the state"
    assert reached.count("Copy") == 4 and "Pause" in reached and "scrape_configs:" in reached


def test_a_block_can_be_copied(busy: Daemon, browser: Chromium) -> None:
    page = browser.page()
    page.goto(busy.url)
    page.call("Page.bringToFront")
    shows(page, "Copy", "#how")
    page.evaluate("document.querySelectorAll('#how .copy')[0].click()")
    shows(page, "Copied", "#how")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_axe_finds_nothing(busy: Daemon, browser: Chromium, axe: str, dark: bool, width: int) -> None:
    """Somebody could not read the page, or not with what they read with."""
    page = browser.page(width=width, dark=dark)
    page.goto(busy.url)
    shows(page, "Copy", "#how")
    page.evaluate(f"{axe}; true")
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in result["violations"]] == []
    checked = page.evaluate("axe.run(document).then((r) => r.passes.map((rule) => rule.id))")
    assert {"color-contrast", "svg-img-alt", "button-name"} <= set(checked)


def test_the_screenshots(busy: Daemon, browser: Chromium, door: Door, tmp_path: Path) -> None:
    """Light, dark and on a phone; the documentation shows those of an open daemon."""
    folder = tmp_path if door.is_locked else Path(os.environ.get(SCREENSHOTS) or tmp_path)
    grounds = {}
    for name, width, height, dark in (
        ("status-light", 1200, 1180, False),
        ("status-dark", 1200, 1180, True),
        ("status-phone", 360, 1100, False),
    ):
        page = browser.page(width=width, dark=dark)
        page.goto(busy.url)
        shows(page, "Updates itself", "#link")
        (folder / f"{name}.png").write_bytes(page.screenshot(height=height))
        grounds[name] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["status-dark"] != grounds["status-light"] == grounds["status-phone"]
    assert all(10_000 < path.stat().st_size < 300_000 for path in folder.glob("status-*.png"))

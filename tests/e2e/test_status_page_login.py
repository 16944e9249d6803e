"""The status page in a browser that logs in, over TLS: by its dialog, and by a name in the address.

A failure shows to whoever watches the page while a password is replaced: it stands still and says nothing,
or the browser asks again and again.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chromium import Chromium, Page
from support.daemon import Daemon
from support.locked_daemon import replace
from support.status_page import PASSWORD, USER, Door, post, shows, text

pytestmark = pytest.mark.e2e

#: Requests of the page, so far.
ASKED = "performance.getEntriesByType('resource').length"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door.locked(tmp_path / "door")


@pytest.fixture
def browser(door: Door, tmp_path: Path) -> Iterator[Chromium]:
    (tmp_path / "chromium").mkdir()
    with door.browser(tmp_path / "chromium") as running:
        yield running


@pytest.fixture
def daemon(door: Door, tmp_path: Path) -> Iterator[Daemon]:
    with door.daemon(tmp_path / "daemon") as running:
        yield running
        assert "Traceback" not in running.process.log_text()


def after(page: Page, seconds: float) -> int:
    """Return how many requests the page has sent, some seconds from now."""
    return int(page.evaluate(f"new Promise((done) => setTimeout(() => done({ASKED}), {seconds * 1000}))"))


def test_a_replaced_password_is_said_once_and_the_new_one_is_asked_for(
    browser: Chromium, daemon: Daemon, door: Door
) -> None:
    """Old figures would pass for new ones; or a dialog would come up every three seconds."""
    page = browser.page()
    page.goto(daemon.url)
    post(daemon, type="before")
    shows(page, "before", "#events")
    assert page.dialogs() == 1, "the script's requests have the password, too"
    door.write_web("another password")
    daemon.process.await_text("with another password")
    shows(page, "The daemon refuses this login. The data is from ", "#link")
    assert "Reload the page to log in." in text(page, "#link")
    assert after(page, 0) == after(page, 4.5)
    assert page.dialogs() == 1
    browser.login = USER, "another password"
    page.goto(daemon.url)
    shows(page, "Updates itself", "#link")
    assert page.dialogs() == 2
    assert "before" in text(page, "#events")


def test_a_name_in_the_address_is_enough(browser: Chromium, daemon: Daemon) -> None:
    """A bookmark with the login would open a page without a style, or one that stands still."""
    page = browser.page()
    login = f"{USER}:{urllib.parse.quote(PASSWORD)}"
    page.goto(daemon.url.replace("://", f"://{login}@"))
    post(daemon, type="later")
    shows(page, "later", "#events")
    assert text(page, "#link").startswith("Updates itself")
    assert PASSWORD not in page.evaluate("document.documentElement.innerText")
    assert page.dialogs() == 0 and page.complaints() == []


def test_an_error_is_told_apart_from_no_answer(browser: Chromium, daemon: Daemon, door: Door) -> None:
    """Somebody would look for a daemon that is down, while it refuses requests."""
    assert door.folder is not None
    page = browser.page()
    page.goto(daemon.url)
    good = (door.folder / "web.yml").read_text()
    replace(door.folder / "web.yml", f"{good}rate_limit: {{interval: 1h, burst: 1}}\n")
    shows(page, "The daemon answers with an error (429). The data is from ", "#link")
    replace(door.folder / "web.yml", good)
    shows(page, "The daemon answers again.", "#link")


def test_a_file_that_is_not_used_is_a_warning(browser: Chromium, daemon: Daemon, door: Door) -> None:
    """Whoever has edited a file would believe that it is in force."""
    assert door.folder is not None
    page = browser.page()
    page.goto(daemon.url)
    good = (door.folder / "access.toml").read_text()
    replace(door.folder / "access.toml", good.replace("emit", "emitter"))
    shows(page, "The file of --access has changed and is not used; the log has the reason.", "#state")
    replace(door.folder / "access.toml", good)
    shows(page, "Ready; no scraper is live yet", "#state h2")
    assert "not used" not in text(page, "#state")
    assert page.complaints() == []

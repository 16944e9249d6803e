"""The box on the status page in which an admin tries a webhook, and the doors, in a browser."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chromium import Chromium, Page
from support.daemon import Daemon
from support.locked_daemon import replace
from support.status_page import ACCESS, Door, shows, text

pytestmark = pytest.mark.e2e

HOOK = """\
each = "/builds"
when = [{ pointer = "header:X-Event", equals = "build" }]
[labels]
type = "=build"
ref = "^/ref"
"""
PAYLOAD = '{"ref": "<b>main</b>", "builds": [{"id": 7}]}'


@pytest.fixture
def door(tmp_path: Path) -> Door:
    made = Door.locked(tmp_path / "door")
    assert made.folder is not None
    replace(made.folder / "access.toml", ACCESS.replace("TOKEN", "0" * 64) + ADMIN)
    return made


ADMIN = """
[[allow]]
role = "admin"
user = "ann"
"""


@pytest.fixture
def browser(door: Door, tmp_path: Path) -> Iterator[Chromium]:
    (tmp_path / "chromium").mkdir()
    with door.browser(tmp_path / "chromium") as running:
        yield running


@pytest.fixture
def daemon(door: Door, tmp_path: Path) -> Iterator[Daemon]:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "ci.toml").write_text(HOOK, encoding="utf-8")
    with door.daemon(tmp_path / "daemon", f"--hooks={hooks}") as running:
        yield running
        assert "Traceback" not in running.process.log_text()


def fill(page: Page, hook: str, headers: str, payload: str) -> None:
    """Fill in the box, and begin."""
    page.evaluate(
        "(() => { const box = document.getElementById('try');"
        f"box.querySelector('select').value = {json.dumps(hook)};"
        "const [headers, payload] = box.querySelectorAll('textarea');"
        f"headers.value = {json.dumps(headers)}; payload.value = {json.dumps(payload)};"
        "[...box.querySelectorAll('button')].at(-1).click(); })()"
    )


def test_an_admin_tries_a_webhook(browser: Chromium, daemon: Daemon, door: Door) -> None:
    """A mapping could be tried by its real sender only."""
    page = browser.page(width=360)
    page.goto(daemon.url)
    fill(page, "ci", "X-Event: build", PAYLOAD)
    shows(page, "1 events, 0 left out", "#try")
    assert 'events_to_metrics{ref="<b>main</b>",type="build"}' in text(page, "#try")
    fill(page, "ci", "X-Event:other", PAYLOAD)
    shows(page, "left out /builds/0", "#try")
    fill(page, "ci", "", "{")
    shows(page, "refused with 400", "#try")
    fill(page, "ci", "no header", PAYLOAD)
    shows(page, "TypeError", "#try")
    assert page.complaints() == []
    # Names of hooks come from the page, and are no paths.
    page.evaluate("document.querySelector('#try select').append(new Option('../../events'))")
    fill(page, "../../events", "", PAYLOAD)
    shows(page, "not found", "#try")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    with daemon.browser.open(f"{daemon.url}/api/v1/events") as answer:
        assert json.load(answer)["events"] == []


def test_the_doors_show_what_is_refused(browser: Chromium, daemon: Daemon, door: Door) -> None:
    """Somebody whose events do not arrive could not see why."""
    page = browser.page()
    page.goto(daemon.url)
    shows(page, "Not used so far: /hook/ alertmanager, ci", "#doors")
    request = urllib.request.Request(f"{daemon.url}/hook/ci", b"{", {"X-Event": "<i>"})
    with pytest.raises(urllib.error.HTTPError):
        daemon.browser.open(request)
    shows(page, "POST /hook/ci", "#doors")
    shows(page, "not JSON", "#doors")
    assert "alertmanager" in text(page, "#doors .note")


def test_without_javascript_there_is_a_command(browser: Chromium, daemon: Daemon) -> None:
    page = browser.page(script=False)
    page.goto(daemon.url)
    root = page.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    html = page.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
    assert "/api/v1/try-hook/NAME" in html and "<textarea" not in html and "<button" not in html


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(browser: Chromium, daemon: Daemon, axe: str, dark: bool) -> None:
    """Somebody could not use the box, or not with what they read with."""
    page = browser.page(dark=dark)
    page.goto(daemon.url)
    fill(page, "ci", "X-Event: build", PAYLOAD)
    shows(page, "1 events, 0 left out", "#try")
    page.evaluate(f"{axe}; true")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations)")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []

"""The status page in a real browser, before the real daemon: an open one, and one with TLS and a login.

A failure shows to whoever opens the page when something is wrong: it is unreadable, stands still,
can be taken over by what somebody reported, or shuts somebody out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from support.chromium import Chromium
from support.daemon import REPOSITORY, Daemon, environment
from support.locked_daemon import token
from support.processes import until
from support.status_page import PASSWORD, USER, Door, post, scrape, shows, text

pytestmark = pytest.mark.e2e

HOSTILE = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "' autofocus onfocus='document.title=1' x='",
    "</table></section><style>*{display:none}</style><!--",
    "\u202egnp.exe\u202c \u2066x\u2069 \x1b[2J \x00 \ufffe",
    "&lt;b&gt; &amp; ]]> <![CDATA[",
    "{{7*7}} ${7*7} javascript:alert(1)",
    "x" * 4096,
    "ä" * 2048,
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́O̵̹̻̝̳͂̌̌͘",
)


@pytest.fixture
def fresh(door: Door, tmp_path: Path) -> Iterator[Daemon]:
    with door.daemon(tmp_path) as daemon:
        yield daemon
        assert daemon.errors() == []


def test_it_says_what_there_is(busy: Daemon, browser: Chromium) -> None:
    """Someone at 3 a.m. would not see who misses what."""
    page = browser.page()
    page.goto(busy.url)
    assert "Attention needed" in text(page, "#state")
    assert re.search(
        r"192\.0\.2\.7 Prometheus has not scraped for 1[234] minutes; its 3\d events are kept for another"
        r" 4[678] minutes\.",
        text(page, "#state"),
    )
    kinds = page.evaluate("[...document.querySelectorAll('.hour tbody th')].map((th) => th.innerText)")
    assert kinds == ["login", "cron", "alert", "backup", "deploy", "rollback", "unit_failed"]
    names = page.evaluate("[...document.querySelectorAll('.scrapers tbody th')].map((th) => th.innerText)")
    assert [name.strip() for name in names] == ["192.0.2.7 Prometheus", "prometheus-a", "victoria-1"]
    newest = text(page, ".events tbody tr")
    assert "login" in newest and "realm=shop" in newest
    assert "1 of 3" in newest and "victoria-1" in newest and "192.0.2.7 Prometheus" in newest
    address = f"127.0.0.1:{busy.port}"
    assert f'-X POST "{busy.url}/event' in text(page, "#how")
    assert f'targets: ["{address}"]' in text(page, "#how")
    assert f"/dev/udp/127.0.0.1/{busy.port}" in text(page, "#how")
    assert page.complaints() == []


def test_the_picture_says_in_words_what_it_shows(busy: Daemon, browser: Chromium, door: Door) -> None:
    """Whoever does not see it would get nothing of it."""
    page = browser.page()
    page.goto(busy.url)
    found = page.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [node["name"]["value"] for node in found if node.get("role", {}).get("value") == "image"]
    assert any(words.startswith("6 events between ") and ", most at " in words for words in pictures), (
        pictures
    )
    assert sum(words.startswith("1 event, at ") for words in pictures) == 2
    tables = [node["name"]["value"] for node in found if node.get("role", {}).get("value") == "table"]
    assert len(tables) == (5 if door.is_locked else 4)


def test_it_keeps_itself_up_to_date_and_disturbs_nobody(fresh: Daemon, browser: Chromium) -> None:
    """The page would show what was, or take the focus, the place or the selected text away."""
    for n in range(30):
        post(fresh, type="early", n=str(n))
    page = browser.page(height=500)
    page.goto(fresh.url)
    page.evaluate("""(() => {
        const row = [...document.querySelectorAll('.events tbody tr')].at(3);
        window.row = row;
        getSelection().selectAllChildren(row.querySelector('.label'));
        document.querySelector('#how pre').focus({preventScroll: true});
        scrollTo(0, 300);
        return true;
    })()""")
    marked = page.evaluate("getSelection().toString()")
    assert marked == "n=26"
    scrape(fresh, "prometheus-a")
    post(fresh, type="late", n="1")
    shows(page, "late", ".events tbody tr")
    shows(page, "prometheus-a", "#scrapers")
    assert page.evaluate("getSelection().toString()") == marked
    assert page.evaluate("document.activeElement === document.querySelector('#how pre')")
    assert page.evaluate("window.row.isConnected && window.row.innerText.includes('n=26')")
    assert page.evaluate("scrollY") >= 300
    assert (
        len(page.evaluate("[...document.querySelectorAll('.events tbody tr')].map((r) => r.dataset.key)"))
        == 20
    )
    scrape(fresh, "prometheus-a")
    shows(page, "prometheus-a", ".events tbody tr")
    assert page.complaints() == []


def test_it_says_when_the_daemon_is_away_and_when_it_is_back(fresh: Daemon, browser: Chromium) -> None:
    """Old figures would pass for new ones."""
    page = browser.page()
    page.goto(fresh.url)
    shows(page, "Updates itself", "#link")
    fresh.stop()
    shows(page, "The daemon does not answer. The data is from ", "#link")
    fresh.start()
    shows(page, "The daemon answers again.", "#link")


def test_it_asks_for_nothing_while_nobody_sees_it_or_it_is_paused(fresh: Daemon, browser: Chromium) -> None:
    """A hundred forgotten tabs would keep the daemon busy."""
    page = browser.page()
    page.goto(fresh.url)
    asked = "performance.getEntriesByName(new URL('/live', location).href).length"
    until(lambda: page.evaluate(asked), 20, "a first look")
    page.evaluate("[...document.querySelectorAll('button')].find((b) => b.innerText === 'Pause').click()")
    shows(page, "Paused at ", "#link")
    before = page.evaluate(f"new Promise((done) => setTimeout(() => done({asked}), 500))")
    post(fresh, type="unseen")
    after = page.evaluate(f"new Promise((done) => setTimeout(() => done({asked}), 4500))")
    assert after == before
    page.evaluate("[...document.querySelectorAll('button')].find((b) => b.innerText === 'Resume').click()")
    shows(page, "unseen", "#events")
    turn = "Object.defineProperty(document, 'hidden', {configurable: true, value: %s})"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(f"{turn % 'true'} && {tell}")
    before = page.evaluate(f"new Promise((done) => setTimeout(() => done({asked}), 500))")
    assert page.evaluate(f"new Promise((done) => setTimeout(() => done({asked}), 4500))") == before
    page.evaluate(f"{turn % 'false'} && {tell}")
    until(lambda: page.evaluate(asked) > before, 20, "a look when it is seen again")


def test_what_strangers_report_is_shown_and_never_obeyed(fresh: Daemon, browser: Chromium) -> None:
    """Whoever may report an event would own the browser of whoever looks."""
    for n, value in enumerate(HOSTILE):
        post(fresh, type=value, __name__="hostile")
        post(fresh, n=str(n), label=value)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(fresh, type="x" * 10_240)
    page = browser.page(width=360)
    page.goto(fresh.url)
    for _ in range(2):  # as loaded, and as put in by the script
        shown = text(page, "#events")
        assert "<script>document.title='taken'</script>" in shown
        assert "\\u202egnp.exe\\u202c" in shown and "\\x1b[2J \\x00 \\ufffe" in shown
        assert "x" * 200 not in shown
        assert page.evaluate("document.title") == "oneshotd"
        assert page.evaluate("document.querySelectorAll('#live script, #live style, #live img').length") == 0
        assert page.evaluate("document.querySelectorAll('[onerror], [onfocus], [autofocus]').length") == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        post(fresh, type="and then")
        shows(page, "and then", "#events")
    assert page.complaints() == []
    assert len(fresh.get("/", accept="text/html").encode()) < 200_000


def test_details_are_opened_and_stay_open(fresh: Daemon, browser: Chromium) -> None:
    """The text would close under the eyes of its reader, or lead into a page that takes this one over."""
    for number, value in enumerate(HOSTILE):
        details = {f"detail.{number}": value[:2000], "detail.link": f"javascript:alert({number})"}
        post(fresh, type="hostile", **details)
    post(fresh, type="deploy", **{"detail.text": "a\nb", "detail.link": "https://ci.example/1"})
    page = browser.page(width=360)
    page.goto(fresh.url)
    row = "document.querySelector('.events tbody tr')"
    assert page.evaluate(f"{row}.querySelector('summary').innerText") == "2 details"
    assert page.evaluate(f"{row}.querySelector('dl').checkVisibility()") is False
    page.evaluate(f"window.row = {row}; window.row.querySelector('summary').click(); true")
    post(fresh, type="and then")
    shows(page, "and then", "#events")
    assert page.evaluate("window.row.isConnected && window.row.querySelector('dl').checkVisibility()")
    assert page.evaluate("window.row.querySelector('dl').innerText.includes('a\\nb')")
    links = page.evaluate("[...document.querySelectorAll('#events a')].map((a) => [a.href, a.rel, a.target])")
    assert links == [["https://ci.example/1", "noopener noreferrer", "_blank"]]
    page.evaluate("document.querySelectorAll('#events details').forEach((d) => { d.open = true; }); true")
    assert page.evaluate("document.querySelectorAll('#live script, #live style, #live img').length") == 0
    assert page.evaluate("document.title") == "oneshotd"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.complaints() == []


def test_what_is_shown_to_be_copied_works_as_it_stands(
    fresh: Daemon, browser: Chromium, door: Door, tmp_path: Path
) -> None:
    """The first thing that somebody tries would fail; with a login, with the name put in its place."""
    (tmp_path / "oneshot-emit").write_text(f'#!/bin/sh\nexec {sys.executable} -m oneshotd.emit "$@"\n')
    (tmp_path / "oneshot-emit").chmod(0o755)
    env = {**environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    page = browser.page()
    page.goto(fresh.url)
    blocks = page.evaluate("[...document.querySelectorAll('#how pre')].map((pre) => pre.textContent)")
    curl, datagram, command, config = blocks
    if door.folder is not None:
        assert "curl --user USER \\\n  -X POST" in curl and "ONESHOTD_TOKEN_FILE=oneshotd.token" in command
        curl = curl.replace("USER", shlex.quote(f"{USER}:{PASSWORD}"))
        env |= dict.fromkeys(("CURL_CA_BUNDLE", "ONESHOTD_CA_FILE"), str(door.folder / "ca.pem"))
        (tmp_path / "oneshotd.token").write_text(token("page"))
    for line in (curl, datagram, command):
        subprocess.run(["bash", "-c", line], env=env, cwd=tmp_path, check=True, timeout=60)
    team = 'team="shop",' if door.is_locked else ""  # the rule of the token sets it
    samples = (
        'events_to_metrics{type="deploy",version="1.2"} 1',
        'events_to_metrics{type="backup"} 37.5',
        f'events_to_metrics{{exit_code="0",status="ok",task="backup",{team}type="cron"}} ',
    )
    until(lambda: all(sample in fresh.look() for sample in samples), 20, fresh.look)
    (job,) = yaml.safe_load(config)["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{fresh.port}"]}]
    assert job["params"] == {"scraper": ["prometheus-a"]}
    assert ("basic_auth" in job) is door.is_locked


def test_two_scrapers_under_one_name_are_told_of(fresh: Daemon, browser: Chromium, door: Door) -> None:
    """Each would have a part of the events, and nobody know why."""
    with closing(door.connection(fresh)) as first:
        for _ in range(4):
            post(fresh, type="shared")
            first.request("GET", "/metrics?scraper=prometheus-a", headers=door.headers)
            assert b'type="shared"' in first.getresponse().read()
            assert 'type="shared"' not in scrape(fresh, "prometheus-a")
        page = browser.page()
        page.goto(fresh.url)
        shows(page, "Two connections seem to share one identity, prometheus-a: give each its own", "#state")


def test_what_was_missed_is_said_also_of_one_that_is_given_up(
    browser: Chromium, door: Door, tmp_path: Path
) -> None:
    """Nobody would learn of the loss: the scraper is in no list any more."""
    with door.daemon(tmp_path, "--hold=2s", "--newcomers=1s") as daemon:
        scrape(daemon, "prometheus-a")
        post(daemon, type="missed")
        page = browser.page()
        page.goto(daemon.url)
        shows(page, "prometheus-a has missed 1 event for good", "#state")
        shows(page, "No events are kept for it any more.", "#state")
        assert "Events were lost" in text(page, "#state")

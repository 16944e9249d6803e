"""The status page in a browser that has to log in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.chromium import Chromium, Page
from support.credentials import hashed
from support.memory_site import MemoryServer, open_server, reactor
from support.status_page import shows
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from oneshotd.access.check_queue import PasswordThreads
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role, Rule

pytestmark = pytest.mark.e2e

USERS = {"ann": hashed("word")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest_twisted.ensureDeferred
async def test_the_page_updates_itself_with_a_login_and_says_when_it_is_refused(
    tmp_path: Path, browser: Chromium
) -> None:
    """The page would stand still, or the browser ask for the password every three seconds."""
    policy, threads = AccessPolicy(), PasswordThreads(reactor)
    policy.update(rules=[Rule(number=1, role=Role.LOOK, user="ann")], has_users=True)
    authenticator = Authenticator(USERS, threads, reactor)

    def look(server: MemoryServer, page: Page) -> None:
        here: Any = server.port.getHost()
        page.goto(f"http://ann:word@127.0.0.1:{here.port}/")
        shows(page, "Updates itself", "#link")
        events: Counter[int] = blockingCallFromThread(
            reactor, lambda: Deferred.fromCoroutine(server.happen())
        )
        assert events.total() == 1
        shows(page, "number=0", ".events")
        assert page.evaluate("getComputedStyle(document.body).margin") is not None
        assert page.complaints() == []
        blockingCallFromThread(reactor, authenticator.replace, {"ann": hashed("new")})
        shows(page, "The daemon refuses this login.", "#link")
        asked = "performance.getEntriesByType('resource').length"
        before = page.evaluate(asked)
        assert page.evaluate(f"new Promise((done) => setTimeout(() => done({asked}), 4500))") == before

    async with open_server(tmp_path, access=policy, authenticator=authenticator) as server:
        try:
            await deferToThread(look, server, browser.page())
        finally:
            threads.stop()

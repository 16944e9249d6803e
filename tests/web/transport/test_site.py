"""The memory of a site for all its connections together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from oneshotd.web.transport import site as module
from oneshotd.web.transport.channel import Channel, Progress
from oneshotd.web.transport.site import Site


class Connection:
    """A channel as the site uses it."""

    handling = False
    progress = Progress.CONNECTED

    def __init__(self, site: Site) -> None:
        self.site = site
        self.since = site.reactor.seconds()
        self.held = 0
        self.aborted = False
        site.admit(cast(Channel, self))

    hold = Channel.hold
    let_go = Channel.let_go

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def connect() -> Callable[[], Any]:
    """Opens a connection to a site, a second after the last one."""
    site = Site(Resource(), reactor=Clock(), max_connections=8)

    def open_one() -> Any:
        site.reactor.advance(1.0)
        return Connection(site)

    return open_one


def test_bodies_that_do_not_end_are_so_many_bytes_at_most(
    connect: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them, of a MiB each, would be a GiB; the one that has taken longest goes."""
    monkeypatch.setattr(module, "MAX_HELD", 100)
    first, second, third = connect(), connect(), connect()
    second.hold(40)
    third.hold(40)
    first.hold(20)
    assert not (first.aborted or second.aborted or third.aborted)
    third.let_go()  # whole
    second.hold(60)
    assert (first.aborted, second.aborted) == (True, False)
    third.hold(1)
    assert (second.aborted, third.aborted) == (True, False)
    third.hold(99)
    assert not third.aborted


def test_the_number_of_unread_answers_is_bounded(
    connect: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may have 8 MiB; the one that has waited longest goes."""
    monkeypatch.setattr(module, "MAX_UNREAD", 2)
    monkeypatch.setattr(module, "UNREAD_GRACE", 5.0)
    first, second, third = connect(), connect(), connect()
    site = first.site
    for connection in (second, first, third):
        site.unread_by(connection)
    assert not second.aborted  # a moment is what everybody needs to read
    site.reactor.advance(5.1)
    site.unread_by(first)
    assert (second.aborted, first.aborted, third.aborted) == (True, False, False)
    site.unread_by(third)
    assert not first.aborted


def test_a_burst_of_connections_ends_none_that_has_been_used(connect: Callable[[], Any]) -> None:
    """A scraper between two scrapes has the oldest connection of all, and its next scrape would fail."""
    scraper, handshake = connect(), connect()
    scraper.progress, handshake.progress = Progress.USED, Progress.GREETED
    burst = [connect() for _ in range(20)]
    assert not scraper.aborted and not handshake.aborted
    assert [connection.aborted for connection in burst] == [True] * 14 + [False] * 6


def test_handshakes_that_stall_end_none_that_has_been_used(connect: Callable[[], Any]) -> None:
    """A hello costs its client nothing."""
    scraper = connect()
    scraper.progress = Progress.USED
    for _ in range(20):
        connect().progress = Progress.GREETED
    assert not scraper.aborted


def test_used_connections_do_not_keep_a_new_one_out(connect: Callable[[], Any]) -> None:
    """One request each, and then a thousand idle connections would be the only ones for ten minutes."""
    kept = [connect() for _ in range(8)]
    for connection in kept:
        connection.progress = Progress.USED
    new = connect()
    assert kept[0].aborted and not new.aborted

"""The whole log of a store, read through `IStore.recent`."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from oneshotd.core.events import Event
from oneshotd.core.filters import Selection
from oneshotd.store.interface import IStore

#: Events of one page: more than any test stores.
PAGE = 10**9


def held_events(store: IStore, selection: Selection | None = None) -> Deferred[list[Event]]:
    """Read the held events, or those of a selection, ascending by seq."""
    return Deferred.fromCoroutine(_pages(store, selection or Selection()))


async def _pages(store: IStore, selection: Selection) -> list[Event]:
    found: list[Event] = []
    page = await store.recent(selection, None, PAGE)
    found += page.events
    while page.next is not None:
        page = await store.recent(selection, page.next, PAGE)
        found += page.events
    return found[::-1]

"""Queries of held events and scrapers, answered with what a test has set."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from oneshotd.core.filters import Selection
from oneshotd.query import EventsPage, ScraperOverview, ScraperSeen


@define
class FakeQueries:
    """Records queries; answers with the page and the scrapers that are set, or with a fault."""

    asked: list[tuple[dict[str, str], int | None, int | None, int, int | None]] = field(factory=list)
    selected: list[tuple[Selection, int, int | None]] = field(factory=list)
    page: EventsPage = field(factory=lambda: EventsPage(events=(), next=None))
    known: list[ScraperSeen] = field(factory=list)
    lost: dict[str, dict[str, int]] = field(factory=dict)
    fault: Exception | None = None

    async def events(
        self,
        filters: Mapping[str, str],
        since: int | None = None,
        until: int | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> EventsPage:
        self.asked.append((dict(filters), since, until, limit, before))
        if self.fault is not None:
            raise self.fault
        return self.page

    async def select(self, selection: Selection, *, limit: int, before: int | None) -> EventsPage:
        self.selected.append((selection, limit, before))
        if self.fault is not None:
            raise self.fault
        return self.page

    async def scrapers(self) -> list[ScraperSeen]:
        if self.fault is not None:
            raise self.fault
        return self.known

    async def survey(self) -> ScraperOverview:
        return ScraperOverview(scrapers=await self.scrapers(), lost=self.lost)

"""Read the log backwards, newest first, one bounded page per job.

The pages are short because the store's thread does nothing else meanwhile: appends and scrapes run
between two pages.
"""

from __future__ import annotations

from oneshotd.core.events import Event
from oneshotd.core.filters import Selection
from oneshotd.store.interface import LogPage
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.segments import read_back, seq_before

#: Events and characters of text beyond which a page ends: at the end of the segment, or at once if the
#: selected events have so much text.
PAGE_EVENTS = 2000
PAGE_TEXT = 1 << 20


def recent(ledger: Ledger, selection: Selection, before: int | None, limit: int) -> LogPage:
    """Read one page; see `IStore.recent`."""
    ledger.flush()
    wanted = selection.series_test()
    end = ledger.head if before is None else min(before - 1, ledger.head)
    if selection.until is not None:
        accepted_before = seq_before(
            ledger.connection, selection.until, ledger.pruned, ledger.head, "clock_at"
        )
        end = min(end, accepted_before)
    found: list[Event] = []
    looked = size = shown = 0
    for segment, latest_at in read_back(ledger.connection, end):
        if selection.since is not None and latest_at < selection.since:
            break
        for index in range(len(segment.series) - 1, -1, -1):
            series, at = segment.series[index], segment.ats[index]
            looked += 1
            size += len(series)
            if wanted(series) and selection.in_time(at):
                found.append(Event(segment.first + index, at, series, segment.values[index]))
                shown += len(series)
                if len(found) == limit or shown >= PAGE_TEXT:
                    return _page(ledger, found, looked, segment.first + index)
        if looked >= PAGE_EVENTS or size >= PAGE_TEXT:
            return _page(ledger, found, looked, segment.first)
    return LogPage(events=found, looked=looked, next=None)


def _page(ledger: Ledger, found: list[Event], looked: int, reached: int) -> LogPage:
    return LogPage(events=found, looked=looked, next=reached if reached - 1 > ledger.pruned else None)

"""Collect one page of the log, newest event first. Pure.

The pages are short because a store's thread does nothing else meanwhile: appends and scrapes run
between two pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from oneshotd.core.events import Event
from oneshotd.core.filters import Selection
from oneshotd.store.interface import LogPage
from oneshotd.store.segment_columns import Segment

#: Events and characters of text beyond which a page ends: at the end of the segment, or at once if the
#: selected events have so much text.
PAGE_EVENTS = 2000
PAGE_TEXT = 1 << 20


def collect_page(
    parts: Iterable[tuple[Segment, int]],
    selection: Selection,
    limit: int,
    *,
    pruned: int,
    ran_ahead: int | None = None,
    detail_of: Callable[[int], str] = lambda seq: "",
) -> LogPage:
    """Return one page; see `IStore.recent`.

    :param parts: of the log, newest first, each with its greatest `at`.
    :param limit: most events of the page.
    :param pruned: seq of the last event that is deleted.
    :param ran_ahead: seq of the first part that ran ahead of the clock into the time wanted: a later part
        that is too old does not end the page. None: there is no such part.
    :param detail_of: returns the detail of the event with this seq; called for selected events only, after
        their part was read and before the next one is.
    """
    wanted = selection.series_test()
    found: list[Event] = []
    looked = size = shown = 0
    for segment, latest_at in parts:
        if selection.since is not None and latest_at < selection.since:
            if ran_ahead is None or segment.first < ran_ahead:
                break
            continue
        for index in range(len(segment.series) - 1, -1, -1):
            series, at = segment.series[index], segment.ats[index]
            looked += 1
            size += len(series)
            if wanted(series) and selection.in_time(at):
                seq = segment.first + index
                detail = detail_of(seq)
                found.append(Event(seq, at, series, segment.values[index], detail))
                shown += len(series) + len(detail)
                if len(found) == limit or shown >= PAGE_TEXT:
                    return _page(found, looked, segment.first + index, pruned)
        if looked >= PAGE_EVENTS or size >= PAGE_TEXT:
            return _page(found, looked, segment.first, pruned)
    return LogPage(events=found, looked=looked, next=None)


def _page(found: list[Event], looked: int, reached: int, pruned: int) -> LogPage:
    return LogPage(events=found, looked=looked, next=reached if reached - 1 > pruned else None)

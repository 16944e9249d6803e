"""The tables of the status page: the last hour, scrapers and events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from twisted.web.template import Tag, tags

from oneshotd.query import EventSeen, ScraperSeen
from oneshotd.web.status.cache import Status, has
from oneshotd.web.status.chart import Row, rows, strip, words
from oneshotd.web.status.details import details_list
from oneshotd.web.status.elements import ago, header, moment, table_cell, table_row, whole_table
from oneshotd.web.status.hour import MINUTE, MINUTES, Hour, type_of
from oneshotd.web.status.wording import count, late_after, short, shown

#: Characters of a type, a label's name and a value; labels of an event; scrapers named at an event.
MAX_TYPE, MAX_NAME, MAX_VALUE, MAX_LABELS, MAX_NAMED = 40, 48, 96, 10, 3


def hour_table(tag: Tag, hour: Hour, now: int) -> Tag:
    """Render the chart of the last hour: a strip, a sum and a time for each type."""
    clock = [_clock(hour.start + minute * MINUTE) for minute in range(MINUTES)]
    shown_rows = rows(hour)
    highest = max((max(row.counts) for row in shown_rows), default=0)
    axis = tags.span(
        [tags.span(_clock(hour.start + quarter * 15 * MINUTE)) for quarter in range(4)], class_="axis"
    )
    head = header(("Type", ""), (axis, ""), ("Events", "number"), ("Latest", ""))
    body = []
    for row in shown_rows:
        newest = max((n for n, events in enumerate(row.counts) if events), default=0)
        body.append(
            table_row(
                f"type-{row.kind}" if row.kind is not None else "further-types",
                tags.th(_kind(row), scope="row", role="rowheader", class_="type"),
                table_cell("", strip(row, hour, highest, words(row, hour, clock)), "strip-cell"),
                table_cell("Events", f"{row.events:,}", "number"),
                table_cell("Latest", clock[newest]),
            )
        )
    return whole_table(tag, "Events of the last hour by type", head, body, "hour")


def scraper_table(tag: Tag, status: Status) -> Tag:
    """Render the scrapers and their progress."""
    head = header(
        ("Scraper", ""),
        ("Last seen", ""),
        ("Every", ""),
        ("Pending", "number"),
        ("Oldest pending", ""),
        ("Delivered", "number"),
        ("Returned", "number"),
        ("Lost", "number"),
    )
    body = [
        table_row(f"scraper-{scraper.name}", *_scraper(scraper, status.now))
        for scraper in status.scrapers or ()
    ]
    return whole_table(
        tag, "Scrapers and how far each has read; counts are of events", head, body, "scrapers"
    )


def _scraper(scraper: ScraperSeen, now: int) -> Iterator[Tag]:
    kind = "" if scraper.live else tags.span("visitor", class_="tag", title="No events are kept for it")
    receiver = scraper.receiver
    trouble: Tag | str = ""
    if receiver is not None:
        title = f"Remote write to {receiver.address}: {receiver.state}"
        kind = tags.span("receiver", class_="tag", title=title)
        if receiver.trouble:
            trouble = tags.div(shown(receiver.trouble, 200), class_="warn")
    yield tags.th(
        *(tags.bdi(shown(scraper.name, 120)), " ", kind, trouble),
        scope="row",
        role="rowheader",
        class_="identity",
    )
    late = receiver is None and scraper.live and (now - scraper.last_seen) / 1000 > late_after(scraper)
    yield table_cell("Last seen", ago(scraper.last_seen, now), "warn" if late else "")
    yield table_cell("Every", "–" if scraper.interval is None else _every(scraper.interval))
    yield table_cell("Pending", f"{scraper.pending:,}", "number")
    yield table_cell("Oldest", "–" if scraper.oldest_pending is None else ago(scraper.oldest_pending, now))
    yield table_cell("Delivered", f"{scraper.delivered:,}", "number")
    returned = f"{scraper.returned + scraper.revoked:,}"
    if scraper.uncertain:
        returned += f" ({scraper.uncertain:,} uncertain)"
    yield table_cell("Returned", returned, "number")
    lost = sum(scraper.lost.values())
    yield table_cell("Lost", f"{lost:,}", "number bad" if lost else "number")


def event_table(tag: Tag, status: Status) -> Tag:
    """Render the newest events, and which live scrapers have got them."""
    head = header(("Time", ""), ("Event", ""), ("Value", "number"), ("Delivered to", ""))
    body = [
        table_row(
            f"event-{event.seq}",
            table_cell("Time", [_time(event.at), " ", ago(event.at, status.now)], "when"),
            table_cell("Event", _what(event), "what"),
            table_cell(
                "Value",
                event.value if event.value is not None else "–",
                "number" if event.value else "number none",
            ),
            table_cell("Delivered to", _holders(event, status.live), "who"),
        )
        for event in status.events or ()
    ]
    return whole_table(tag, "The newest events, and the live scrapers that have them", head, body, "events")


def _what(event: EventSeen) -> list[Tag | str]:
    kind = type_of(event)
    labels = [(name, value) for name, value in event.labels.items() if name != "type"]
    parts: list[Tag | str] = [tags.bdi(shown(kind, MAX_TYPE), class_="kind")]
    for name, value in labels[:MAX_LABELS]:
        parts += [
            " ",
            tags.span(
                tags.span(shown(name, MAX_NAME), "=", class_="name"),
                tags.bdi(shown(value, MAX_VALUE)),
                class_="label",
            ),
        ]
    if len(labels) > MAX_LABELS:
        parts += [" ", tags.span(f"and {count(len(labels) - MAX_LABELS, 'label')} more", class_="note")]
    if event.detail:
        parts.append(details_list(event.detail))
    return parts


def _holders(event: EventSeen, live: Sequence[ScraperSeen]) -> Tag | str:
    """Render how many scrapers have got the event, and the names of those that have not."""
    if not live:
        return "no live scraper"
    states = [(scraper.name, has(scraper, event)) for scraper in live]
    missing = [(name, state) for name, state in states if not state]
    having = len(states) - len(missing)
    if not missing:
        return tags.span(f"all {having}" if having > 1 else live[0].name, class_="has")
    items = [
        tags.li(
            tags.bdi(shown(name, MAX_TYPE)),
            tags.span(" may still wait for it" if state is None else " waits for it", class_="unseen"),
            class_="maybe" if state is None else "waits",
        )
        for name, state in missing[:MAX_NAMED]
    ]
    if len(missing) > MAX_NAMED:
        items.append(tags.li(f"and {len(missing) - MAX_NAMED:,} more", class_="rest"))
    if having:
        items.insert(0, tags.li(f"{having:,} of {len(states):,}", class_="has"))
    return tags.ul(items)


def _kind(row: Row) -> Tag | str:
    if row.kind is None:
        return count(row.others, "further type")
    return tags.bdi(shown(row.kind, MAX_TYPE))


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M")


def _every(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else short(seconds)


def _time(at: int) -> Tag:
    when = datetime.fromtimestamp(at / 1000, UTC)
    return tags.time(when.strftime("%H:%M:%S"), datetime=moment(at), title=f"{when:%Y-%m-%d %H:%M:%S} UTC")

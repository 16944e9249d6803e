"""The table of the doors by which events arrive, with the last refusal of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from twisted.web.template import Tag, tags

from oneshotd.metrics.doors import HOOK, DoorUse
from oneshotd.web.status.elements import ago, header, table_cell, table_row, whole_table
from oneshotd.web.status.wording import shown

#: Characters of the name of a door, and of a refusal.
MAX_NAME, MAX_REFUSAL = 80, 300

#: Names of unused hooks that are listed.
MAX_UNUSED = 30

#: Doors that always have a row, and others that have one as soon as they are used.
_PLAIN: Mapping[str, str] = {"http": "POST /event", "http_bulk": "POST /events", "udp": "UDP"}
_NAMES: Mapping[str, str] = {
    **_PLAIN,
    "dogstatsd": "DogStatsD",
    "annotations": "Annotations",
    "ping": "Pings",
}


def is_shown(use: DoorUse) -> bool:
    """Return whether a door has a row: it is one of the plain ones, or in use."""
    return use.source in _PLAIN or bool(use.accepted) or use.refusal is not None


def doors_table(tag: Tag, uses: Sequence[DoorUse], now: int, *, of_one_daemon: bool = False) -> Tag:
    """Render the doors that have a row.

    :param now: Unix ms.
    :param of_one_daemon: there are others, whose counts are not in it.
    """
    head = header(("Door", ""), ("Events", "number"), ("Last refusal", "refusal"))
    body = [table_row(f"door-{use.source}", *_cells(use, now)) for use in uses if is_shown(use)]
    where = "at this daemon " if of_one_daemon else ""
    return whole_table(tag, f"Doors and the events {where}since the start", head, body, "doors")


def unused_hooks(uses: Sequence[DoorUse]) -> str:
    """Return a sentence with the hooks that have no row; empty if there are none."""
    unused = [use.source for use in uses if not is_shown(use)]
    names = [source.removeprefix(HOOK) for source in unused if source.startswith(HOOK)]
    if not names:
        return ""
    more = f" and {len(names) - MAX_UNUSED} more" if len(names) > MAX_UNUSED else ""
    return f"Not used so far: /hook/ {', '.join(shown(name, MAX_NAME) for name in names[:MAX_UNUSED])}{more}."


def _cells(use: DoorUse, now: int) -> Iterator[Tag]:
    name = _NAMES.get(use.source, f"POST /{use.source}")
    yield tags.th(tags.bdi(shown(name, MAX_NAME)), scope="row", role="rowheader", class_="identity")
    yield table_cell("Events", f"{use.accepted:,}", "number")
    if use.refusal is None:
        yield table_cell("Last refusal", "–", "refusal none")
        return
    text = tags.bdi(shown(use.refusal.text, MAX_REFUSAL))
    yield table_cell("Last refusal", [ago(use.refusal.at, now), " ", text], "refusal")

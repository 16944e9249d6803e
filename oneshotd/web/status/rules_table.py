"""The table of the rules of the access file, and what of each has been used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.web.template import Tag, tags

from oneshotd.access.rules import Role
from oneshotd.access.usage import RuleUse
from oneshotd.web.status.elements import header, table_cell, table_row, whole_table
from oneshotd.web.status.wording import shown

#: Characters of the clients of a rule.
MAX_CLIENTS = 120


def rules_table(tag: Tag, uses: Sequence[RuleUse], *, of_one_daemon: bool = False) -> Tag:
    """Render the rules and their use.

    :param of_one_daemon: there are others, whose counts are not in it.
    """
    head = header(
        ("Rule", ""),
        ("Role", ""),
        ("For", ""),
        ("Events", "number"),
        ("Refused", "number"),
        ("Series in 24 h", "number"),
        ("Rate", "number"),
    )
    body = [table_row(f"rule-{use.rule.number}", *_cells(use)) for use in uses]
    where = "at this daemon " if of_one_daemon else ""
    caption = f"Rules of the access file in their order; counts are of events {where}since the start"
    return whole_table(tag, caption, head, body, "rules")


def _cells(use: RuleUse) -> Iterator[Tag]:
    rule, emits = use.rule, use.rule.role is Role.EMIT
    yield tags.th(str(rule.number), scope="row", role="rowheader", class_="identity")
    yield table_cell("Role", rule.role.value)
    yield table_cell("For", tags.bdi(shown(rule.clients, MAX_CLIENTS)), "identity")
    yield _figure("Events", f"{use.accepted:,}" if emits else None)
    refused = sum(events for _, events in use.refused)
    yield _figure("Refused", _refused(use) if emits else None, warn=bool(refused))
    full = use.series is not None and use.series >= (rule.series_per_day or 0)
    series = None if use.series is None else f"{use.series:,} of {rule.series_per_day:,}"
    yield _figure("Series", series, warn=full)
    rate = None if rule.events_per_second is None else f"at most {rule.events_per_second:.7g}/s"
    yield _figure("Rate", rate)


def _figure(name: str, text: str | None, *, warn: bool = False) -> Tag:
    """Return a cell; None: the rule has no such figure."""
    if text is None:
        return table_cell(name, "–", "number none")
    return table_cell(name, text, "number warn" if warn else "number")


def _refused(use: RuleUse) -> str:
    """Return the refused events and their reasons: ``0``, ``2 (rate)``, ``3 (1 limit, 2 rate)``."""
    if not use.refused:
        return "0"
    if len(use.refused) == 1:
        ((reason, events),) = use.refused
        return f"{events:,} ({reason})"
    why = ", ".join(f"{events:,} {reason}" for reason, events in use.refused)
    return f"{sum(events for _, events in use.refused):,} ({why})"

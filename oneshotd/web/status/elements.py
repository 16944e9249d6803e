"""The elements of which the tables of the status page are made.

On a narrow screen the style sheet shows each row as a block, its cells named by ``data-label``;
browsers then drop the roles of the table's elements, so the roles are written out.
"""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.web.template import Tag, tags

from oneshotd.web.status.wording import short, shown


def whole_table(tag: Tag, caption: str, head: Tag, body: list[Tag], kind: str) -> Tag:
    """Render a table; `kind` is its class."""
    return tag(
        tags.caption(caption, class_="unseen"),
        tags.thead(head, role="rowgroup"),
        tags.tbody(body, role="rowgroup"),
        role="table",
        class_=kind,
    )


def header(*columns: tuple[Tag | str, str]) -> Tag:
    """Render the header of a table, from the name and the class of each column."""
    cells = [tags.th(name, scope="col", role="columnheader", class_=kind) for name, kind in columns]
    return tags.tr(*cells, role="row")


def table_row(key: str, *cells: Tag) -> Tag:
    """Render a row; the page's script finds it again by its key."""
    return tags.tr(*cells, role="row", **{"data-key": shown(key, 160)})


def table_cell(name: str, content: Tag | str | list[Tag | str], kind: str = "") -> Tag:
    """Render a cell in the column of this name."""
    return tags.td(content, role="cell", class_=kind, **{"data-label": name})


def moment(at: int) -> str:
    """Return a time for the script, from Unix ms."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(at: int, now: int) -> Tag:
    """Render an age; the page's script updates it."""
    return tags.time(f"{short((now - at) / 1000)} ago", datetime=moment(at), class_="ago")

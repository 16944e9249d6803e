"""Details of events: texts in a table of their own, which no scrape reads.

They are written by the message that writes their segments. Retention deletes a bounded number of them with
their segments, and the rest, as well as those whose segments a daemon of layout 1 has deleted, at its next
turn: nobody reads the detail of an event that is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oneshotd.errors import StoreUnavailable
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.statements import Values
from oneshotd.store.soundness import fault_in_detail

#: Details deleted in one transaction at most, of those that are due, and of those that are overdue.
DETAILS_A_TURN = 5000

#: Details read at once.
DETAILS_AT_ONCE = 100

# Without segments, which are not written if this session was shut out, nothing is written here.
_WRITE = """
INSERT INTO detail (seq, detail) SELECT s.first + r.place, r.detail
FROM (SELECT min(first) AS first FROM segment
    WHERE first > %(head)s AND batch = %(batch)s AND daemon = %(number)s) s,
  unnest(%(places)s::bigint[], %(details)s::bytea[]) AS r(place, detail)
WHERE s.first IS NOT NULL"""
_READ_BACK = "SELECT seq, detail FROM detail WHERE seq <= %s ORDER BY seq DESC LIMIT %s"
# Beside an old snapshot the index has all deleted rows still: hence the lower bound, as for segments.
DELETE = """
DELETE FROM detail WHERE seq = ANY(ARRAY(
  SELECT seq FROM detail WHERE seq > %s AND seq <= %s ORDER BY seq LIMIT %s))"""


def written(details: Sequence[tuple[int, bytes]], batch: Mapping[str, object]) -> list[tuple[str, Values]]:
    """Return the statement that writes the details of a batch, behind that of its segments.

    :param details: place of the event in the batch, and its text.
    :param batch: the head before it as this daemon knows it, and the numbers of batch and daemon.
    """
    if not details:
        return []
    places, texts = zip(*details, strict=True)
    return [(_WRITE, {**batch, "places": places, "details": texts})]


class DetailsBack:
    """Reads details in the order of a look at the log, newest first: many at once, as few events have some.

    :param link: in a transaction that sees one state of the log.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._read: dict[int, str] = {}
        self._lowest: int | None = None

    def of(self, seq: int) -> str:
        """Return the detail of an event, or ""; each seq is below the one of the call before."""
        if self._lowest is None or seq < self._lowest:
            rows = self._link.execute(_READ_BACK, (seq, DETAILS_AT_ONCE)).fetchall()
            self._read = {each: _text(each, detail) for each, detail in rows}
            self._lowest = rows[-1][0] if len(rows) == DETAILS_AT_ONCE else 0
        return self._read.get(seq, "")


def _text(seq: int, detail: bytes) -> str:
    try:
        text = bytes(detail).decode()
    except UnicodeDecodeError as error:
        raise StoreUnavailable(f"the log is damaged: the detail of event {seq} is no UTF-8") from error
    if fault := fault_in_detail(text):
        raise StoreUnavailable(f"the log is damaged: the detail of event {seq} {fault}")
    return text


def delete_overdue(link: Link, pruned: int) -> bool:
    """Delete details of events that were deleted before; return whether there may be more."""
    return link.execute(DELETE, (0, pruned, DETAILS_A_TURN)).rowcount == DETAILS_A_TURN

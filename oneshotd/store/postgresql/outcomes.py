"""Write the counts of a delivery's end, and count settlements and revocations that come too late."""

from __future__ import annotations

from oneshotd.store.interface import LATE, Sent
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.scrapers import lose, present

_LATEST = "SELECT late IS NOT DISTINCT FROM %s FROM scraper WHERE name = %s FOR UPDATE"
_LATE = "UPDATE scraper SET late = %s, superseded = superseded + %s WHERE name = %s"


def figures(sent: Sent) -> dict[str, object]:
    """Return what a settlement or revocation writes of what the response carried."""
    return {
        "events": sent.events,
        "queueing": sent.queueing,
        "is_uncertain": sent.uncertain,
        "shown_end": sent.cursor if sent.counted else 0,
    }


def note_superseded(link: Link, token: int, sent: Sent) -> None:
    """Count the events of a delivery that was settled after another one had taken its place."""
    if sent.events and _is_new(link, token, sent):
        link.execute(_LATE, (token, sent.events, sent.scraper))


def note_late(link: Link, token: int, sent: Sent) -> None:
    """Count the events of a delivery that was revoked too late: the scraper will never get them."""
    if sent.events and _is_new(link, token, sent):
        link.execute(_LATE, (token, 0, sent.scraper))
        lose(link, sent.scraper, LATE, sent.events, present(link).up)


def _is_new(link: Link, token: int, sent: Sent) -> bool:
    """Return whether this was not noted before: a transaction may be repeated."""
    known = link.one(_LATEST, (token, sent.scraper))
    return known is None or not known[0]

"""Reserve, settle, revoke and release: each a transaction that may be repeated without further effect.

An answer that a repetition finds, as "already", is written to disk and standby as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from attrs import evolve, frozen

from oneshotd.core.events import Pending
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import Reservation, Sent, Settled
from oneshotd.store.limits import Limits
from oneshotd.store.postgresql.clock_corrections import (
    CORRECTED_AT,
    correct,
    is_ahead,
    lowered,
    mark_ahead,
    show,
    watch_clock,
)
from oneshotd.store.postgresql.connecting import library, reason_of
from oneshotd.store.postgresql.grants import LOCK, grant, refuse
from oneshotd.store.postgresql.link import CommitUnknown, Link
from oneshotd.store.postgresql.outcomes import figures, note_late, note_superseded
from oneshotd.store.postgresql.pending import AHEAD, read_pending
from oneshotd.store.postgresql.scrapers import (
    Present,
    Row,
    find,
    first_cursor,
    lose,
    newcomer,
    present,
    present_query,
    register,
)
from oneshotd.store.postgresql.segments import events_at
from oneshotd.store.postgresql.sessions import Session
from oneshotd.store.postgresql.statements import Values
from oneshotd.store.postgresql.tokens import (
    DELIVERED,
    FREE,
    IS_FINAL,
    LEASE,
    RESERVED,
    UNDONE,
    lease_of,
    repeated,
)

#: Attempts to grant a lease: the scraper is new, or the clock must be corrected first.
_ATTEMPTS = 4

_DELIVERED = """
UPDATE scraper SET state = %(state)s, cursor = %(cursor)s, answered = answered + 1, timed = visit_timed,
  owed = owed + %(owed)s, event_time = coalesce(%(event_time)s, event_time),
  floor_at = coalesce(%(floor)s, floor_at), latest_at = coalesce(%(latest)s, latest_at),
  was_lost = %(lost)s::text::jsonb, delivered = delivered + %(events)s, sent = %(events)s,
  queueing = %(queueing)s,
  shown_end = CASE WHEN %(cursor)s >= shown_end THEN 0 ELSE shown_end END,
  was_shown_end = greatest(was_shown_end, %(shown_end)s)"""
_DELIVER = f"{_DELIVERED} WHERE id = %(id)s"
# After `LEASE`, so that what another transaction does to the row is seen.
_DELIVER_AT_ONCE = f"""{_DELIVERED}
WHERE token = %(token)s AND state = 1 AND ({CORRECTED_AT}) = %(corrected)s RETURNING id"""
_RETURN = f"""
UPDATE scraper SET state = 0, {UNDONE}, shown_end = greatest(shown_end, %(shown_end)s),
  returned = returned + %(events)s,
  uncertain = uncertain + CASE WHEN %(is_uncertain)s THEN %(events)s ELSE 0 END
WHERE id = %(id)s"""
_OWE = """
INSERT INTO owed (scraper, seq, at, series, value, born) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING"""
_TAKE = "UPDATE owed SET gone = %s WHERE scraper = %s AND gone IS NULL AND seq = ANY(%s::bigint[])"
_REVOKE = f"""
UPDATE scraper SET state = 0, {UNDONE}, cursor = was_cursor, answered = was_answered, owed = was_owed,
  event_time = was_event_time, floor_at = was_floor_at, latest_at = was_latest_at,
  shown_end = was_shown_end, revoked = revoked + sent,
  uncertain = uncertain + CASE WHEN %(is_uncertain)s THEN sent ELSE 0 END
WHERE id = %(id)s RETURNING was_lost"""
_FREE = "UPDATE scraper SET state = 0 WHERE id = %s"
_NOT_DURABLE: tuple[str, Values] = ("SET LOCAL synchronous_commit = off", None)
_RELEASE = """
WITH free AS (UPDATE scraper SET state = 0 WHERE token = %(token)s AND state = 2 RETURNING id)
DELETE FROM owed USING free WHERE owed.scraper = free.id AND owed.gone = %(token)s"""


@frozen
class _Reserved:
    """The part of a reservation that the daemon keeps until it is settled.

    :param corrected: when the clock was last corrected before it (Unix ms).
    """

    pending: Pending
    corrected: int


class Deliveries:
    """The deliveries of one daemon.

    :param holder: the daemon's id in leases.
    :ivar session: begin it on each new connection.
    """

    def __init__(self, limits: Limits, holder: str) -> None:
        self.limits = limits
        self.session = Session(holder)
        self._reserved: dict[int, _Reserved] = {}  # by token

    # -- reserve

    def reserve(self, link: Link, visit: Visit, lease: float, limit: int, token: int) -> Reservation:
        """Reserve events for a scraper; see `IStore.reserve`.

        :param token: a random one; a repetition has the same.
        """
        is_sure = False
        for _ in range(_ATTEMPTS):
            granted, row, at, corrected, ahead = grant(link, visit, lease, token, self.session, is_sure)
            if row is None:
                with link.transaction((LOCK, ())):
                    if register(link, visit, self.limits, present(link)) is None:
                        return Reservation(token=None, pending=Pending(), busy="too many")
            elif granted or row.token == token:
                row = evolve(row, cursor=row.start(at.pruned))
                return self._read(link, row, at, limit, token, corrected, ahead)
            elif is_ahead(at):
                correct(link)
            elif not visit.timed and row.expects_header(at.up):
                return Reservation(token=None, pending=Pending(), busy="look")
            elif row.in_flight(at.up):
                return refuse(link, visit, row, at, self.session.holder)
            is_sure = True
        raise StoreUnavailable("the scraper's row changed several times meanwhile")

    def _read(
        self,
        link: Link,
        row: Row,
        at: Present,
        limit: int,
        token: int,
        corrected: int,
        ahead: list[Any],
    ) -> Reservation:
        """Read the events under a lease that was granted."""
        try:
            reservation = read_pending(link, row, at, self.limits, limit, token, ahead)
        except library().Error as error:
            raise CommitUnknown(reason_of(error)) from error  # granted, so it is read again
        except StoreUnavailable:
            link.execute(_FREE, (row.id,))
            raise
        self._reserved[token] = _Reserved(reservation.pending, corrected)
        return reservation

    def look(self, link: Link, visit: Visit, limit: int) -> Reservation:
        """Read what `reserve` would read; see `IStore.look`."""
        watch_clock(link)
        at = present(link)
        row = find(link, visit.name) or newcomer(visit, at, first_cursor(link, self.limits, at))
        row = evolve(row, cursor=row.start(at.pruned))
        ahead = link.execute(AHEAD, (visit.name,)).fetchall()
        return read_pending(link, row, at, self.limits, limit, None, ahead)

    # -- settle

    def settle(
        self,
        link: Link,
        in_doubt: bool,
        token: int,
        delivered: bool,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        history: TimestampHistory | None,
        lost: Mapping[str, Sequence[int]],
        sent: Sent,
    ) -> Settled:
        """Settle a delivery; see `IStore.settle`.

        :param in_doubt: this may have been done already.
        """
        changes_more = newly_owed or went_out or any(lost.values())
        if delivered and not changes_more and self._settle_at_once(link, token, cursor, history, sent):
            self._reserved.pop(token, None)
            return Settled.SETTLED
        with link.transaction((LEASE, {"token": token}), (CORRECTED_AT, ())) as (rows, [[corrected]]):
            found = lease_of(link, token, rows)
            if not isinstance(found, tuple) or found[1] != RESERVED:
                self._reserved.pop(token, None)
                link.make_durable()
                if found is Settled.SUPERSEDED and link.one(IS_FINAL, (token,)):
                    found = Settled.ALREADY
                if found is Settled.SUPERSEDED and delivered:
                    note_superseded(link, token, sent)
                return repeated(found, in_doubt)
            number, name = found[0], found[5]
            if not delivered:
                link.at_commit(_RETURN, {"id": number, **figures(sent)})
            else:
                self._deliver(
                    link, number, name, token, corrected, cursor, newly_owed, went_out, history, lost, sent
                )
        self._reserved.pop(token, None)
        return Settled.SETTLED

    def _settle_at_once(
        self, link: Link, token: int, cursor: int, history: TimestampHistory | None, sent: Sent
    ) -> bool:
        """Settle a delivery of which nothing but the scraper's row changes, in one message.

        :returns: False if that is not possible, which has changed nothing.
        """
        reserved = self._reserved.get(token)
        if reserved is None or (history is not None and history.moved):
            return False
        values = {
            "token": token,
            "corrected": reserved.corrected,
            **_delivered(cursor, 0, history, {}, sent),
        }
        script: list[tuple[str, Values]] = [(LEASE, {"token": token}), (_DELIVER_AT_ONCE, values)]
        if sent.is_final:
            script.insert(0, _NOT_DURABLE)
        with link.committing():
            *_, done = link.script(script)
        return bool(done)

    def _deliver(
        self,
        link: Link,
        number: int,
        name: str,
        token: int,
        corrected: int,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        history: TimestampHistory | None,
        lost: Mapping[str, Sequence[int]],
        sent: Sent,
    ) -> None:
        reserved = self._reserved.get(token) or _Reserved(Pending(), corrected)
        missed = {reason: len(seqs) for reason, seqs in lost.items() if seqs}
        # Without a reservation here, another daemon has made it, or this one before it was restarted.
        events = reserved.pending.rows(set(newly_owed)) if reserved.pending else events_at(link, newly_owed)
        if corrected != reserved.corrected:
            history = None if history is None else lowered(history, corrected)
            if history is not None and history.event_time:
                waiting = {*newly_owed, *chain.from_iterable(lost.values())}
                self._show_ahead(link, number, reserved, cursor, waiting, corrected)
            now = {event.seq: event for event in events_at(link, newly_owed)}
            events = [now.get(event.seq, event) for event in events]
        added = link.many(
            _OWE,
            [(number, each.seq, each.at, each.series.encode(), _bytes(each.value), token) for each in events],
        )
        gone = sorted({*went_out, *chain.from_iterable(lost.values())})
        taken = link.execute(_TAKE, (token, number, gone)).rowcount if gone else 0
        link.at_commit(_DELIVER, {"id": number, **_delivered(cursor, added - taken, history, missed, sent)})
        moved = history.moved if history is not None else {}
        if missed or moved:
            up = present(link).up
            show(link, number, moved, up, ahead=False)
            for reason, count in missed.items():
                lose(link, name, reason, count, up)

    def _show_ahead(
        self, link: Link, number: int, reserved: _Reserved, cursor: int, waiting: set[int], corrected: int
    ) -> None:
        """Write the times in a delivery that was planned before the last correction of the clock."""
        pending = reserved.pending
        times = {
            series: at
            for seq, series, at in zip(pending.seqs, pending.series, pending.ats, strict=True)
            if at > corrected and seq not in waiting and seq <= cursor
        }
        show(link, number, times, present(link).up, ahead=True)
        mark_ahead(link, corrected)

    def revoke(self, link: Link, in_doubt: bool, token: int, sent: Sent) -> Settled:
        """Undo a delivery; see `IStore.revoke`."""
        with link.transaction((LEASE, {"token": token})) as (rows,):
            found = lease_of(link, token, rows)
            if not isinstance(found, tuple) or found[1] != DELIVERED:
                link.make_durable()
                if isinstance(found, tuple) and found[1] == RESERVED:
                    return Settled.SUPERSEDED
                if found is Settled.SUPERSEDED:
                    note_late(link, token, sent)
                return repeated(found, in_doubt)
            number, name = found[0], found[5]
            link.execute("DELETE FROM owed WHERE scraper = %s AND born = %s", (number, token))
            link.execute("UPDATE owed SET gone = NULL WHERE scraper = %s AND gone = %s", (number, token))
            [missed] = link.one(_REVOKE, {"id": number, "is_uncertain": sent.uncertain})
            if missed:
                up = present(link).up
                for reason, count in missed.items():
                    lose(link, name, reason, -count, up)
        return Settled.SETTLED

    def release(self, link: Link, token: int) -> Present:
        """Make a delivery final; see `IStore.release`. Return the present."""
        # If this is lost, the lease lapses, which does the same.
        with link.committing():
            _, _, [now] = link.script(
                [
                    _NOT_DURABLE,
                    (_RELEASE, {"token": token}),
                    (present_query(link), ()),
                ]
            )
        return Present(*now)


def _delivered(
    cursor: int, owed: int, history: TimestampHistory | None, lost: Mapping[str, int], sent: Sent
) -> dict[str, object]:
    """Return the values of `_DELIVERED`."""
    return {
        "state": FREE if sent.is_final else DELIVERED,
        "cursor": cursor,
        "owed": owed,
        "event_time": None if history is None else history.event_time,
        "floor": None if history is None else history.floor,
        "latest": None if history is None else history.latest,
        "lost": json.dumps(lost),
        **figures(sent),
    }


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()

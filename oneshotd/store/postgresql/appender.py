"""Append groups: many in one transaction, whose order, times and outcome the database decides.

The end of the log is its last segment. Whoever appends holds an advisory lock from before it reads the
end until its COMMIT. Lock, INSERT and COMMIT are one message to the server, which begins when it has all
of it, so that a daemon that stops holds up nobody.

A batch has a number, which is in its segments: after a connection was lost at COMMIT, the next one ends
whatever the lost one still does (`epoch`), and then looks for that number.

A batch with idempotency keys or keyed states locks their rows first, in order, and plans behind the locks.
Its last message writes segments, keys and states, and commits them, or none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from attrs import asdict

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group
from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.limits import Limits
from oneshotd.store.planning import Known, keys_of
from oneshotd.store.postgresql import details
from oneshotd.store.postgresql.batches import PLANNED, Appended, Batch
from oneshotd.store.postgresql.clock_corrections import correct
from oneshotd.store.postgresql.connecting import library, unavailable
from oneshotd.store.postgresql.keyed_states import Claim, claim, keys_of_states
from oneshotd.store.postgresql.link import END_OF_LOG, MAX_AHEAD, Link
from oneshotd.store.postgresql.segments import COLUMNS, rows_of, segment_of
from oneshotd.store.postgresql.statements import Values

#: Attempts to append a batch.
_ATTEMPTS = 4

_LOCK = f"SELECT pg_advisory_xact_lock{END_OF_LOG}"

_BASE = """
WITH me AS (SELECT number FROM daemon WHERE id = %(id)s AND epoch = %(epoch)s FOR SHARE),
p AS ({present}),
base AS (SELECT me.number, p.*, greatest(p.clock_at + 1, p.floor_at, p.now) AS base FROM me, p)"""

_INSERT = (
    _BASE
    + """
INSERT INTO segment (first, count, total_size, up, clock_at, latest_at, touched, daemon, batch,
  series, value, offsets)
SELECT b.head + 1 + r.start, r.count, b.total_size + r.size, b.up, b.base, b.base + r.latest, b.now,
  b.number, %(batch)s::bigint, r.series, r.value, r.offsets
FROM base b, (VALUES {rows}) AS r(start, count, size, latest, series, value, offsets)
WHERE greatest(coalesce(b.clock_at, 0), b.floor_at) <= b.now + {ahead} AND (%(planned)s::boolean
  OR NOT EXISTS (SELECT FROM segment WHERE offsets IS NOT NULL AND latest_at >= b.base))
RETURNING first, total_size, clock_at - touched,
  (SELECT pruned FROM state WHERE id = 1), (SELECT pruned_size FROM state WHERE id = 1)"""
)
# Of each segment of a batch.
_ROW = (
    "(%(start{0})s::int, %(count{0})s::int, %(size{0})s::bigint, %(latest{0})s::bigint,"
    " %(series{0})s::bytea, %(value{0})s::bytea, %(offsets{0})s::bytea)"
)
_LOOK = _BASE + " SELECT number, base, now, clock_at, floor_at FROM base"
_AHEAD = f"SELECT {COLUMNS} FROM segment WHERE offsets IS NOT NULL AND latest_at >= %s"

_CLAIM = """
INSERT INTO key (key, digest, stored, duplicates, first, up)
SELECT k, '', 0, 0, 0, %(up)s FROM unnest(%(keys)s::bytea[]) AS k ORDER BY k
ON CONFLICT (key) DO UPDATE SET up = excluded.up WHERE key.up < %(edge)s RETURNING key"""
_KNOWN = "SELECT key, digest, stored, duplicates, first FROM key WHERE key = ANY(%s::bytea[])"
# The first seq is null if the segments were not written, which ends the transaction.
_FILL = """
UPDATE key SET digest = r.digest, stored = r.stored, duplicates = r.duplicates,
  first = CASE WHEN r.place = 0 THEN 0 ELSE s.first - 1 + r.place END
FROM (SELECT CASE WHEN %(events)s = 0 THEN 0 ELSE (SELECT min(first) FROM segment
    WHERE first > %(head)s AND batch = %(batch)s AND daemon = %(number)s) END AS first) s,
  unnest(%(keys)s::bytea[], %(digests)s::bytea[], %(stored)s::int[], %(duplicates)s::int[],
    %(places)s::bigint[]) AS r(key, digest, stored, duplicates, place)
WHERE key.key = r.key"""
_CHECK = """
SELECT 1 / count(*) FROM segment WHERE first > %(head)s AND batch = %(batch)s AND daemon = %(number)s"""
_UNCLAIM = "DELETE FROM key WHERE key = ANY(%s::bytea[])"

_REGISTER = """
INSERT INTO daemon (id, epoch, batch, batch_first, up) SELECT %s, 1, 0, 0, up FROM ({present}) p
ON CONFLICT (id) DO UPDATE SET epoch = daemon.epoch + 1, up = excluded.up RETURNING number, epoch"""
_OUTCOME = """
SELECT coalesce((SELECT min(first) FROM segment WHERE first > %(head)s AND batch = %(batch)s
    AND daemon = %(number)s),
  (SELECT batch_first FROM daemon WHERE number = %(number)s AND batch = %(batch)s))"""


class Appender:
    """Appends batches, one after the other, over the connections of one thread.

    :param name: identifies this run of the daemon, never another one.
    :param check: raises `StoreRefused` if the daemon may not use the database any more.
    """

    def __init__(
        self, name: str, limits: Limits, check: Callable[[Link], object] = lambda link: None
    ) -> None:
        self._id = name
        self._check = check
        self._limits = limits
        self._batch = 0
        self._epoch = 0
        self._number = 0
        self._head = 0

    def register(self, link: Link) -> None:
        """Begin on a new connection: what an earlier one still does will change nothing.

        :raises CommitUnknown: call it again, on another connection.
        :raises StoreRefused: see `check`.
        """
        self._check(link)
        with link.transaction():
            row = link.one(_REGISTER.format(present=link.present), (self._id,))
        self._number, self._epoch = row

    def outcome(self, link: Link, batch: Batch) -> Appended | None:
        """Return what became of the last batch, after `register`; None if it was not stored."""
        with link.transaction():
            link.make_durable()
            [first] = link.one(_OUTCOME, self._place())
        if first is None or not batch.series:
            return None
        self._head = max(self._head, first + len(batch.series) - 1)
        return Appended(batch.answered(first), self._head)

    def append(self, link: Link, groups: Sequence[Group], pending: list[Batch]) -> Appended:
        """Store groups.

        :param pending: gets the batch before it is committed; after `CommitUnknown` see `outcome`.
        :raises StoreUnavailable: nothing was stored.

        The first attempt assumes that no series has events later than the clock, the second one looks;
        further ones are needed if the clock was set back, or this daemon was away for long.
        """
        keys = sorted({key.encode() for group in groups for key in _keys(group)})
        states = keys_of_states(groups)
        for attempt in range(_ATTEMPTS):
            pending.clear()
            if keys or states:
                done = self._keyed(link, groups, keys, states, attempt > 0, pending)
            else:
                done = self._plain(link, groups, attempt > 0, pending)
            if done is not None:
                return done
            pending.clear()
            if attempt > 0:
                correct(link)
                try:
                    self.register(link)
                except StoreRefused as error:
                    raise unavailable(error) from error
        raise StoreUnavailable("the clock of the database was set back several times")

    def _plain(
        self, link: Link, groups: Sequence[Group], planned: bool, pending: list[Batch]
    ) -> Appended | None:
        batch = Batch()
        known: dict[str, Known] = {}
        kept: dict[str, int] = {}
        for group in groups:
            batch.add(group, known, kept, 0)
        if not batch.series:
            return Appended(batch.answers, self._head)
        pending.append(batch)
        if not planned:
            script = [(_LOCK, ()), *self._writes(link, batch, None)]
            with link.committing():
                results = link.script(script)
            return self._appended(batch, results[1])
        with link.transaction():
            link.execute(_LOCK)
            ahead = self._ahead(link)
            if ahead is None:
                return None
            rows, *_ = link.script(self._writes(link, batch, ahead))
        return self._appended(batch, rows)

    def _keyed(
        self,
        link: Link,
        groups: Sequence[Group],
        keys: list[bytes],
        states: list[bytes],
        planned: bool,
        pending: list[Batch],
    ) -> Appended | None:
        batch = Batch()
        link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            known, ours = self._claim_keys(link, keys) if keys else ({}, set())
            claimed = claim(link, states) if states else Claim()
            for group in groups:
                batch.add(group, known, claimed.values, claimed.now)
            changes = claimed.writes(batch.states)
            unused = [key for key in ours if key.decode() not in batch.keys]
            if unused:
                changes.append((_UNCLAIM, (unused,)))
            ahead = None
            if planned:
                link.execute(_LOCK)
                ahead = self._ahead(link)
                if ahead is None:
                    link.roll_back()
                    return None
            pending.append(batch)
            return self._finish_keyed(link, batch, changes, ahead)
        except BaseException:
            link.roll_back()
            raise

    def _claim_keys(self, link: Link, keys: list[bytes]) -> tuple[dict[str, Known], set[bytes]]:
        """Lock the keys; return the known ones, and those that are new."""
        [up] = link.one(f"SELECT up FROM ({link.present}) p")
        edge = up - int(self._limits.hold * 1000)
        claimed = link.execute(_CLAIM, {"keys": keys, "up": up, "edge": edge}).fetchall()
        ours = {bytes(key) for (key,) in claimed}
        rest = [key for key in keys if key not in ours]
        rows = link.execute(_KNOWN, (rest,)).fetchall() if rest else []
        return {bytes(key).decode(): Known(bytes(digest), *more) for key, digest, *more in rows}, ours

    def _finish_keyed(
        self,
        link: Link,
        batch: Batch,
        changes: list[tuple[str, Values]],
        ahead: tuple[int, dict[str, int]] | None,
    ) -> Appended | None:
        """Write the batch, and what it changes of keys and states, and commit."""
        script = list(changes)
        if batch.series:
            script += [(_LOCK, ()), *self._writes(link, batch, ahead), (_CHECK, self._place())]
        else:
            link.make_durable()
        if batch.keys:
            script.append((_FILL, {**self._place(), **_columns_of(batch)}))
        script.append(("COMMIT", None))
        try:
            with link.committing():
                results = link.script(script)
        except library().errors.DivisionByZero:
            return None  # no segment was written, so all of it was rolled back
        if not batch.series:
            return Appended(batch.answers, self._head)
        return self._appended(batch, results[len(changes) + 1])

    def _place(self) -> dict[str, object]:
        """Return where the segments of the last batch are."""
        return {"head": self._head, "batch": self._batch, "number": self._number}

    def _writes(
        self, link: Link, batch: Batch, ahead: tuple[int, dict[str, int]] | None
    ) -> list[tuple[str, Values]]:
        """Return the statements that write a batch, that of its segments first."""
        insert = self._insert(link, batch, ahead)
        return [insert, *details.written(batch.details, self._place())]

    def _insert(
        self, link: Link, batch: Batch, ahead: tuple[int, dict[str, int]] | None
    ) -> tuple[str, Values]:
        """Return the statement that writes the segments of a batch, which gets a number."""
        rows = rows_of(batch.series, batch.values, _offsets(batch.series, ahead), batch.details)
        self._batch += 1
        places = ",\n".join(_ROW.format(number) for number in range(len(rows)))
        query = _INSERT.format(present=link.present, ahead=MAX_AHEAD, rows=places)
        values: dict[str, object] = {
            "id": self._id,
            "epoch": self._epoch,
            "batch": self._batch,
            "planned": ahead is not None,
        }
        for number, row in enumerate(rows):
            values.update({f"{name}{number}": value for name, value in asdict(row).items()})
        return query, values

    def _ahead(self, link: Link) -> tuple[int, dict[str, int]] | None:
        """Return the next acceptance time, and the series that have events from it on."""
        row = link.one(_LOOK.format(present=link.present), {"id": self._id, "epoch": self._epoch})
        if row is None or max(row[3] or 0, row[4]) > row[2] + MAX_AHEAD:
            return None
        base = row[1]
        ahead: dict[str, int] = {}
        for segment in map(segment_of, link.execute(_AHEAD, (base,)).fetchall()):
            for series, at in zip(segment.series, segment.ats, strict=True):
                if at >= base:
                    ahead[series] = max(at, ahead.get(series, 0))
        return base, ahead

    def _appended(self, batch: Batch, rows: Sequence[Any]) -> Appended | None:
        if not rows:
            return None
        first = min(row[0] for row in rows)
        _, size, ahead_ms, pruned, pruned_size = max(rows)
        self._head = first + len(batch.series) - 1
        limits = self._limits
        over = self._head - pruned > limits.max_events or size - pruned_size > limits.max_bytes
        return Appended(batch.answered(first), self._head, over, ahead_ms)


def _keys(group: Group) -> Sequence[str]:
    return () if group.key is None and isinstance(group.events, SeriesBatch) else keys_of(group)


def _columns_of(batch: Batch) -> dict[str, object]:
    keys, known = list(batch.keys), list(batch.keys.values())
    return {
        "events": len(batch.series),
        "keys": [key.encode() for key in keys],
        "digests": [each.digest for each in known],
        "stored": [each.stored for each in known],
        "duplicates": [each.duplicates for each in known],
        "places": [each.first - PLANNED + 1 if each.first < 0 else 0 for each in known],
    }


def _offsets(series: Sequence[str], ahead: tuple[int, dict[str, int]] | None) -> list[int]:
    """Return how far each event's time is behind the acceptance time: a series has no time twice."""
    if ahead is None and len(set(series)) == len(series):
        return [0] * len(series)
    base, latest = ahead or (0, {})
    after = Counter({each: at - base + 1 for each, at in latest.items()})
    offsets = []
    for each in series:
        offsets.append(after[each])
        after[each] += 1
    return offsets

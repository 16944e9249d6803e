"""Connections to PostgreSQL: settings, transactions whose outcome is known or said to be unknown.

A connection that is lost at COMMIT leaves the transaction's outcome unknown: `CommitUnknown`. So does a
wait for the synchronous standby that somebody cancelled, which PostgreSQL reports as a success with a
warning. Every other failure means that nothing was changed.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from oneshotd.store.clock import MAX_CLOCK_AHEAD
from oneshotd.store.postgresql.connecting import connect, library, reason_of
from oneshotd.store.postgresql.statements import Values, statement

if TYPE_CHECKING:
    import psycopg

#: The time by the database's clock, Unix ms, as an SQL expression.
NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

#: Greatest number of ms that the service's up-time grows between two writes.
MAX_GAP = 5000

#: Ms by which the times of the log may be ahead of the clock; beyond, the clock was wrong. One second more
#: than with SQLite, as each commit is a ms later than the one before while the clock stands behind.
MAX_AHEAD = int(MAX_CLOCK_AHEAD * 1000) + 1000

#: Advisory locks (class, number): the end of the log, deleting, registering a scraper, the layout.
END_OF_LOG = "(7, 1)"
DELETING = "(7, 2)"
NEWCOMERS = "(7, 3)"
LAYOUT = "(7, 4)"


class CommitUnknown(Exception):
    """The connection was lost at COMMIT: the transaction may have been committed, or not."""


def present(now: str) -> str:
    """Return a query of one row: head and size of the log, and the present time by both clocks.

    The up-time continues from what was written last, by at most `MAX_GAP`. A clock that was set back counts
    as such a gap, so that leases and holds go on; below a second it is two sessions' statements in
    another order.

    :param now: SQL expression of the time, Unix ms.
    """
    return f"""
SELECT n.now, st.pruned, st.pruned_size, st.at AS floor_at, l.clock_at, l.first, l.count,
  coalesce(l.first + l.count - 1, st.pruned) AS head, coalesce(l.total_size, st.pruned_size) AS total_size,
  t.up + CASE WHEN n.now - t.touched BETWEEN 0 AND {MAX_GAP} THEN n.now - t.touched
    WHEN n.now - t.touched BETWEEN -1000 AND -1 THEN 0 ELSE {MAX_GAP} END AS up
FROM (SELECT * FROM state WHERE id = 1) st CROSS JOIN (SELECT {now} AS now) n
LEFT JOIN LATERAL (SELECT first, count, total_size, clock_at, up, touched FROM segment
  ORDER BY first DESC LIMIT 1) l ON true
CROSS JOIN LATERAL (SELECT CASE WHEN l.up > st.up THEN l.up ELSE st.up END AS up,
  CASE WHEN l.up > st.up THEN l.touched ELSE st.touched END AS touched) t"""


class Link:
    """One connection, for one thread.

    :param address: a connection string or URI of libpq.
    :param now: SQL expression of the time, Unix ms; tests set their own.
    :ivar is_spent: another connection may work: the server takes no writes any more, or has forgotten
        what was prepared.
    :raises psycopg.Error: it cannot connect.
    :raises StoreRefused: a connection pooler is in between.
    """

    def __init__(self, address: str, now: str = NOW) -> None:
        self.now = now
        self.present = present(now)
        self.connection: psycopg.Connection[Any] = connect(address)
        self.is_spent = False
        self._unconfirmed = False
        self._prepared: dict[str, str] = {}  # names of prepared statements
        self._last: list[tuple[str, Values]] = []
        self._waits_since: float | None = None
        self._cutting = threading.Lock()
        self.connection.add_notice_handler(self._noticed)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.sqlstate == "01000" and "synchronous replication" in (notice.message_primary or ""):
            self._unconfirmed = True

    @property
    def is_broken(self) -> bool:
        """Whether a new connection is needed."""
        return self.connection.closed

    @property
    def has_doubt(self) -> bool:
        """Whether the server has warned that the standby may not have what was committed last."""
        return self._unconfirmed

    def execute(self, query: str, values: Values = None) -> psycopg.Cursor[Any]:
        """Run a statement; results come in binary form."""
        try:
            with self._waiting():
                return self.connection.execute(query.encode(), values, binary=True)
        except library().Error as error:
            self._note(error)
            raise

    def _note(self, error: BaseException) -> None:
        errors = library().errors
        if isinstance(error, (errors.ReadOnlySqlTransaction, errors.InvalidSqlStatementName)):
            self.is_spent = True

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self._waits_since = None

    def cut_if_waiting_since(self, before: float) -> bool:
        """End the connection if it has waited for an answer since before this time (monotonic seconds).

        Called by another thread; the waiting one then sees that the connection is lost.
        """
        with self._cutting:
            since = self._waits_since
            if since is None or since >= before or self.is_broken:
                return False
            with socket.socket(fileno=os.dup(self.connection.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)
            return True

    def script(self, statements: Sequence[tuple[str, Values]]) -> list[list[Any]]:
        """Run statements that are one message to the server; return the rows of each.

        Outside of a transaction they are one. The server begins when it has the whole message. Statements
        with values, be it none of them, are prepared when they are first used on this connection.
        """
        self._prepare([query for query, values in statements if values is not None])
        text = [
            query.encode() if values is None else statement(query).call(self._prepared[query], values)
            for query, values in statements
        ]
        return self._run(b";\n".join(text))

    def _prepare(self, queries: Sequence[str]) -> None:
        new = [query for query in dict.fromkeys(queries) if query not in self._prepared]
        if not new:
            return
        names = {query: f"s{len(self._prepared) + number}" for number, query in enumerate(new, 1)}
        self._run(
            b";\n".join(
                f"PREPARE {name} AS {statement(query).text}".encode() for query, name in names.items()
            )
        )
        self._prepared.update(names)

    def _run(self, text: bytes) -> list[list[Any]]:
        """Run a message of the simple protocol; return the rows of each statement."""
        wire = self.connection.pgconn
        results = []
        with self._waiting():
            wire.send_query(text)
            line = select.poll()
            line.register(wire.socket, select.POLLIN | select.POLLOUT)
            while wire.flush():
                if any(event & ~select.POLLOUT for _, event in line.poll()):
                    wire.consume_input()
            line.modify(wire.socket, select.POLLIN)
            while True:
                while wire.is_busy():
                    line.poll()
                    wire.consume_input()
                result = wire.get_result()
                if result is None:
                    break
                results.append(result)
        failed = next((each for each in results if each.error_message), None)
        if failed is not None:
            error = _error_of(failed)
            self._note(error)
            raise error
        return [self._rows(result) for result in results]

    def _rows(self, result: Any) -> list[Any]:
        if not result.nfields:
            return []
        loading = library().adapt.Transformer(self.connection)
        loading.set_pgresult(result)
        return list(loading.load_rows(0, result.ntuples, tuple))

    def one(self, query: str, values: Values = None) -> Any:
        """Return the row of a query that has one, or None."""
        return self.execute(query, values).fetchone()

    def many(self, query: str, rows: list[tuple[Any, ...]]) -> int:
        """Run a statement for each row; return the number of changed rows."""
        if not rows:
            return 0
        with self._waiting(), self.connection.cursor() as cursor:
            cursor.executemany(query.encode(), rows)
            return cursor.rowcount

    @contextmanager
    def transaction(self, *first: tuple[str, Values]) -> Iterator[list[list[Any]]]:
        """Run a block in a transaction; give it the rows of its first statements.

        :param first: statements that go to the server with BEGIN.
        :raises CommitUnknown: it may have been committed or not.
        """
        self._last = []
        try:
            yield self.script([("BEGIN ISOLATION LEVEL READ COMMITTED", None), *first])[1:]
        except BaseException:
            self.roll_back()
            raise
        with self.committing():
            self.script([*self._last, ("COMMIT", None)])

    def at_commit(self, query: str, values: Values = None) -> None:
        """Run a statement that goes to the server with the COMMIT of the transaction."""
        self._last.append((query, values))

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Run a block at whose end the server commits.

        :raises CommitUnknown: see `transaction`.
        """
        self._unconfirmed = False
        error_class = library().Error
        try:
            yield
        except error_class as error:
            if self.is_broken:
                raise CommitUnknown(reason_of(error)) from error
            self.roll_back()
            raise
        if self.has_doubt:
            self.close()
            raise CommitUnknown("the wait for the synchronous standby was cancelled")

    def roll_back(self) -> None:
        """Roll back, or close the connection."""
        try:
            if not self.is_broken and self.connection.info.transaction_status.name != "IDLE":
                self._run(b"ROLLBACK")  # after psycopg's, it forgets all prepared statements
        except library().Error:
            self.close()

    def make_durable(self) -> None:
        """Let the COMMIT of this transaction wait for disk and standby, although it changed nothing.

        After a crash a server shows what its standby never had; an answer that rests on a mere reading
        would be undone by a failover.
        """
        self.execute("SELECT pg_logical_emit_message(true, 'oneshotd', '')")

    def close(self) -> None:
        """Close the connection."""
        with self._cutting, suppress(Exception):
            self.connection.close()


def _error_of(result: Any) -> Exception:
    """Return the exception for a statement that failed, as psycopg's cursors raise it."""
    errors = library().errors
    state = result.error_field(library().pq.DiagnosticField.SQLSTATE)
    text = result.error_message.decode("utf-8", "replace").strip()
    try:
        kind = errors.lookup(state.decode()) if state else errors.OperationalError
    except KeyError:
        kind = errors.DatabaseError
    return cast(Exception, kind(text))

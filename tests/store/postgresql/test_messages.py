"""What goes to the server: a message that it gets as a whole, of statements that it has planned before."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from store.contract_details import with_detail
from store.contract_states import count, end, start
from support.postgresql_backend import NOW, PostgreSQLBackend
from support.postgresql_proxy import Cut, CuttingProxy
from support.store_backends import group, series_of

from oneshotd.core.events import Group
from oneshotd.store.interface import Stored
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.statements import literal, statement
from oneshotd.store.postgresql.store import PostgreSQLStore


@pytest.fixture
def link(backend: PostgreSQLBackend) -> Any:
    link = Link(backend.address, NOW)
    yield link
    link.close()


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("events", [1, 5000])
def test_a_daemon_that_stops_in_the_middle_of_an_append_holds_up_nobody(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, events: int, key: str | None
) -> None:
    """One frozen machine would refuse the events of all clients of all daemons."""
    assert isinstance(backend.append("before"), Stored)
    backend.get(store.append([group("first", key=key and "k0")]))
    proxy.arm(Cut.HALTED, b"needle")
    asked = store.append([group(*(f"needle{number}" for number in range(events)), key=key)])
    assert proxy.halted.wait(20)
    try:
        assert backend.append("beside") == Stored(stored=1, first=3)
    finally:
        proxy.go_on.set()
    assert backend.get(asked)[0] == Stored(stored=events, first=4)
    assert len(backend.logged()) == 3 + events


def test_no_statement_scans_a_table_that_was_small_when_it_was_planned(backend: PostgreSQLBackend) -> None:
    """Commits and scrapes would take longer and longer, until the server plans anew."""
    with psycopg.connect(backend.address, autocommit=True) as beside:
        for number in range(8):
            backend.append(f"s{number}", key=f"k{number}")
            backend.append(f"s{number}")
            backend.append_groups(*details_and_states(f"s{number}"))
            backend.take("p")
            backend.stats()
            backend.prune()
            if number == 1:
                beside.execute("VACUUM ANALYZE")
        beside.execute(
            "INSERT INTO segment SELECT first + n * count, count, total_size, up, clock_at + n, latest_at,"
            " touched, daemon, 0, series, value, offsets FROM generate_series(1, 5000) n,"
            " (SELECT * FROM segment ORDER BY first DESC LIMIT 1) s"
        )
        beside.execute(
            "INSERT INTO keyed_state SELECT convert_to('x' || n, 'UTF8'), 0, 1000000000"
            " FROM generate_series(1, 5000) n"
        )
        beside.execute(
            "INSERT INTO detail SELECT first - n, '{}' FROM generate_series(1, 4000) n,"
            " (SELECT max(first) AS first FROM segment) s"
        )
        [before] = beside.execute(_READ).fetchone() or [0]
        for number in range(10):
            backend.append(f"t{number}", key=f"t{number}")
            backend.append(f"t{number}")
            backend.append_groups(*details_and_states(f"t{number}"))
            backend.take("q")
            backend.stats()
            backend.prune()
        backend.get(backend.store.close())
        backend.open_anew()
        [after] = beside.execute(_READ).fetchone() or [0]
    assert after == before


def details_and_states(name: str) -> list[Group]:
    return [Group(events=[with_detail(name)]), start(name), end(name), count(3, f"c{name}")]


_READ = """
SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables
WHERE relname IN ('segment', 'key', 'detail', 'keyed_state')"""


VALUES = [
    *(None, True, 0, -(1 << 60), "", "it's \\ é $1 %s"),
    *(b"it's \\ a\ttext", "é".encode(), b"\0\xff", b"\xff\xfe"),
    *(["a'", "b"], [b"a'\\", b"\0"], [1, -2], []),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(link: Link, value: object) -> None:
    """A series or a name with a special character would be stored wrongly, or end the statement."""
    kinds = {bool: "boolean", int: "bigint", str: "text", bytes: "bytea"}
    kind = kinds.get(type(value), "text")
    if isinstance(value, list):
        kind = kinds[type(value[0]) if value else str] + "[]"
    [[(got,)]] = link.script([(f"SELECT %s::{kind}", (value,))])
    assert got == value


def test_what_has_no_literal_is_refused() -> None:
    with pytest.raises(ValueError, match=r"U\+0000"):
        literal("a\0b")
    with pytest.raises(TypeError, match="float"):
        literal(0.5)


def test_places_are_counted_as_the_server_does() -> None:
    assert statement("a = %(x)s AND b = %(y)s OR c = %(x)s").text == "a = $1 AND b = $2 OR c = $1"
    assert statement("a = %s AND b = %s").text == "a = $1 AND b = $2"
    assert statement("a = %s").call("s1", (1,)) == b"EXECUTE s1(1)"
    assert statement("SELECT 1").call("s2", ()) == b"EXECUTE s2"


def test_an_error_is_what_psycopg_would_raise_and_the_connection_goes_on(link: Link) -> None:
    """A refusal would be taken for a lost connection, or the other way round."""
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
        link.script([("SELECT 1 / %s", (0,)), ("SELECT 2", None)])
    assert link.script([("SELECT 1 / %s", (1,)), ("SELECT 2", None)]) == [[(1,)], [(2,)]]
    assert not link.is_broken


def test_statements_stay_prepared_after_a_rollback(backend: PostgreSQLBackend, link: Link) -> None:
    """A scrape after a failed one would fail, too."""
    for _ in range(5):
        link.execute("SELECT 1 WHERE 1 = %s", (1,))
        with pytest.raises(ZeroDivisionError), link.transaction(("SELECT %s::int", (7,))):
            raise ZeroDivisionError
    with link.transaction(("SELECT %s::int", (7,))) as rows:
        assert rows == [[(7,)]]


def test_a_scrape_with_a_value_of_every_kind(backend: PostgreSQLBackend) -> None:
    backend.append(("it's", "a\\b"), 'é{x="\\\\"}')
    assert series_of(backend.reserve("o'brien")) == ["it's", 'é{x="\\\\"}']


def test_a_setting_for_one_message_ends_with_it(link: Link) -> None:
    """Settlements after a release would be answered before they are on disk."""
    show = ("SELECT current_setting('synchronous_commit')", ())
    assert link.script([("SET LOCAL synchronous_commit = off", None), show])[1] == [("off",)]
    assert link.script([show]) == [[("on",)]]

"""Tables beside the log: what older daemons leave behind, and a bounded number of rows in each statement."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from attrs import evolve
from store.contract_details import TEXT, shown, with_detail
from store.contract_recent import pages
from store.contract_states import about, count, end, start, values
from support.postgresql_backend import NOW, PostgreSQLBackend
from support.postgresql_proxy import Cut, CuttingProxy
from support.store_backends import group
from support.transfers import contents

from oneshotd.core.events import Group, NewEvent, detail_text
from oneshotd.core.filters import METRIC, Selection
from oneshotd.store.interface import Stored
from oneshotd.store.postgresql import details, retention
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.schema import Schema, shipped
from oneshotd.store.postgresql.store import PostgreSQLStore
from oneshotd.store.postgresql.transfer import PostgreSQLExport
from oneshotd.store.transfer_records import DetailRecord

#: What daemons of layout 1 know, and a column that the code of today writes and theirs does not.
SESSION = "ALTER TABLE daemon ADD COLUMN session bigint NOT NULL DEFAULT 0;"
FIRST = Schema((shipped().scripts[0] + SESSION,))


def rows(backend: PostgreSQLBackend, query: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(backend.address, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def kept(backend: PostgreSQLBackend) -> list[object]:
    return [seq for (seq,) in rows(backend, "SELECT seq FROM detail ORDER BY seq")]


def detailed(*texts: str) -> Group:
    return Group(events=[with_detail("a", detail_text({"text": text})) for text in texts])


# -- beside daemons of layout 1


def test_a_daemon_of_layout_1_works_on_beside_one_of_layout_2(backend: PostgreSQLBackend) -> None:
    """An upgrade of a cluster would need all daemons to be stopped."""
    backend.opened_besides(old := backend.another("old", FIRST))
    assert backend.get(old.append([group("a", key="k")])) == [Stored(stored=1, first=1)]
    assert rows(backend, "SELECT layout, oldest FROM state") == [(1, 1)]
    backend.open_anew()
    backend.append_groups(detailed("one"), start(), count(3))
    assert rows(backend, "SELECT layout, oldest FROM state") == [(2, 1)]
    assert backend.get(old.append([group("b"), group("a", key="k")])) == [
        Stored(stored=1, first=6),
        Stored(stored=1, first=1, again=True),
    ]
    backend.append_groups(end(), count(4))
    assert values(backend) == [about(0)]
    assert shown(backend) == {2: detail_text({"text": "one"})}
    assert backend.logged() == ["a", "a", "begun", "counted", "counted", "b", "ended", "counted"]
    backend.opened_besides(again := backend.another("older", FIRST))
    backend.get(again.append([group("c")]))
    assert backend.take("p")[-1] == "c"


def test_details_of_events_that_an_older_daemon_has_deleted(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk would fill during a long upgrade, and `oneshotctl move` fail after it."""
    monkeypatch.setattr(details, "DETAILS_A_TURN", 4)
    backend.append_groups(*[detailed(str(number)) for number in range(10)])
    backend.append_groups(detailed("young"))
    size = backend.stats().size
    rows(backend, "UPDATE state SET pruned = 10, pruned_size = (SELECT min(total_size) FROM segment)")
    rows(backend, "DELETE FROM segment WHERE first <= 10")
    assert shown(backend) == {11: detail_text({"text": "young"})}
    assert backend.stats().size < size
    backend.time.wall += 11
    copied = contents(PostgreSQLExport(backend.address, NOW))[DetailRecord]
    assert copied == [DetailRecord(11, detail_text({"text": "young"}))]
    backend.prune()
    assert kept(backend) == [11]


# -- retention


def test_a_turn_of_retention_deletes_a_bounded_number_of_rows(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would end the statement after 15 s, each time again, and the disk fill."""
    monkeypatch.setattr(details, "DETAILS_A_TURN", 10)
    monkeypatch.setattr(retention, "DETAILS_A_TURN", 10)
    monkeypatch.setattr(retention, "STATES_A_TURN", 3)
    backend.append_groups(detailed(*map(str, range(25))), *[start(f"s{number}") for number in range(8)])
    backend.time.advance(3601)
    link = Link(backend.address, NOW)
    try:
        left = []
        more = True
        while more:
            _, more = retention.prune(link, backend.limits)
            left.append((len(kept(backend)), len(rows(backend, "SELECT 1 FROM keyed_state"))))
    finally:
        link.close()
    assert left == [(15, 5), (5, 2), (0, 0)]
    assert backend.stats().events == 0


def test_states_beyond_their_number_go_a_bounded_number_at_a_time(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller limit would be a statement that never ends in time."""
    monkeypatch.setattr(retention, "STATES_A_TURN", 3)
    backend.append_groups(*[start(f"s{number}", seconds=100.0 + number) for number in range(9)])
    backend.limits = evolve(backend.limits, max_states=2)
    backend.restart()
    backend.prune()
    assert rows(backend, "SELECT convert_from(key, 'UTF8') FROM keyed_state ORDER BY 1") == [("s7",), ("s8",)]


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize(("table", "age"), [("key", "up"), ("keyed_state", "until_up")])
def test_retention_leaves_a_row_alone_that_an_append_has_claimed(
    backend: PostgreSQLBackend, table: str, age: str, beyond: bool
) -> None:
    """A key or state that was just renewed would be forgotten, or the two transactions wait in a circle."""
    if beyond:
        backend.limits = evolve(backend.limits, max_keys=0, max_states=0)
    backend.append_groups(start(key="k"))
    with psycopg.connect(backend.address) as other:
        if not beyond:
            other.execute(f"UPDATE {table} SET {age} = -4000000".encode())
            other.commit()
        other.execute(f"UPDATE {table} SET {age} = 4000000".encode())
        backend.prune()
    with psycopg.connect(backend.address) as connection:
        left = connection.execute(f"SELECT {age} FROM {table}".encode()).fetchall()
    assert left == [(4000000,)]


# -- the look at the log, and the way in


def test_details_are_read_in_parts(backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page would take a query for each event."""
    monkeypatch.setattr(details, "DETAILS_AT_ONCE", 3)
    expected = {}
    for number in range(1, 30):
        text = detail_text({"text": str(number)}) if number % 4 else ""
        backend.append_groups(Group(events=[NewEvent(f"s{number % 3}", None, None, text)]))
        if text:
            expected[number] = text
    assert shown(backend) == expected
    some = pages(backend, Selection(where={METRIC: "s0"}), limit=2)
    assert {event.seq: event.detail for event in some if event.detail} == {
        number: text for number, text in expected.items() if number % 3 == 0
    }


@pytest.mark.parametrize("half", ["plain", "states"])
def test_a_daemon_that_stops_in_the_middle_of_such_an_append_holds_up_nobody(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, half: str
) -> None:
    """One frozen machine would refuse the events of all clients of all daemons."""
    asked = Group(events=[with_detail("needle", TEXT)]) if half == "plain" else start("needle")
    backend.get(store.append([asked]))
    proxy.arm(Cut.HALTED, b"needle", after=int(half == "states"))  # after the claim
    answer = store.append([asked, group("last")])
    assert proxy.halted.wait(20)
    try:
        assert backend.append("beside") == Stored(stored=1, first=2)
        assert backend.append_groups(start("other"))
    finally:
        proxy.go_on.set()
    assert backend.get(answer) == [Stored(stored=1, first=4), Stored(stored=1, first=5)]


def test_an_append_with_neither_has_no_statement_more(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event would pay for what few senders have."""
    backend.append("first", key="first")
    sent: list[list[str]] = []
    script = Link.script

    def noted(link: Link, statements: list[tuple[str, object]]) -> object:
        sent.append([query for query, _ in statements])
        return script(link, statements)  # type: ignore[arg-type]

    monkeypatch.setattr(Link, "script", noted)
    backend.append("a", "b")
    backend.append("c", key="k")
    text = str(sent)
    assert "INSERT INTO segment" in text
    assert "detail" not in text and "keyed_state" not in text
    assert [len(each) for each in sent if "INSERT INTO segment" in str(each)] == [2, 5]

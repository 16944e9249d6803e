"""A file that has rotted: whatever byte it is, nobody waits for ever and nothing crashes."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.fake_store import logged
from support.store_log import held_events
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from oneshotd.core.events import Count, Group, NewEvent, detail_text, details_of, labels_of
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.store import SQLiteStore
from oneshotd.web.timestamps import rfc3339

PAGE = 4096
#: As `core.event.escape` writes them.
ESCAPES = r"\n\"\\"


@cache
def sound() -> bytes:
    """A file with a log, details, keys, states, a scraper and events that it is owed."""
    with tempfile.TemporaryDirectory() as folder:
        path, pump = Path(folder) / "store", ThreadPump()
        store = SQLiteStore(str(path), pump)
        for start in range(0, 600, 40):
            events = [
                NewEvent(
                    f'm{{n="{n}",pad="{"x" * 30}{ESCAPES}"}}',
                    str(n) if n % 2 else None,
                    f"key-{n}" if n % 5 == 0 else None,
                    detail_text({"text": f"event {n}", "link": "x" * 60}) if n % 7 == 0 else "",
                )
                for n in range(start, start + 40)
            ]
            counted = Count(event=0, key=f"c-{start}", count=5, unknown=1, seconds=9e9)
            pump.get(store.append([Group(events=events, states=[counted])]))
        reserved = pump.get(store.reserve(Visit(name="ann", named=True), 60.0, 100))
        assert reserved.token is not None
        pending = reserved.pending
        pump.get(store.settle(reserved.token, True, pending.end, pending.seqs[:20], ()))
        pump.get(store.release(reserved.token))
        pump.get(store.close())
        return path.read_bytes()


def use(store: SQLiteStore, pump: ThreadPump) -> list[str]:
    """Do all that a daemon does; what was refused, and why."""
    refused: list[str] = []

    def ask(what: str, question: Callable[[], Deferred[Any]]) -> Any:
        try:
            return pump.get(question())
        except StoreUnavailable as error:
            refused.append(f"{what}: {error}")

    states = [
        Count(event=0, key=f"c-{start}", count=6, unknown=1, seconds=9e9) for start in range(0, 600, 40)
    ]
    ask("append", lambda: store.append([Group(events=[NewEvent("new")], states=states)]))
    for name in ("ann", "bob"):
        reserved = ask("reserve", partial(store.reserve, Visit(name=name, named=True), 60.0, 5000))
        if reserved is not None and reserved.token is not None:
            pending, token = reserved.pending, reserved.token
            gone = pending.seqs[: pending.owed]
            ask("settle", partial(store.settle, token, True, pending.end, (), gone))
            ask("release", partial(store.release, token))
    ask("events", lambda: held_events(store))
    page = ask("recent", lambda: store.recent(Selection(where={"n": "7"}), None, 100))
    if page is not None:
        for event in page.events:
            assert labels_of(event.series) and rfc3339(event.at) and details_of(event.detail)
    ask("stats", store.stats)
    ask("prune", store.prune)
    return refused


def opened(path: str, pump: ThreadPump) -> SQLiteStore | None:
    """A store on this file; None if it is refused."""
    try:
        return SQLiteStore(path, pump)
    except StoreRefused:
        return None


def outcome(data: bytes) -> str:
    """What becomes of a store on this file."""
    folder = Path(tempfile.mkdtemp())
    path, pump = folder / "store", ThreadPump()
    path.write_bytes(data)
    try:
        with logged() as events:
            store = opened(str(path), pump)
            if store is None:
                assert path.read_bytes() == data, "a file that is refused is left alone"
                return "refused"
            rounds = [use(store, pump) for _ in range(4)]
            pump.get(store.close())
        lines = [formatEvent(event) for event in events]
        assert not any("thread failed" in line for line in lines), lines
        if any("was moved to" in line for line in lines):
            [aside] = [file for file in folder.glob("*.corrupt-*") if not file.name.endswith("-wal")]
            assert aside.stat().st_size >= len(data) // PAGE * PAGE, "nothing is deleted"
            # Each round may find one more place; then the file is away.
            assert rounds[-1] == [], rounds
            return "moved aside"
        return "works" if rounds[-1] == [] else f"refuses: {rounds[-1][0]}"
    finally:
        shutil.rmtree(folder)


def expected(result: str) -> bool:
    # A single bit of the header says "read-only" to SQLite, which then is what every 503 says.
    return result in ("works", "refused", "moved aside") or "readonly" in result


@examples(60)
@given(st.data())
def test_a_flipped_bit_leaves_a_store_that_works_or_says_what_is_wrong(draw: st.DataObject) -> None:
    """One bit of an old card: a scraper would get nothing for ever, and every append in the same
    transaction would fail with it."""
    data = bytearray(sound())
    for _ in range(draw.draw(st.integers(1, 4), "bits")):
        at = draw.draw(st.integers(0, len(data) - 1), "at")
        data[at] ^= 1 << draw.draw(st.integers(0, 7), "bit")
    result = outcome(bytes(data))
    assert expected(result), result


@examples(30)
@given(page=st.integers(0, 200), fill=st.sampled_from([b"\0", b"\xff", b"\xa5"]))
def test_a_lost_page(page: int, fill: bytes) -> None:
    """The file system gives zeros, or another file's data, for a page."""
    data = bytearray(sound())
    at = page * PAGE % len(data)
    data[at : at + PAGE] = fill * PAGE
    result = outcome(bytes(data))
    assert expected(result), result


@examples(30)
@given(st.integers(1, 10**6))
def test_a_file_cut_short(size: int) -> None:
    """A copy that was broken off."""
    result = outcome(sound()[: size % len(sound())] or b"\1")
    assert expected(result), result


@pytest.mark.parametrize("byte", [b"\xff", b"z"], ids=["no UTF-8", "no line end"])
def test_a_text_that_has_rotted_counts_as_corrupt(byte: bytes) -> None:
    """SQLite has nothing against it; but no scraper could ever read beyond it."""
    data = bytearray(sound())
    data[data.index(b"\nm{n=")] = byte[0]
    assert outcome(bytes(data)) == "moved aside"


@pytest.mark.parametrize("find", [bytes.find, bytes.rfind], ids=["of an owed event", "of the log"])
@pytest.mark.parametrize("escape", [0, 2, 4])
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_an_escape_is_found(
    find: Callable[[bytes, bytes], int], escape: int, bit: int
) -> None:
    """A scraper would refuse the whole response that the event is in, and the page and the API failed."""
    data = bytearray(sound())
    at = find(sound(), ESCAPES.encode()) + escape + 1
    data[at] ^= 1 << bit
    broken = chr(data[at]) not in '\\n"'
    result = outcome(bytes(data))
    if broken:
        assert result == "moved aside"
    else:
        assert expected(result), result


@pytest.mark.parametrize("column", ["clock_at", "ats", "seen_at"])
@pytest.mark.parametrize("wrong", [-1, 1 << 62])
def test_a_time_that_no_calendar_has_is_found(tmp_path: Path, column: str, wrong: int) -> None:
    """The page and the API would fail on it."""
    path = tmp_path / "store"
    path.write_bytes(sound())
    with closing(sqlite3.connect(path)) as connection, connection:
        if column == "ats":
            connection.execute(
                "UPDATE segment SET ats = ? || zeroblob(8 * count - 8) WHERE first = 1",
                (wrong.to_bytes(8, "little", signed=True),),
            )
            connection.execute("UPDATE segment SET ats = CAST(ats AS BLOB) WHERE first = 1")
        elif column == "seen_at":
            connection.execute("UPDATE scraper SET seen_at = ?", (wrong,))
        else:
            connection.execute("UPDATE segment SET clock_at = ?, ats = NULL WHERE first = 1", (wrong,))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert outcome(path.read_bytes()) == "moved aside"


@pytest.mark.parametrize("text", [b'{"link":"', b'"text":"event 7"', b"event 7"])
@pytest.mark.parametrize("bit", [0, 1, 5, 7])
def test_a_detail_that_has_rotted_is_found_if_it_cannot_be_read(text: bytes, bit: int) -> None:
    """The page and the API would fail on it."""
    data = bytearray(sound())
    at = data.index(text)
    data[at] ^= 1 << bit
    result = outcome(bytes(data))
    if text.startswith(b"event") and bit < 7:
        assert result == "works"  # as an event's own text, it is shown as it is
    else:
        assert result == "moved aside"


@pytest.mark.parametrize("column", ["value", "until_up"])
def test_a_state_that_is_no_number_is_found(tmp_path: Path, column: str) -> None:
    """Each append of its sender would fail, and all in the same transaction with it."""
    path = tmp_path / "store"
    path.write_bytes(sound())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE keyed_state SET {column} = 'x' WHERE key = 'c-0'")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert outcome(path.read_bytes()) == ("moved aside" if column == "value" else "works")


def test_a_nul_in_an_event_is_no_damage(tmp_path: Path) -> None:
    """A sound store with such an event would be moved aside after a read error, with what it holds."""
    path, pump = tmp_path / "store", ThreadPump()
    store = SQLiteStore(str(path), pump)
    events = [NewEvent("a\0b", "1"), NewEvent("c"), NewEvent("d\0")]
    pump.get(store.append([Group(events=events)]))
    pump.get(store.close())
    open_database(str(path), thorough=True).close()
    assert [file.name for file in tmp_path.iterdir()] == ["store"]

"""Contract: looking consumes nothing; a backup is a store; a closed store says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.store_backends import Backend, group, keyed
from support.store_log import held_events
from twisted.internet.defer import Deferred

from oneshotd.core.events import series_text
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import IStore, Stored

LOG = [
    series_text("m", {"type": kind, "host": host}.items())
    for kind, host in [("deploy", "a"), ("backup", "a"), ("deploy", "b"), ('qu"ote\n', "a"), ("deploy", "a")]
]


class TestLooking:
    """The page and the API see what is held."""

    @pytest.mark.parametrize(
        ("after", "where", "limit", "seqs"),
        [
            (0, {}, 100, [1, 2, 3, 4, 5]),
            (3, {}, 100, [4, 5]),
            (5, {}, 100, []),
            (99, {}, 100, []),
            (0, {}, 2, [1, 2]),
            (0, {"type": "deploy"}, 100, [1, 3, 5]),
            (1, {"type": "deploy"}, 1, [3]),
            (0, {"type": "deploy", "host": "b"}, 100, [3]),
            (0, {"type": 'qu"ote\n'}, 100, [4]),
            (0, {"type": "deplo"}, 100, []),
            (0, {"other": "x"}, 100, []),
        ],
    )
    def test_events_beyond_a_seq_by_label(
        self, backend: Backend, after: int, where: Mapping[str, str], limit: int, seqs: list[int]
    ) -> None:
        backend.append(*LOG[:2])
        backend.append(*LOG[2:])
        backend.take("p")  # what has been read is shown all the same
        held = backend.get(held_events(backend.store, Selection(where=where)))
        found = [event for event in held if event.seq > after][:limit]
        assert [event.seq for event in found] == seqs
        assert all(event.series == LOG[event.seq - 1] for event in found)

    def test_looking_at_events_takes_nothing(self, backend: Backend) -> None:
        backend.append("a")
        before = backend.stats()
        backend.events()
        assert backend.stats() == before

    def test_the_figures_of_the_log(self, backend: Backend) -> None:
        assert (backend.stats().events, backend.stats().size, backend.stats().head) == (0, 0, 0)
        backend.append("abc", ("é" * 100, "1.5"))
        stats = backend.stats()
        assert (stats.events, stats.head, stats.scrapers, stats.lost) == (2, 2, (), {})
        assert 200 <= stats.size <= 220
        backend.restart()
        assert backend.stats() == stats

    def test_a_store_that_can_write_passes_the_check(self, backend: Backend) -> None:
        backend.get(backend.store.check())


class TestBackup:
    """A backup is a store of its own."""

    def test_it_has_all_that_was_there_and_nothing_later(self, backend: Backend) -> None:
        backend.append(("q", "1"), ("q", "2"), "a", key="k")
        backend.append_groups(keyed(("e", "b")))
        backend.scrape("p")
        before, log = backend.stats(), backend.events()
        path = backend.backup_path()
        backend.backup(path)
        backend.append("later")
        backend.take("p")
        backend.open_backup(path)
        assert backend.stats() == before
        assert backend.events() == log
        assert backend.append(("q", "1"), ("q", "2"), "a", key="k") == Stored(stored=3, first=1, again=True)
        assert [sample.value for sample in backend.scrape("p").samples] == ["2"]
        assert backend.append("c") == Stored(stored=1, first=5)

    def test_it_replaces_nothing(self, backend: Backend) -> None:
        path = backend.backup_path()
        Path(path).write_text("something dear")
        with pytest.raises(StoreUnavailable, match="exists"):
            backend.backup(path)
        assert Path(path).read_text() == "something dear"

    def test_where_it_cannot_be_written_it_says_so(self, backend: Backend) -> None:
        with pytest.raises(StoreUnavailable, match="No such file"):
            backend.backup(backend.backup_path() + "/no/such/folder")
        backend.append("a")
        assert backend.logged() == ["a"]

    def test_a_closed_store_makes_none(self, backend: Backend) -> None:
        """A copy that is never made would be waited for."""
        backend.append("a")
        backend.get(backend.store.close())
        with pytest.raises(StoreUnavailable):
            backend.backup("/nonexistent/backup")


VISIT = Visit(name="p", named=True)

METHODS: dict[str, Callable[[IStore], Deferred[Any]]] = {
    "append": lambda store: store.append([group("a")]),
    "reserve": lambda store: store.reserve(VISIT, 60.0, 10),
    "look": lambda store: store.look(VISIT, 10),
    "settle": lambda store: store.settle(1, True, 1, (), ()),
    "revoke": lambda store: store.revoke(1),
    "stats": lambda store: store.stats(),
    "recent": lambda store: store.recent(Selection(), None, 10),
    "prune": lambda store: store.prune(),
    "check": lambda store: store.check(),
}


class TestClosed:
    """After the end, nothing waits for ever."""

    @pytest.mark.parametrize("method", METHODS)
    def test_a_closed_store_refuses(self, backend: Backend, method: str) -> None:
        backend.append("a")
        backend.get(backend.store.close())
        with pytest.raises(StoreUnavailable):
            backend.get(METHODS[method](backend.store))
        backend.get(backend.store.release(1))

    def test_closing_finishes_what_was_asked_before(self, backend: Backend) -> None:
        asked = [backend.store.append([group("a")]) for _ in range(20)]
        closed = backend.store.close()
        refused = backend.store.append([group("b")])
        backend.get(closed)
        assert [backend.get(answer) for answer in asked] == [
            [Stored(stored=1, first=number)] for number in range(1, 21)
        ]
        with pytest.raises(StoreUnavailable):
            backend.get(refused)
        backend.open_anew()
        assert backend.logged() == ["a"] * 20

    def test_closing_twice_is_closing_once(self, backend: Backend) -> None:
        first, second = backend.store.close(), backend.store.close()
        backend.get(first)
        backend.get(second)

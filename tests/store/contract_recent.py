"""Contract: who looks back through the log sees each event once, whatever comes in meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.store_backends import LEASE, Backend

from oneshotd.core.events import Event, series_text
from oneshotd.core.filters import Selection
from oneshotd.store.interface import Settled

#: Tricky neighbours: a name that ends like another, values with quotes, commas and backslashes.
LOG = [
    series_text(name, labels.items())
    for name, labels in [
        ("m", {"type": "deploy", "host": "a"}),
        ("m", {"subtype": "deploy"}),
        ("other", {"type": "deploy"}),
        ("m", {"host": 'x",type="deploy'}),
        ("m", {"type": "deploy\\", "host": "b"}),
        ("m", {"type": 'deploy"', "host": "line\nend"}),
        ("m", {}),
    ]
]


def pages(backend: Backend, selection: Selection, limit: int = 1000) -> list[Event]:
    """All that is found, to the end of the log."""
    found: list[Event] = []
    before: int | None = None
    for _ in range(10_000):
        stretch = backend.get(backend.store.recent(selection, before, limit))
        assert len(stretch.events) <= limit
        found += stretch.events
        before = stretch.next
        if before is None:
            return found
    raise AssertionError("there is no end to it")


class TestRecent:
    """What happened last is seen first."""

    @pytest.mark.parametrize(
        ("where", "seqs"),
        [
            ({}, [7, 6, 5, 4, 3, 2, 1]),
            ({"type": "deploy"}, [3, 1]),
            ({"type": "deploy", "__name__": "m"}, [1]),
            ({"__name__": "other"}, [3]),
            ({"__name__": "othe"}, []),
            ({"type": "deploy\\"}, [5]),
            ({"type": 'deploy"'}, [6]),
            ({"type": ""}, [7, 4, 2]),
            ({"type": "", "host": ""}, [7, 2]),
            ({"host": 'x",type="deploy'}, [4]),
            ({"host": "line\nend"}, [6]),
            ({"type": "depl"}, []),
            ({"ype": "deploy"}, []),
            ({"none": "x"}, []),
        ],
    )
    def test_events_by_label_and_name(
        self, backend: Backend, where: Mapping[str, str], seqs: list[int]
    ) -> None:
        backend.append(*LOG[:3])
        backend.append(*LOG[3:])
        assert [event.seq for event in pages(backend, Selection(where=where))] == seqs
        assert [event.seq for event in pages(backend, Selection(where=where), limit=1)] == seqs

    def test_an_event_is_shown_as_it_is_held(self, backend: Backend) -> None:
        backend.append("a", ("b", "1.5"))
        assert pages(backend, Selection()) == backend.events()[::-1]

    def test_an_empty_log_has_an_end(self, backend: Backend) -> None:
        assert pages(backend, Selection()) == []
        assert pages(backend, Selection(until=10**15, since=5)) == []

    @pytest.mark.parametrize("before", [1, 2, 5, 6, 7, 99, 10**18])
    def test_one_goes_on_before_a_seq(self, backend: Backend, before: int) -> None:
        backend.append(*"abc")
        backend.append(*"de")
        found = backend.get(backend.store.recent(Selection(), before, 1000)).events
        assert [event.seq for event in found] == list(range(min(5, before - 1), 0, -1))

    def test_a_span_of_time(self, backend: Backend) -> None:
        """From `since` on, and before `until`; also where a burst ran ahead of the clock."""
        for _ in range(4):
            backend.append("a", "a", "a", "b")
            backend.time.advance(0.125)
            backend.append("c")
            backend.time.advance(1.0)
        log = backend.events()
        times = sorted({event.at for event in log})
        edges = [None, times[0] - 1, times[0], times[1], times[5], times[-1], times[-1] + 1, 10**15]
        for since in edges:
            for until in edges:
                wanted = Selection(since=since, until=until)
                expected = [event for event in log if wanted.in_time(event.at)][::-1]
                assert pages(backend, wanted) == expected, (since, until)

    def test_a_long_log_is_looked_at_in_stretches(self, backend: Backend) -> None:
        """Nobody else would be answered while somebody looks for what is not there."""
        for number in range(4):
            backend.append(*[f'm{{part="{number}"}}'] * 3000)
        stretch = backend.get(backend.store.recent(Selection(where={"part": "none"}), None, 10))
        assert stretch.events == [] and stretch.next is not None
        assert stretch.looked <= 4000
        assert [event.seq for event in pages(backend, Selection(where={"part": "0"}))] == list(
            range(3000, 0, -1)
        )

    def test_a_stretch_of_long_events_is_short(self, backend: Backend) -> None:
        """What a reader is shown is in memory several times over."""
        long = "x" * 4000
        backend.append(*[f'm{{n="{number}",pad="{long}"}}' for number in range(1000)])
        stretch = backend.get(backend.store.recent(Selection(), None, 1000))
        assert 200 < len(stretch.events) < 300
        assert [event.seq for event in pages(backend, Selection())] == list(range(1000, 0, -1))

    def test_each_once_whatever_comes_in_and_goes_meanwhile(self, backend: Backend) -> None:
        backend.append(*["a"] * 50)
        backend.time.advance(3000)
        backend.append(*["b"] * 50)
        seen: list[int] = []
        before: int | None = None
        for _ in range(11):
            stretch = backend.get(backend.store.recent(Selection(), before, 7))
            seen += [event.seq for event in stretch.events]
            before = stretch.next
            if before is None:
                break
            backend.append(*["c"] * 3)
            if len(seen) == 63:
                backend.time.advance(1000)
                backend.prune()  # the first fifty have had their time
        assert before is None
        assert seen[:50] == list(range(100, 50, -1))
        assert seen[50:] == list(range(50, 50 - len(seen[50:]), -1))

    def test_looking_back_takes_nothing(self, backend: Backend) -> None:
        backend.append("a", "b")
        before = backend.stats()
        pages(backend, Selection())
        assert backend.stats() == before
        assert backend.take("p") == ["a", "b"]

    def test_after_a_restart_it_is_all_there(self, backend: Backend) -> None:
        backend.append(*"abc")
        log = pages(backend, Selection())
        backend.restart()
        assert pages(backend, Selection()) == log

    def test_a_scraper_is_shown_as_it_came(self, backend: Backend) -> None:
        """Whether it said its name, and whether it is being served right now."""
        backend.append("a")
        backend.take("p")
        reservation = backend.reserve("192.0.2.7 Prometheus")
        assert (backend.status("p").named, backend.status("p").in_flight) == (True, False)
        unnamed = backend.status("192.0.2.7 Prometheus")
        assert (unnamed.named, unnamed.in_flight) == (False, True)
        backend.settle(reservation)
        assert backend.status("192.0.2.7 Prometheus").in_flight
        backend.release(reservation)
        assert not backend.status("192.0.2.7 Prometheus").in_flight

    def test_to_see_that_a_delivery_has_lapsed_does_not_end_it(self, backend: Backend) -> None:
        """Somebody looks, and for that what has arrived goes out a second time."""
        backend.append("a")
        reservation = backend.reserve("p")
        backend.time.advance(LEASE + 1)
        assert not backend.status("p").in_flight
        pages(backend, Selection())
        assert backend.settle(reservation) is Settled.SETTLED
        backend.release(reservation)
        assert backend.take("p") == []

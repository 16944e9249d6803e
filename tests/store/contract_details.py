"""Contract: the text beside an event is shown, counted and deleted with it, and is no part of its key."""

from __future__ import annotations

import pytest
from attrs import evolve
from store.contract_recent import pages
from support.store_backends import Backend

from oneshotd.core.events import Group, NewEvent, detail_text
from oneshotd.core.filters import Selection
from oneshotd.store.abilities import IBackup
from oneshotd.store.interface import Conflict, Stored

TEXT = detail_text({"text": 'a "quoted" text\n\0 of several lines', "link": "https://example.com/\U0001f600"})


def with_detail(series: str, detail: str = TEXT, key: str | None = None) -> NewEvent:
    return NewEvent(series, None, key, detail)


def shown(backend: Backend) -> dict[int, str]:
    """Return the details that a look at the whole log shows, by seq."""
    return {event.seq: event.detail for event in pages(backend, Selection()) if event.detail}


class TestDetails:
    """What a sender writes beside an event can be read in the log."""

    def test_an_event_is_shown_with_its_detail(self, backend: Backend) -> None:
        other = detail_text({"text": "other"})
        backend.append("before")
        backend.append_groups(
            Group(events=[with_detail("a"), NewEvent("b", "1")]), Group(events=[with_detail("c", other)])
        )
        backend.append("after")
        assert shown(backend) == {2: TEXT, 4: other}
        assert [event.detail for event in backend.events()] == ["", TEXT, "", other, ""]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_it_is_durable(self, backend: Backend, end: str) -> None:
        backend.append_groups(Group(events=[NewEvent("a"), with_detail("b")]))
        getattr(backend, end)()
        backend.append_groups(Group(events=[with_detail("c")]))
        assert shown(backend) == {2: TEXT, 3: TEXT}

    def test_many_events_of_which_some_have_details(self, backend: Backend) -> None:
        """A large group is several segments, and small ones are read together."""
        expected = {seq: detail_text({"n": str(seq)}) for seq in range(1, 5001, 700)}
        backend.append_groups(
            Group(events=[with_detail(f's{{n="{seq}"}}', expected.get(seq, "")) for seq in range(1, 5001)])
        )
        for seq in range(5001, 5011):
            backend.append_groups(Group(events=[with_detail("single", TEXT if seq % 3 else "")]))
        expected |= {seq: TEXT for seq in range(5001, 5011) if seq % 3}
        assert shown(backend) == expected

    def test_filters_see_labels_only(self, backend: Backend) -> None:
        backend.append_groups(Group(events=[with_detail("a"), with_detail('b{x="1"}')]))
        assert [event.detail for event in pages(backend, Selection(where={"x": "1"}))] == [TEXT]
        assert pages(backend, Selection(where={"text": "other"})) == []
        assert pages(backend, Selection(), limit=1) == pages(backend, Selection())

    def test_a_page_of_long_details_is_short(self, backend: Backend) -> None:
        """A thousand details of 4 KiB are in memory several times over."""
        long = detail_text({"text": "x" * 4000})
        backend.append_groups(Group(events=[with_detail("a", long)] * 600))
        found = backend.get(backend.store.recent(Selection(), None, 1000))
        assert 200 < len(found.events) < 300 and found.looked < 300
        assert [event.seq for event in pages(backend, Selection())] == list(range(600, 0, -1))

    def test_a_scraper_gets_the_event_alone(self, backend: Backend) -> None:
        backend.append_groups(Group(events=[NewEvent("q", str(n), None, TEXT) for n in range(3)]))
        values = [sample.value for _ in range(3) for sample in backend.scrape("p").samples]
        assert values == ["0", "1", "2"]  # the second and the third were owed
        assert shown(backend) == {1: TEXT, 2: TEXT, 3: TEXT}

    def test_a_key_does_not_cover_it(self, backend: Backend) -> None:
        """A retry would be a conflict because its sender has written down another time."""
        other = detail_text({"text": "other"})
        body = Group(events=[with_detail("a")], key="body")
        assert backend.append_groups(body) == [Stored(stored=1, first=1)]
        repeated = Group(events=[with_detail("a", other)], key="body")
        assert backend.append_groups(repeated) == [Stored(stored=1, first=1, again=True)]
        backend.append_groups(Group(events=[with_detail("b", key="own")]))
        assert backend.append_groups(Group(events=[with_detail("b", other, key="own")])) == [
            Stored(stored=0, duplicates=1)
        ]
        assert shown(backend) == {1: TEXT, 2: TEXT}

    def test_what_is_refused_leaves_none(self, backend: Backend) -> None:
        backend.append_groups(Group(events=[NewEvent("a", key="k")]))
        before = backend.stats().size
        refused = Group(events=[with_detail("x"), with_detail("b", key="k")])
        assert backend.append_groups(refused) == [Conflict(key="k")]
        assert backend.stats().size == before
        backend.append("c")
        assert shown(backend) == {}

    def test_it_counts_as_text_of_the_log(self, backend: Backend) -> None:
        backend.append("a")
        plain = backend.stats().size
        backend.append_groups(Group(events=[with_detail("a")]))
        assert backend.stats().size == 2 * plain + len(TEXT.encode())
        size = backend.stats().size
        backend.restart()
        assert backend.stats().size == size

    def test_the_log_stays_within_its_bytes(self, backend: Backend) -> None:
        """Details would fill the disk."""
        backend.limits = evolve(backend.limits, max_bytes=5000)
        long = detail_text({"text": "x" * 2000})
        for _ in range(6):
            backend.append_groups(Group(events=[with_detail("a", long)]))
            assert backend.stats().size <= 5000
        assert shown(backend) == {5: long, 6: long}

    def test_it_goes_with_its_event(self, backend: Backend) -> None:
        backend.append_groups(Group(events=[with_detail("old")]))
        backend.time.advance(3000)
        backend.append_groups(Group(events=[with_detail("young")]))
        backend.time.advance(1000)
        backend.prune()
        assert shown(backend) == {2: TEXT}
        backend.time.advance(3000)
        backend.prune()
        assert shown(backend) == {} and backend.stats().size == 0
        backend.append("new")
        assert shown(backend) == {} and backend.logged() == ["new"]

    def test_a_backup_has_it(self, backend: Backend) -> None:
        if not IBackup.providedBy(backend.store):
            return
        backend.append_groups(Group(events=[with_detail("a")]))
        path = backend.backup_path()
        backend.backup(path)
        backend.open_backup(path)
        assert shown(backend) == {1: TEXT}

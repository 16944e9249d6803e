"""Contract: what a tool repeats under its key is stored once."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.store_backends import Backend, group, keyed

from oneshotd.core.events import NewEvent
from oneshotd.store.interface import Conflict, Stored


class TestKeys:
    """A retry answers as the first attempt did and stores nothing."""

    def test_a_repeated_group_gets_the_first_answer(self, backend: Backend) -> None:
        backend.append("before")
        assert backend.append("a", ("b", "1"), key="k") == Stored(stored=2, first=2)
        backend.append("between")
        assert backend.append("a", ("b", "1"), key="k") == Stored(stored=2, first=2, again=True)
        assert backend.logged() == ["before", "a", "b", "between"]

    def test_a_repeated_event_is_a_duplicate_and_the_rest_of_its_body_is_stored(
        self, backend: Backend
    ) -> None:
        backend.append_groups(keyed(("k1", "a")))
        assert backend.append_groups(keyed(("k0", "z"), ("k1", "a"), ("k2", "b"))) == [
            Stored(stored=2, duplicates=1, first=2)
        ]
        assert backend.logged() == ["a", "z", "b"]
        assert backend.append_groups(keyed(("k1", "a"), ("k2", "b"))) == [Stored(stored=0, duplicates=2)]

    def test_a_key_twice_in_one_body_counts_once(self, backend: Backend) -> None:
        assert backend.append_groups(keyed(("k", "a"), ("k", "a"))) == [
            Stored(stored=1, duplicates=1, first=1)
        ]

    def test_events_without_a_key_beside_keyed_ones_are_all_stored(self, backend: Backend) -> None:
        body = type(group("x"))(events=[NewEvent("a", key="k"), NewEvent("a"), NewEvent("a")])
        assert backend.append_groups(body) == [Stored(stored=3, first=1)]
        assert backend.append_groups(body) == [Stored(stored=2, duplicates=1, first=4)]

    def test_two_at_the_same_time_are_one(self, backend: Backend) -> None:
        """A client that lost patience retries while its first request still waits."""
        asked = [backend.store.append([group("a", key="k"), group("a", key="k")]) for _ in range(3)]
        answers = [answer for deferred in asked for answer in backend.get(deferred)]
        assert answers == [Stored(stored=1, first=1)] + 5 * [Stored(stored=1, first=1, again=True)]
        assert backend.logged() == ["a"]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_a_retry_after_a_restart_is_recognised(self, backend: Backend, end: str) -> None:
        backend.append("a", key="k")
        backend.append_groups(keyed(("e", "b")))
        getattr(backend, end)(away=86400)
        assert backend.append("a", key="k") == Stored(stored=1, first=1, again=True)
        assert backend.append_groups(keyed(("e", "b"))) == [Stored(stored=0, duplicates=1)]

    @pytest.mark.parametrize(
        "other",
        [group("b", key="k"), group(("a", "1"), key="k"), group("a", "a", key="k"), group("a", "b", key="k")],
    )
    def test_a_group_key_with_other_content_is_a_conflict(self, backend: Backend, other: object) -> None:
        backend.append("a", key="k")
        assert backend.get(backend.store.append([other])) == [Conflict(key="k")]  # type: ignore[list-item]
        assert backend.logged() == ["a"]

    def test_a_conflict_stores_nothing_of_its_group_and_takes_no_key(self, backend: Backend) -> None:
        backend.append_groups(keyed(("k", "a")))
        answers = backend.append_groups(keyed(("new", "x"), ("k", "b"), ("other", "y")), group("c"))
        assert answers == [Conflict(key="k"), Stored(stored=1, first=2)]
        assert backend.logged() == ["a", "c"]
        # The keys that came before and after the bad one are still free, for other content, too.
        assert backend.append_groups(keyed(("new", "p"), ("other", "q"))) == [Stored(stored=2, first=3)]

    def test_a_key_with_two_contents_in_one_body_is_a_conflict(self, backend: Backend) -> None:
        assert backend.append_groups(keyed(("k", "a"), ("k", "b"))) == [Conflict(key="k")]
        assert backend.logged() == []
        assert backend.append_groups(keyed(("k", "b"))) == [Stored(stored=1, first=1)]

    def test_a_key_is_the_same_whether_it_came_with_the_body_or_the_event(self, backend: Backend) -> None:
        backend.append("a", key="k")
        assert backend.append_groups(keyed(("k", "a"))) == [Stored(stored=0, duplicates=1)]
        assert backend.append_groups(keyed(("k", "b"))) == [Conflict(key="k")]

    def test_a_key_holds_for_the_hold_of_up_time_and_no_longer(self, backend: Backend) -> None:
        backend.append("a", key="k")
        backend.time.advance(3599.5)
        backend.prune()
        assert backend.append("a", key="k") == Stored(stored=1, first=1, again=True)
        backend.time.advance(1)  # the answer just now did not prolong it
        assert backend.append("b", key="k") == Stored(stored=1, first=2)
        assert backend.append("a", key="k") == Conflict(key="k")

    def test_neither_a_stopped_daemon_nor_a_clock_step_makes_a_key_old(self, backend: Backend) -> None:
        backend.append("a", key="k")
        backend.restart(away=86400)
        backend.time.wall += 86400
        backend.prune()
        backend.time.advance(3500)
        backend.prune()
        assert backend.append("a", key="k") == Stored(stored=1, first=1, again=True)

    def test_a_key_outlives_the_events_it_came_with(self, backend: Backend) -> None:
        """The log was full and cut; a retry must not bring the events back."""
        backend.limits = type(backend.limits)(max_events=2)
        backend.append("a", key="k")
        backend.append("b", "c")
        assert backend.logged() == ["b", "c"]
        assert backend.append("a", key="k") == Stored(stored=1, first=1, again=True)
        assert backend.logged() == ["b", "c"]

    def test_so_many_keys_are_kept_and_the_newest_of_them(self, backend: Backend) -> None:
        """Whoever sends keys without end would fill the disk within the hold."""
        backend.limits = evolve(backend.limits, max_keys=3)
        backend.restart()
        for number in range(5):
            backend.append("a", key=f"k{number}")
            backend.time.advance(1)
        backend.prune()
        for number in (4, 3, 2):
            assert backend.append("a", key=f"k{number}") == Stored(stored=1, first=number + 1, again=True)
        assert [backend.append("a", key=f"k{number}") for number in (1, 0)] == [
            Stored(stored=1, first=6),
            Stored(stored=1, first=7),
        ]

    @pytest.mark.parametrize("key", ["\0", "a\nb", "\U0001f600", "K" * 128, " "], ids=ascii)
    def test_any_text_is_a_key(self, backend: Backend, key: str) -> None:
        backend.append("a", key=key)
        assert backend.append("a", key=key + "x") == Stored(stored=1, first=2)
        backend.restart()
        assert backend.append("a", key=key) == Stored(stored=1, first=1, again=True)

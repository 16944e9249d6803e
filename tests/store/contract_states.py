"""Contract: what a sender's later message needs of an earlier one is kept, for a while."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.store_backends import Backend

from oneshotd.core.events import MAX_STATE_SECONDS, Count, End, Group, NewEvent, Start
from oneshotd.store.abilities import IBackup
from oneshotd.store.interface import Conflict, Stored

HOUR = 3600.0


def start(state: str = "s", *, key: str | None = None, seconds: float = HOUR) -> Group:
    """A beginning, as a dialect reports it."""
    return Group(
        events=[NewEvent("begun", key=key)],
        states=[Start(event=0, key=state, seconds=seconds)],
        keys_decide=True,
    )


def end(state: str = "s", *, key: str | None = None) -> Group:
    """An end; its value is that of the sender where no beginning is known."""
    return Group(events=[NewEvent("ended", "-1", key)], states=[End(event=0, key=state)], keys_decide=True)


def count(number: int, state: str = "c", *, key: str | None = None, seconds: float = HOUR) -> Group:
    """A count; where none is known it stands for two."""
    return Group(
        events=[NewEvent("counted", key=key)],
        states=[Count(event=0, key=state, count=number, unknown=2, seconds=seconds)],
        keys_decide=True,
    )


def values(backend: Backend, series: str = "ended") -> list[float]:
    """The values of the events of a series."""
    return [float(event.value or "nan") for event in backend.events() if event.series == series]


def about(seconds: float) -> object:
    """A store may give each commit a time of its own while the clock stands still."""
    return pytest.approx(seconds, abs=0.05)


class TestStates:
    """Beginnings and ends are paired, and counts of senders are counted."""

    def test_an_end_has_the_seconds_since_its_start(self, backend: Backend) -> None:
        backend.append_groups(start(), start("other"))
        backend.time.advance(12.5)
        assert backend.append_groups(end()) == [Stored(stored=1, first=3)]
        backend.time.advance(1)
        backend.append_groups(end("other"))
        assert values(backend) == [about(12.5), about(13.5)]

    def test_an_end_without_a_start_keeps_its_value(self, backend: Backend) -> None:
        backend.append_groups(end())
        backend.append_groups(start())
        backend.append_groups(end("other"))
        assert values(backend) == [-1, -1]

    def test_an_end_forgets_the_start(self, backend: Backend) -> None:
        backend.append_groups(start())
        backend.time.advance(2)
        backend.append_groups(end())
        backend.append_groups(end())
        assert values(backend) == [about(2), -1]

    def test_a_second_start_begins_again(self, backend: Backend) -> None:
        backend.append_groups(start())
        backend.time.advance(100)
        backend.append_groups(start())
        backend.time.advance(3)
        backend.append_groups(end())
        assert values(backend) == [about(3)]

    def test_groups_of_one_call_see_each_others_changes(self, backend: Backend) -> None:
        backend.append_groups(start(), end(), end(), count(3), count(7), start())
        backend.time.advance(1)
        backend.append_groups(end())
        assert values(backend) == [about(0), -1, about(1)]
        assert backend.logged().count("counted") == 2 + 4

    def test_so_do_calls_that_are_made_at_once(self, backend: Backend) -> None:
        """What comes in during a commit is stored together."""
        asked = [backend.store.append([each]) for each in (start(), end(), end(), count(3), count(4))]
        for deferred in asked:
            backend.get(deferred)
        assert values(backend) == [about(0), -1]
        assert backend.logged().count("counted") == 3

    @pytest.mark.parametrize("how", ["restart", "crash"])
    def test_states_outlive_the_daemon(self, backend: Backend, how: str) -> None:
        backend.append_groups(start(), count(3))
        backend.time.advance(5)
        getattr(backend, how)(away=86400)  # no state expires while no daemon runs
        backend.append_groups(end(), count(4))
        assert values(backend) == [about(86405)]
        assert backend.logged().count("counted") == 2 + 1

    @pytest.mark.parametrize("how", ["restart", "crash"])
    def test_so_does_their_end(self, backend: Backend, how: str) -> None:
        backend.append_groups(start())
        backend.append_groups(end())
        getattr(backend, how)()
        backend.append_groups(end())
        assert values(backend) == [about(0), -1]

    def test_a_repetition_changes_nothing(self, backend: Backend) -> None:
        """A sender that had no answer would move the beginning, or lose the end."""
        backend.append_groups(start(key="k1"))
        backend.time.advance(10)
        assert backend.append_groups(start(key="k1")) == [Stored(stored=0, duplicates=1)]
        backend.time.advance(10)
        backend.append_groups(end(key="k2"))
        assert backend.append_groups(end(key="k2")) == [Stored(stored=0, duplicates=1)]
        backend.append_groups(start(key="k3"))
        assert backend.append_groups(end(key="k2")) == [Stored(stored=0, duplicates=1)]
        backend.time.advance(5)
        backend.append_groups(end(key="k4"))
        assert values(backend) == [about(20), about(5)]

    def test_a_count_is_stored_as_often_as_it_has_grown(self, backend: Backend) -> None:
        assert backend.append_groups(count(3)) == [Stored(stored=2, first=1)]
        assert backend.append_groups(count(7)) == [Stored(stored=4, first=3)]
        assert backend.append_groups(count(7)) == [Stored(stored=0, duplicates=1)]
        assert backend.append_groups(count(5)) == [Stored(stored=0, duplicates=1)]
        assert backend.append_groups(count(8, key="k")) == [Stored(stored=1, first=7)]
        assert backend.append_groups(count(8, key="k")) == [Stored(stored=0, duplicates=1)]
        assert backend.logged() == ["counted"] * 7

    def test_a_state_expires_by_up_time(self, backend: Backend) -> None:
        backend.append_groups(start(seconds=60), count(3, seconds=60))
        backend.time.advance(59)
        backend.append_groups(count(4, seconds=60))
        backend.time.advance(2)
        backend.append_groups(end())
        backend.time.advance(57)
        backend.append_groups(count(5, seconds=60))  # the count before has prolonged it
        backend.time.advance(61)
        backend.prune()
        backend.append_groups(count(6))
        assert values(backend) == [-1]
        assert backend.logged().count("counted") == 2 + 1 + 1 + 2

    def test_a_step_of_the_clock_makes_no_state_old(self, backend: Backend) -> None:
        backend.append_groups(start(seconds=60), count(3, seconds=60))
        backend.time.wall += 3600
        backend.append("a")
        backend.time.advance(50)
        backend.prune()
        backend.append_groups(end(), count(4))
        assert values(backend) == [about(3650)]
        assert backend.logged().count("counted") == 2 + 1

    def test_no_state_is_kept_for_ever(self, backend: Backend) -> None:
        backend.append_groups(start(seconds=1e300))
        backend.time.advance(MAX_STATE_SECONDS + 1)
        backend.append_groups(end())
        assert values(backend) == [-1]

    def test_so_many_states_are_kept_and_the_newest_of_them(self, backend: Backend) -> None:
        """Clients that invent names would fill the disk."""
        backend.limits = evolve(backend.limits, max_states=3)
        backend.restart()
        for number in range(5):
            backend.append_groups(start(f"s{number}"))
            backend.time.advance(1)
        backend.prune()
        backend.append_groups(*[end(f"s{number}") for number in range(5)])
        assert values(backend) == [-1, -1, about(3), about(2), about(1)]

    def test_a_refused_group_leaves_the_state_unchanged(self, backend: Backend) -> None:
        backend.append_groups(Group(events=[NewEvent("a", key="k")]), count(3))
        refused = Group(
            events=[NewEvent("begun"), NewEvent("counted"), NewEvent("b", key="k")],
            states=[
                Start(event=0, key="s", seconds=HOUR),
                Count(event=1, key="c", count=9, unknown=1, seconds=HOUR),
            ],
        )
        assert backend.append_groups(refused, end(), count(4)) == [
            Conflict(key="k"),
            Stored(stored=1, first=4),
            Stored(stored=1, first=5),
        ]
        assert values(backend) == [-1]

    def test_a_repeated_group_leaves_the_state_unchanged(self, backend: Backend) -> None:
        begun = Group(events=[NewEvent("begun")], key="body", states=[Start(event=0, key="s", seconds=HOUR)])
        backend.append_groups(begun)
        backend.time.advance(4)
        assert backend.append_groups(begun) == [Stored(stored=1, first=1, again=True)]
        backend.append_groups(end())
        assert values(backend) == [about(4)]

    @pytest.mark.parametrize("state", ["\0", "\U0001f600", "K" * 128, " ", "oneshotd:0a"], ids=ascii)
    def test_any_text_is_a_state(self, backend: Backend, state: str) -> None:
        backend.append_groups(start(state))
        backend.time.advance(2)
        backend.append_groups(end(state + "x"), end(state))
        assert values(backend) == [-1, about(2)]

    def test_a_great_count_is_a_count(self, backend: Backend) -> None:
        """A number that a client has sent would make every append of the batch fail."""
        backend.append_groups(count(10**30))
        backend.append_groups(count(10**30))
        backend.append_groups(count(-(10**30)), count(10**40))
        assert backend.append("after") == Stored(stored=1, first=3)

    def test_states_take_no_room_in_the_log(self, backend: Backend) -> None:
        backend.append("begun")
        size = backend.stats().size
        backend.append_groups(start())
        assert backend.stats().size == 2 * size

    def test_a_backup_has_them(self, backend: Backend) -> None:
        if not IBackup.providedBy(backend.store):
            return
        backend.append_groups(start(), count(3))
        path = backend.backup_path()
        backend.backup(path)
        backend.open_backup(path)
        backend.time.advance(2)
        backend.append_groups(end(), count(4))
        assert values(backend) == [about(2)]
        assert backend.logged().count("counted") == 3

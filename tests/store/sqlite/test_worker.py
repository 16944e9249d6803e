"""When the disk fails: nothing is half done, nothing is said that is not so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.failing_database import Fault, FaultyBackend
from support.store_backends import group, keyed, series_of
from twisted.internet.defer import Deferred

from oneshotd.core.events import Group
from oneshotd.core.filters import Selection
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import IStore, Loss, Settled, Stored

FULL, IOERR = sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR

#: Faults that leave nothing behind; the last one has to be looked up.
UNDONE = [Fault("BEGIN"), Fault("BEGIN", FULL), Fault("COMMIT", FULL), Fault("COMMIT")]
IN_DOUBT = UNDONE[-1]

#: The commit is reported as failed, and is on disk.
DONE = Fault("COMMIT", after=True)

METHODS: dict[str, Callable[[Scene], Deferred[Any]]] = {
    "append": lambda scene: scene.store.append([group("c")]),
    "append with keys": lambda scene: scene.store.append([group("c", key="new"), keyed(("e", "d"))]),
    "reserve": lambda scene: scene.store.reserve(scene.backend.visit("newcomer"), 60.0, 10),
    "look": lambda scene: scene.store.look(scene.backend.visit("p"), 10),
    "deliver": lambda scene: scene.store.settle(scene.first, True, 3, [2], []),
    "deliver with a loss": lambda scene: scene.store.settle(
        scene.first, True, 3, [2], [], None, {"label_limit": [1]}
    ),
    "return": lambda scene: scene.store.settle(scene.first, False, 0, [], []),
    "revoke": lambda scene: scene.store.revoke(scene.second),
    "stats": lambda scene: scene.store.stats(),
    "recent": lambda scene: scene.store.recent(Selection(), None, 10),
    "prune": lambda scene: scene.store.prune(),
    "check": lambda scene: scene.store.check(),
}

#: Those that write nothing, so that nothing of theirs can be in doubt.
READING = ("look", "return", "stats", "recent")

ANSWERS: dict[str, object] = {
    "append": [Stored(stored=1, first=5)],
    "append with keys": [Stored(stored=1, first=5), Stored(stored=1, first=6)],
    "deliver": Settled.SETTLED,
    "deliver with a loss": Settled.SETTLED,
    "return": Settled.SETTLED,
    "revoke": Settled.SETTLED,
    "prune": [Loss(scraper="away", reason="away", events=4)],
    "check": None,
}


class Scene:
    """A store in the middle of its life: one delivery may be settled, one revoked, one scraper is away."""

    def __init__(self, backend: FaultyBackend) -> None:
        self.backend: FaultyBackend = backend
        self.store: IStore = backend.store
        backend.settle(backend.reserve("away"), delivered=False)
        backend.time.advance(3500)
        backend.append(("q", "1"), ("q", "2"), "a", key="k")
        first, second = backend.reserve("p", lease=999), backend.reserve("r", lease=999)
        backend.settle(second, newly_owed=[2], lost={"label_limit": [1]})
        assert first.token is not None and second.token is not None
        self.first: int = first.token
        self.second: int = second.token
        backend.append("b")
        backend.time.advance(200)

    def state(self) -> object:
        """All that can be seen of it."""
        stats = self.backend.stats()
        pending = [self.backend.look(scraper.name).pending for scraper in stats.scrapers]
        return stats, pending, self.backend.events()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FaultyBackend]:
    backend = FaultyBackend(tmp_path)
    yield backend
    backend.disk.mend()
    backend.finish()


@pytest.mark.parametrize("fault", UNDONE, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_what_failed_has_not_happened_and_can_be_asked_again(
    backend: FaultyBackend, name: str, fault: Fault
) -> None:
    scene = Scene(backend)
    before = scene.state()
    backend.disk.fail(fault)
    if fault is IN_DOUBT and name in READING:
        backend.get(METHODS[name](scene))
        return
    with pytest.raises(StoreUnavailable, match="disk"):
        backend.get(METHODS[name](scene))
    assert scene.state() == before
    answer = backend.get(METHODS[name](scene))
    assert answer == ANSWERS.get(name, answer)


@pytest.mark.parametrize("name", METHODS)
def test_what_came_through_in_spite_of_the_error_is_answered_as_done(
    backend: FaultyBackend, name: str
) -> None:
    scene = Scene(backend)
    backend.disk.fail(DONE)
    answer = backend.get(METHODS[name](scene))
    assert answer == ANSWERS.get(name, answer)
    assert len(backend.events()) == {"append": 5, "append with keys": 6}.get(name, 4)
    if name in ("deliver", "deliver with a loss", "return", "revoke"):
        assert backend.get(METHODS[name](scene)) is Settled.ALREADY
    if name == "reserve":
        assert backend.settle(answer) is Settled.SETTLED
    if name == "prune":
        assert backend.get(METHODS[name](scene)) == []


@pytest.mark.parametrize("name", ["deliver", "deliver with a loss", "revoke"])
@pytest.mark.parametrize("fault", [*UNDONE, DONE], ids=str)
def test_a_delivery_counts_once_whatever_became_of_its_commit(
    backend: FaultyBackend, name: str, fault: Fault
) -> None:
    scene = Scene(backend)
    backend.disk.fail(fault)
    for _ in range(2):
        try:
            backend.get(METHODS[name](scene))
        except StoreUnavailable:
            continue
        break
    backend.restart()
    scraper = "r" if name == "revoke" else "p"
    status = backend.status(scraper)
    assert status.answered == (0 if name == "revoke" else 1)
    assert status.lost == ({"label_limit": 1} if name == "deliver with a loss" else {})
    expected = [1, 2, 3, 4] if name == "revoke" else [2, 4]
    assert list(backend.reserve(scraper).pending.seqs) == expected


@pytest.mark.parametrize("fault", UNDONE, ids=str)
def test_a_delivery_that_could_not_be_settled_can_still_be_returned(
    backend: FaultyBackend, fault: Fault
) -> None:
    """The settlement failed, and then the scraper reset the connection."""
    scene = Scene(backend)
    backend.disk.fail(fault)
    with pytest.raises(StoreUnavailable):
        backend.get(METHODS["deliver"](scene))
    assert backend.get(METHODS["return"](scene)) is Settled.SETTLED
    backend.restart()
    assert list(backend.reserve("p").pending.seqs) == [1, 2, 3, 4]


@pytest.mark.parametrize("fault", UNDONE, ids=str)
@pytest.mark.parametrize(("name", "scraper"), [("deliver", "p"), ("return", "p"), ("revoke", "r")])
def test_what_was_asked_of_a_delivery_is_waited_for_beyond_its_lease(
    backend: FaultyBackend, name: str, scraper: str, fault: Fault
) -> None:
    """The scraper got the events; the disk was full for hours: they must not go out again."""
    scene = Scene(backend)
    if fault is IN_DOUBT and name in READING:
        return
    backend.disk.fail(fault)
    with pytest.raises(StoreUnavailable):
        backend.get(METHODS[name](scene))
    for _ in range(3):
        backend.time.advance(1000)
        backend.prune()
        assert backend.reserve(scraper).busy == "in flight"
    assert backend.get(METHODS[name](scene)) is Settled.SETTLED


def test_a_settlement_that_waits_its_turn_is_not_overtaken_by_the_end_of_its_lease(
    backend: FaultyBackend,
) -> None:
    """The disk was slow: the next scrape is first in the queue, but must not get the same events."""
    scene = Scene(backend)
    backend.disk.stop()
    slow = backend.store.check()
    backend.disk.await_stop()
    backend.time.advance(1000)
    reserved = backend.store.reserve(backend.visit("p"), 60.0, 10)
    settled = METHODS["deliver"](scene)
    backend.disk.go_on()
    backend.get(slow)
    assert backend.get(reserved).busy == "in flight"
    assert backend.get(settled) is Settled.SETTLED


@pytest.mark.parametrize("fault", UNDONE[:3], ids=str)
def test_all_that_was_asked_together_fails_together(backend: FaultyBackend, fault: Fault) -> None:
    backend.append("a")
    backend.disk.stop()
    asked = [backend.store.append([group("b")])]
    backend.disk.await_stop()
    asked += [backend.store.append([group("c", key="k"), group("d")]) for _ in range(3)]
    backend.disk.fail(fault, times=2)
    backend.disk.go_on()
    for answer in asked:
        with pytest.raises(StoreUnavailable):
            backend.get(answer)
    assert backend.logged() == ["a"]
    assert backend.append("c", key="k") == Stored(stored=1, first=2)


def test_all_that_waits_goes_into_one_transaction_in_the_order_of_asking(backend: FaultyBackend) -> None:
    """One write to disk for many events, or the daemon would be as slow as the disk."""
    assert backend.store
    backend.disk.stop()
    asked = [backend.store.append([group("s0")])]
    backend.disk.await_stop()
    asked += [backend.store.append([group(f"s{number}")]) for number in range(1, 300)]
    reserved = backend.store.reserve(backend.visit("p"), 60.0, 1000)
    asked.append(backend.store.append([group("s300")]))
    backend.disk.statements.clear()
    backend.disk.go_on()
    answers = [backend.get(answer) for answer in asked]
    assert answers == [[Stored(stored=1, first=number)] for number in range(1, 302)]
    assert backend.logged() == [f"s{number}" for number in range(301)]
    assert len(backend.get(reserved).pending) == 300
    writing = [text for text in backend.disk.statements if text.startswith(("COMMIT", "INSERT INTO segment"))]
    assert writing.count("COMMIT") == 3  # the first, all the others, and the reading of the log
    assert len(writing) == 3 + 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_wrong_with_one_request_harms_no_other(backend: FaultyBackend, place: int) -> None:
    """Text without a UTF-8 form never passes the doors; if it did, it alone would be refused."""
    good = group("a", key="k")
    groups: list[Group] = [good, good, good]
    groups[place] = group("\ud800")
    assert backend.store
    backend.disk.stop()
    first = backend.store.append([group("first")])
    backend.disk.await_stop()
    asked = [backend.store.append([one]) for one in groups]
    reserved = backend.store.reserve(backend.visit("p"), 60.0, 10)
    backend.disk.go_on()
    assert backend.get(first) == [Stored(stored=1, first=1)]
    for number, answer in enumerate(asked):
        if number == place:
            with pytest.raises(UnicodeEncodeError):
                backend.get(answer)
        else:
            [stored] = backend.get(answer)
            assert isinstance(stored, Stored) and stored.first == 2
    assert series_of(backend.get(reserved)) == ["first", "a"]
    assert backend.logged() == ["first", "a"]


def test_an_answer_that_nobody_waits_for_any_more_is_left_out(backend: FaultyBackend) -> None:
    assert backend.store
    backend.disk.stop()
    given_up = backend.store.append([group("a")])
    given_up.addErrback(lambda failure: None)
    given_up.cancel()
    backend.disk.go_on()
    assert backend.append("b") == Stored(stored=1, first=2)
    assert backend.logged() == ["a", "b"]


def test_commits_are_timed_and_readings_are_not(backend: FaultyBackend) -> None:
    backend.append("a")
    backend.stats()
    backend.look("p")
    assert len(backend.commits) == 1
    backend.disk.fail(Fault("COMMIT", FULL))
    with pytest.raises(StoreUnavailable):
        backend.append("b")
    assert len(backend.commits) == 1


def test_a_full_disk_is_no_reason_to_forget_who_was_here(backend: FaultyBackend) -> None:
    """Appends fail, scrapes go on; when there is room again, no scraper counts as away."""
    backend.append("a")
    backend.settle(backend.reserve("p"), delivered=False)
    for _ in range(10):
        backend.time.advance(600)
        backend.settle(backend.reserve("p"), delivered=False)
        backend.disk.fail(Fault("INSERT INTO segment", FULL))
        with pytest.raises(StoreUnavailable):
            backend.append("b")
    assert backend.prune() == []
    assert backend.take("p") == ["a"]


def test_who_notes_the_commits_may_stumble(tmp_path: Path) -> None:
    """The answers go out all the same."""
    backend = FaultyBackend(tmp_path)
    backend.commits = _Stumbling()
    assert backend.append("a") == Stored(stored=1, first=1)
    backend.finish()


class _Stumbling(list[float]):
    def append(self, seconds: float, /) -> None:
        raise RuntimeError("no room for another figure")

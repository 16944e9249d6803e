"""Contract: one delivery at a time for each scraper, and every way in which it can end."""

from __future__ import annotations

from functools import partial

import pytest
from support.store_backends import LEASE, Backend, series_of

from oneshotd.core.events import Pending
from oneshotd.core.identity import Visit
from oneshotd.store.interface import Reservation, Sent, Settled

OK, ALREADY, SUPERSEDED = Settled.SETTLED, Settled.ALREADY, Settled.SUPERSEDED

#: What is done to a reservation (d: settle delivered, r: settle returned, v: revoke, f: final)
#: with the answers; then whether the scraper may reserve again, and whether the events come again.
ORDERS: list[tuple[str, list[Settled], bool, bool]] = [
    ("", [], False, True),
    ("d", [OK], False, False),
    ("r", [OK], True, True),
    ("df", [OK], True, False),
    ("dv", [OK, OK], True, True),
    ("dd", [OK, ALREADY], False, False),
    ("dr", [OK, ALREADY], False, False),
    ("rr", [OK, ALREADY], True, True),
    ("rd", [OK, ALREADY], True, True),
    ("rv", [OK, ALREADY], True, True),
    ("rf", [OK], True, True),
    ("dvv", [OK, OK, ALREADY], True, True),
    ("dvd", [OK, OK, ALREADY], True, True),
    ("dvr", [OK, OK, ALREADY], True, True),
    ("dvf", [OK, OK], True, True),
    ("dfv", [OK, ALREADY], True, False),
    ("dfd", [OK, ALREADY], True, False),
    ("dfr", [OK, ALREADY], True, False),
    ("dff", [OK], True, False),
    ("f", [], False, True),
    ("fd", [OK], False, False),
    ("fdf", [OK], True, False),
]


class TestLeases:
    """While a response is on its way, nobody else gets the same events, and none are skipped."""

    @pytest.mark.parametrize("asked_at_once", [False, True])
    @pytest.mark.parametrize(("steps", "answers", "free", "again"), ORDERS)
    def test_every_order_of_endings(
        self,
        backend: Backend,
        steps: str,
        answers: list[Settled],
        free: bool,
        again: bool,
        asked_at_once: bool,
    ) -> None:
        backend.append("a", "b")
        reservation = backend.reserve("p")
        token = reservation.token
        assert token is not None and series_of(reservation) == ["a", "b"]
        asked, released = [], []
        for step in steps:
            if step == "f":
                released.append(backend.store.release(token))
                if not asked_at_once:
                    backend.get(released[-1])
            else:
                asked.append(
                    backend.store.revoke(token)
                    if step == "v"
                    else backend.store.settle(token, step == "d", 2, (), ())
                )
                if not asked_at_once:
                    assert backend.get(asked[-1]) is answers[len(asked) - 1]
        assert [backend.get(deferred) for deferred in asked if asked_at_once] in ([], answers)
        for deferred in released if asked_at_once else ():
            backend.get(deferred)
        second = backend.reserve("p")
        assert second.busy == (None if free else "in flight")
        assert series_of(second) == (["a", "b"] if free and again else [])
        backend.crash()
        assert series_of(backend.reserve("p")) == (["a", "b"] if again else [])

    def test_a_busy_answer_has_nothing_to_settle(self, backend: Backend) -> None:
        backend.append("a")
        reservation = backend.reserve("p")
        assert reservation.now == backend.time.wall * 1000
        assert backend.reserve("p") == Reservation(token=None, pending=Pending(), busy="in flight")
        assert backend.look("p").now == backend.time.wall * 1000

    def test_a_delivery_to_one_scraper_does_not_keep_others_waiting(self, backend: Backend) -> None:
        backend.append("a")
        tokens = {backend.reserve(name).token for name in ("p", "q", "192.0.2.7 curl")}
        assert None not in tokens and len(tokens) == 3

    @pytest.mark.parametrize("method", ["settle", "revoke"])
    def test_a_token_that_was_never_given_settles_nothing(self, backend: Backend, method: str) -> None:
        backend.append("a")
        backend.reserve("p")
        if method == "settle":
            assert backend.get(backend.store.settle(4711, True, 1, (), ())) is SUPERSEDED
        else:
            assert backend.get(backend.store.revoke(4711)) is SUPERSEDED
        assert backend.status("p").cursor == 0

    def test_a_reservation_that_nobody_settles_lapses_with_its_lease(self, backend: Backend) -> None:
        backend.append("a")
        lost = backend.reserve("p")
        backend.time.monotonic += LEASE - 0.125
        assert backend.reserve("p").busy == "in flight"
        backend.time.monotonic += 0.125
        second = backend.reserve("p")
        assert series_of(second) == ["a"] and second.token != lost.token
        assert backend.settle(lost) is SUPERSEDED
        assert backend.get(backend.store.revoke(lost.token or 0)) is SUPERSEDED
        assert backend.status("p").cursor == 0
        assert backend.settle(second) is OK

    def test_a_delivery_that_nobody_ends_is_final_with_its_lease(self, backend: Backend) -> None:
        backend.append("a")
        first = backend.reserve("p")
        backend.settle(first)
        backend.time.monotonic += LEASE
        backend.append("b")
        second = backend.reserve("p")
        assert series_of(second) == ["b"]
        assert backend.revoke(first) is SUPERSEDED
        assert backend.settle(second) is OK
        backend.release(second)
        assert backend.take("p") == []

    def test_the_settlement_of_a_response_that_changes_nothing_ends_the_lease(self, backend: Backend) -> None:
        first = backend.reserve("p")
        final = Sent(scraper="p", is_final=True)
        settle = partial(backend.store.settle, first.token or 0, True, 0, (), (), first.history, sent=final)
        assert backend.get(settle()) is OK
        assert backend.get(settle()) is ALREADY
        backend.append("a")
        second = backend.reserve("p")
        assert series_of(second) == ["a"]
        assert backend.status("p").answered == 1
        assert backend.revoke(first) is ALREADY
        backend.release(first)
        assert backend.reserve("p").busy == "in flight"
        assert backend.settle(second) is OK

    def test_the_wall_clock_ends_no_lease(self, backend: Backend) -> None:
        backend.reserve("p")
        backend.time.wall += 86400
        assert backend.reserve("p").busy == "in flight"

    def test_ending_one_delivery_late_does_not_end_the_next(self, backend: Backend) -> None:
        backend.append("a")
        first = backend.reserve("p")
        backend.settle(first)
        backend.release(first)
        second = backend.reserve("p")
        backend.release(first)
        assert backend.revoke(first) is ALREADY
        assert backend.settle(first, delivered=False) is ALREADY
        assert backend.reserve("p").busy == "in flight"
        assert backend.settle(second) is OK

    def test_after_a_kill_what_was_only_reserved_comes_again_and_what_was_settled_does_not(
        self, backend: Backend
    ) -> None:
        backend.append("a")
        backend.settle(backend.reserve("settled"))  # not even final
        backend.reserve("reserved")
        backend.settle(backend.reserve("returned"), delivered=False)
        taken_back = backend.reserve("revoked")
        backend.settle(taken_back)
        backend.revoke(taken_back)
        backend.crash()
        got = {name: backend.take(name) for name in ("settled", "reserved", "returned", "revoked")}
        assert got == {"settled": [], "reserved": ["a"], "returned": ["a"], "revoked": ["a"]}

    def test_a_look_is_not_kept_waiting(self, backend: Backend) -> None:
        backend.append("a")
        backend.reserve("p")
        look = backend.get(backend.store.look(Visit(name="p", named=True), 10))
        assert look.token is None and look.busy is None and series_of(look) == ["a"]

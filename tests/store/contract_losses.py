"""Contract: a settlement counts events that its scraper will never get, by reason."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.store_backends import LEASE, Backend, series_of

from oneshotd.store.interface import Sent, Settled

#: One series with values: one sample a scrape, the rest is owed.
QUEUE = [("q", "1"), ("q", "2"), ("q", "3"), ("q", "4")]


def lost(backend: Backend, name: str = "p") -> Mapping[str, int]:
    """What is counted as lost for a scraper; the scraper's figures and the stats agree."""
    stats = backend.stats()
    mine = {reason: events for (scraper, reason), events in stats.lost.items() if scraper == name}
    assert backend.status(name).lost == mine
    return mine


class TestLosses:
    """What a scraper cannot take is passed over once, durably, and shown under its reason."""

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_events_of_a_settlement_are_lost_for_their_reasons(self, backend: Backend, end: str) -> None:
        backend.append(*"abcd")
        reservation = backend.reserve("p")
        lost_ones = {"label_limit": [1, 3], "body_size_limit": [2], "sample_limit": []}
        assert backend.settle(reservation, lost=lost_ones) is Settled.SETTLED
        getattr(backend, end)()
        assert lost(backend) == {"label_limit": 2, "body_size_limit": 1}
        assert backend.take("p") == []
        assert backend.take("q") == [*"abcd"]
        assert lost(backend, "q") == {}
        assert backend.logged() == [*"abcd"]

    def test_losses_of_a_reason_add_up(self, backend: Backend) -> None:
        for series in "abc":
            backend.append(series)
            reservation = backend.reserve("p")
            backend.settle(reservation, lost={"clock": reservation.pending.seqs})
            backend.release(reservation)
        assert lost(backend) == {"clock": 3}

    def test_owed_events_can_be_lost(self, backend: Backend) -> None:
        backend.append(*QUEUE, "a")
        backend.scrape("p")
        reservation = backend.reserve("p")
        backend.settle(reservation, went_out=[2], lost={"clock": [3]})
        backend.release(reservation)
        assert (backend.status("p").owed, lost(backend)) == (1, {"clock": 1})
        assert list(backend.reserve("p").pending.seqs) == [4]

    def test_a_returned_delivery_loses_nothing(self, backend: Backend) -> None:
        backend.append("a", "b")
        backend.settle(backend.reserve("p"), delivered=False, lost={"label_limit": [1]})
        assert lost(backend) == {}
        assert backend.take("p") == ["a", "b"]

    @pytest.mark.parametrize("killed", [False, True])
    def test_a_revoked_delivery_takes_its_losses_back(self, backend: Backend, killed: bool) -> None:
        """The events are pending again, so they must not be counted as lost."""
        backend.append(*QUEUE, "a")
        backend.scrape("p")
        backend.append("b", "c")
        first = backend.reserve("p")
        backend.settle(first, went_out=[2], newly_owed=[7], lost={"clock": [4], "label_limit": [6]})
        assert lost(backend) == {"clock": 1, "label_limit": 1}
        assert backend.revoke(first) is Settled.SETTLED
        if killed:
            backend.crash()
        assert lost(backend) == {}
        assert backend.reserve("p").pending == first.pending

    def test_a_revocation_takes_back_its_own_losses_only(self, backend: Backend) -> None:
        for series in "ab":
            backend.append(series)
            reservation = backend.reserve("p")
            backend.settle(reservation, lost={"clock": reservation.pending.seqs})
            (backend.release if series == "a" else backend.revoke)(reservation)
        assert lost(backend) == {"clock": 1}
        assert backend.take("p") == ["b"]

    def test_a_settlement_counts_once(self, backend: Backend) -> None:
        backend.append("a")
        reservation = backend.reserve("p")
        backend.settle(reservation, lost={"label_limit": [1]})
        assert backend.settle(reservation, lost={"label_limit": [1]}) is Settled.ALREADY
        backend.release(reservation)
        assert backend.revoke(reservation) is Settled.ALREADY
        assert lost(backend) == {"label_limit": 1}

    def test_upkeep_does_not_report_what_the_caller_knows(self, backend: Backend) -> None:
        backend.append("a")
        reservation = backend.reserve("p")
        backend.settle(reservation, lost={"label_limit": [1]})
        backend.release(reservation)
        assert backend.prune() == []
        assert lost(backend) == {"label_limit": 1}

    def test_a_look_shows_the_events_and_counts_nothing(self, backend: Backend) -> None:
        backend.append("a")
        backend.take("p")
        backend.append("b")
        assert series_of(backend.look("p")) == ["b"]
        assert lost(backend) == {}

    def test_a_revocation_after_the_next_delivery_counts_its_events_as_lost(self, backend: Backend) -> None:
        """The scraper has not read them and will never get them, and nothing would say so."""
        backend.append("a", "b")
        first = backend.reserve("p")
        backend.settle(first)
        backend.time.advance(LEASE)
        backend.append("c")
        second = backend.reserve("p")
        assert first.token is not None and series_of(second) == ["c"]
        late = backend.get(backend.store.revoke(first.token, Sent(scraper="p", events=2)))
        assert late is Settled.SUPERSEDED
        backend.settle(second)
        assert lost(backend) == {"late": 2}
        backend.restart()
        assert lost(backend) == {"late": 2}

    def test_a_delivery_that_was_overtaken_loses_nothing(self, backend: Backend) -> None:
        """Its events go out twice, and would be counted as lost besides."""
        backend.append("a")
        first = backend.reserve("p")
        backend.time.advance(LEASE)
        second = backend.reserve("p")
        assert first.token is not None and series_of(second) == ["a"]
        sent = Sent(scraper="p", events=1)
        assert backend.get(backend.store.settle(first.token, True, 1, (), (), None, {}, sent)) is (
            Settled.SUPERSEDED
        )
        backend.settle(second)
        assert lost(backend) == {}

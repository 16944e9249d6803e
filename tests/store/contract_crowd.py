"""Contract: which scrapers make room for a new one where as many are known as there can be."""

from __future__ import annotations

from support.store_backends import Backend

from oneshotd.core.identity import MAX_SCRAPERS
from oneshotd.store.interface import Settled


class TestCrowd:
    """A crowd of one-off visitors and a scraper with a name."""

    def test_visitors_make_room_for_a_named_scraper(self, backend: Backend) -> None:
        """200 clients that came once would shut a new Prometheus out for as long as events are kept."""
        backend.append("a")
        for number in range(MAX_SCRAPERS):
            backend.take(f"192.0.2.7 visitor{number:03}")
            backend.time.advance(0.001)
        backend.take("192.0.2.7 visitor000")  # the longest unseen is another one now
        assert backend.reserve("192.0.2.7 visitor200").busy == "too many"
        assert backend.take("ann") == ["a"]
        assert len(backend.names()) == MAX_SCRAPERS
        assert "192.0.2.7 visitor001" not in backend.names()
        assert {"ann", "192.0.2.7 visitor000", "192.0.2.7 visitor002"} <= backend.names()
        backend.take("bob")
        backend.crash()
        assert "192.0.2.7 visitor002" not in backend.names()
        assert {"ann", "bob"} <= backend.names()
        backend.append("b")
        assert backend.take("ann") == ["b"]

    def test_live_scrapers_and_deliveries_under_way_do_not_make_room(self, backend: Backend) -> None:
        for number in range(MAX_SCRAPERS - 3):
            backend.take(f"named{number}")
        for _ in range(3):
            backend.take("192.0.2.7 Prometheus")  # unnamed and live
        under_way = backend.reserve("192.0.2.7 under-way")
        backend.time.advance(1)
        backend.take("192.0.2.7 visitor")
        backend.append("a")
        assert backend.take("ann") == ["a"]
        assert "192.0.2.7 visitor" not in backend.names()
        assert backend.reserve("bob").busy == "too many"
        backend.settle(under_way, delivered=True)
        backend.release(under_way)
        assert backend.take("bob") == ["a"]
        assert backend.reserve("eve").busy == "too many"
        assert backend.take("192.0.2.7 Prometheus") == ["a"]

    def test_a_settlement_that_comes_after_its_visitor_has_made_room(self, backend: Backend) -> None:
        """Its lease had ended; the answer is the one for a delivery that nobody knows any more."""
        late = backend.reserve("192.0.2.7 late", lease=10.0)
        for number in range(MAX_SCRAPERS - 1):
            backend.take(f"named{number}")
        backend.time.advance(10)
        assert backend.reserve("ann").token is not None
        assert backend.settle(late, delivered=True) is Settled.SUPERSEDED

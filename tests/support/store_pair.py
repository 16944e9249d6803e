"""Two PostgreSQL stores on one database, as two daemons have them."""

from __future__ import annotations

from support.postgresql_backend import PostgreSQLBackend
from support.store_backends import LEASE, series_of

from oneshotd.core.identity import Visit
from oneshotd.store.interface import NOTHING_SENT, IStore, Reservation, Sent, Settled
from oneshotd.store.postgresql.store import PostgreSQLStore

VISIT = Visit(name="p", named=True)


class Pair:
    """Two stores on one database, and the words of the backend for each."""

    def __init__(self, backend: PostgreSQLBackend) -> None:
        self.backend = backend
        self.ann: IStore = backend.store
        self.bob: PostgreSQLStore = backend.another("bob")
        backend.opened_besides(self.bob)

    def take(self, store: IStore, name: str = "p") -> list[str]:
        """A whole scrape at one of them."""
        get = self.backend.get
        got = get(store.reserve(Visit(name=name, named=True), LEASE, 1000))
        assert got.token is not None
        assert get(store.settle(got.token, True, got.pending.end, (), ())) is Settled.SETTLED
        get(store.release(got.token))
        return series_of(got)

    def reserved(self, store: IStore, visit: Visit = VISIT) -> Reservation:
        """A reservation that is granted."""
        got = self.backend.get(store.reserve(visit, LEASE, 1000))
        assert got.token is not None, got.busy
        return got

    def beat(self, *stores: IStore) -> None:
        """What each of them does every two seconds."""
        for store in stores:
            assert isinstance(store, PostgreSQLStore)
            self.backend.get(store._others.submit(lambda link, in_doubt, store=store: store._idle(link)))

    def settle(
        self, store: IStore, got: Reservation, delivered: bool = True, sent: Sent = NOTHING_SENT
    ) -> Settled:
        """Settle a reservation of which all goes out, or nothing."""
        assert got.token is not None
        end = got.pending.end if delivered else 0
        return self.backend.get(store.settle(got.token, delivered, end, (), (), None, {}, sent))

    def revoke(self, store: IStore, got: Reservation, sent: Sent = NOTHING_SENT) -> Settled:
        """Revoke a delivery."""
        assert got.token is not None
        return self.backend.get(store.revoke(got.token, sent))

    def release(self, store: IStore, got: Reservation) -> None:
        """Make a delivery final."""
        assert got.token is not None
        self.backend.get(store.release(got.token))

"""Open a store for copying, by its kind; it imports the back ends that are used, and no other."""

from __future__ import annotations

from oneshotd.store.transfer import IExport, IImport


def open_export(kind: str, place: str) -> IExport:
    """Open a store that is read.

    :param kind: "sqlite" or "postgresql".
    :param place: as of `factory.open_store`.
    :raises StoreInUse: a daemon uses it.
    :raises StoreRefused: there is no store, or it cannot be used.
    :raises StoreUnavailable: there is no connection to the database.
    """
    if kind == "sqlite":
        from oneshotd.store.sqlite.transfer import SQLiteExport

        return SQLiteExport(place)
    from oneshotd.store.postgresql.transfer import PostgreSQLExport

    return PostgreSQLExport(place)


def open_import(kind: str, place: str) -> IImport:
    """Open a store that is filled, or create it.

    :raises StoreRefused: it is not empty; and as `open_export`.
    """
    if kind == "sqlite":
        from oneshotd.store.sqlite.transfer import SQLiteImport

        return SQLiteImport(place)
    from oneshotd.store.postgresql.transfer import PostgreSQLImport

    return PostgreSQLImport(place)

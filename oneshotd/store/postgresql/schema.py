"""Create the tables, upgrade them, or refuse the database with the reason."""

from __future__ import annotations

from importlib.resources import files

from oneshotd.errors import StoreRefused
from oneshotd.store.postgresql.link import LAYOUT, Link

#: The newest layout, which is the number of scripts in `schema/`.
SCHEMA_VERSION = 1

_HAS_TABLE = "SELECT to_regclass('state') IS NOT NULL"
_HAS_ANY = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema())"


def prepare(link: Link) -> None:
    """Create the tables if the schema is empty; several daemons may start at once.

    :raises StoreRefused: it has other tables, or a layout that this version does not know.
    """
    with link.transaction():
        link.execute(f"SELECT pg_advisory_xact_lock{LAYOUT}")
        if not link.one(_HAS_TABLE)[0]:
            if link.one(_HAS_ANY)[0]:
                raise StoreRefused("the database has tables, but not those of oneshotd: left alone")
            _create(link)
            return
        version = link.one("SELECT layout FROM state")[0]
        if version > SCHEMA_VERSION:
            raise StoreRefused(
                f"the database has layout {version}, this oneshotd knows {SCHEMA_VERSION}: it was written by"
                " a newer version"
            )


def _create(link: Link) -> None:
    for number in range(1, SCHEMA_VERSION + 1):
        script = (files("oneshotd.store.postgresql") / "schema" / f"{number}.sql").read_text("utf-8")
        link.script([(script, None)])
    link.execute(
        "INSERT INTO state (id, layout, pruned, pruned_size, at, up, touched)"
        f" VALUES (1, %s, 0, 0, 0, 0, {link.now})",
        (SCHEMA_VERSION,),
    )

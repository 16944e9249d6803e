"""Create the tables, upgrade them, or refuse the database with the reason.

`schema/N.sql` makes layout N of N - 1; all that are missing run in one transaction, under an advisory lock,
as several daemons may start at once. A daemon of an older layout may be at work meanwhile, and go on: a
script may add tables, indexes, and columns that are nullable or have a default. One that does more than that
ends with ``UPDATE state SET oldest = N``: daemons of older layouts then store nothing more, and do not start.
"""

from __future__ import annotations

from importlib.resources import files

from attrs import frozen
from twisted.logger import Logger

from oneshotd.errors import StoreRefused
from oneshotd.store.postgresql.link import LAYOUT, Link

_log = Logger()

_FOLDER = files("oneshotd.store.postgresql") / "schema"

_ENCODING = "SELECT current_setting('server_encoding')"
_HAS_TABLE = "SELECT to_regclass('state') IS NOT NULL"
_HAS_ANY = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema())"
_FIRST = """
INSERT INTO state (id, layout, oldest, pruned, pruned_size, at, up, touched)
VALUES (1, 1, 1, 0, 0, 0, 0, {now})"""
_READ = "SELECT layout, oldest FROM state WHERE id = 1"
# Sessions of daemons that may not go on must register again, which is refused.
_END_SESSIONS = "UPDATE daemon SET epoch = epoch + 1"


@frozen
class Schema:
    """The layouts that a daemon knows.

    :param scripts: the first one makes layout 1.
    """

    scripts: tuple[str, ...]

    @property
    def layout(self) -> int:
        """The newest one."""
        return len(self.scripts)

    def prepare(self, link: Link) -> None:
        """Create the tables if there are none, or upgrade them.

        :raises StoreRefused: the database has other tables, a layout for newer daemons only, or an encoding
            that does not have every character.
        """
        with link.transaction():
            link.execute(f"SELECT pg_advisory_xact_lock{LAYOUT}")
            [encoding] = link.one(_ENCODING)
            if encoding != "UTF8":
                raise StoreRefused(
                    f"the database has the encoding {encoding}: create one with ENCODING 'UTF8'"
                )
            if not link.one(_HAS_TABLE)[0]:
                if link.one(_HAS_ANY)[0]:
                    raise StoreRefused("the database has tables, but not those of oneshotd: left alone")
                link.script([(self.scripts[0], None)])
                link.execute(_FIRST.format(now=link.now))
            layout, oldest = link.one(_READ)
            refusal = self._refusal(layout, oldest)
            if refusal is not None:
                raise StoreRefused(refusal)
            for script in self.scripts[layout:]:
                link.script([(script, None)])
            if layout < self.layout:
                link.execute("UPDATE state SET layout = %s WHERE id = 1", (self.layout,))
                if link.one(_READ)[1] > oldest:
                    link.execute(_END_SESSIONS)
        if layout < self.layout:
            _log.info("the database has layout {layout} now, not {old}", layout=self.layout, old=layout)

    def check(self, link: Link) -> None:
        """Check that this daemon may still work on the database; close the connection if not.

        :raises StoreRefused: a newer daemon has upgraded it to a layout for newer ones only.
        """
        refusal = self._refusal(*link.one(_READ))
        if refusal is not None:
            link.close()
            raise StoreRefused(refusal)

    def _refusal(self, layout: int, oldest: int) -> str | None:
        if oldest <= self.layout:
            return None
        return (
            f"the database has layout {layout}, this oneshotd knows {self.layout}, and the oldest that may"
            f" use it knows {oldest}: it was upgraded by a newer version"
        )


def shipped() -> Schema:
    """Return the schema of this version."""
    numbers = sorted(int(each.name[:-4]) for each in _FOLDER.iterdir() if each.name.endswith(".sql"))
    assert numbers == list(range(1, len(numbers) + 1))
    return Schema(tuple((_FOLDER / f"{number}.sql").read_text("utf-8") for number in numbers))


def prepare(link: Link) -> None:
    """Create or upgrade the tables of this version; see `Schema.prepare`."""
    shipped().prepare(link)

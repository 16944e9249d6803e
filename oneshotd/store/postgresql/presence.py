"""Which daemons are alive, by their heartbeats, and what they have left behind.

A daemon has a new id after each start, which is in the leases that it holds, and a name that stays the
same. It ends the leases of an earlier start of its own, once that has not been heard of for
`SILENT_AFTER` seconds of up-time. If that goes on to be heard of, another daemon has the same name by
mistake: its leases are left alone.
"""

from __future__ import annotations

from attrs import define
from twisted.logger import Logger

from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.scrapers import present

#: Seconds without a heartbeat after which a daemon counts as gone. They come every two seconds.
SILENT_AFTER = 10.0

#: Heartbeats after this daemon's start that show that another one is alive. One may be the last statement
#: of a session whose daemon was gone.
SIGNS_OF_LIFE = 2

_REGISTER = """
INSERT INTO daemon (id, name, epoch, batch, batch_first, up) SELECT %s, %s, 0, 0, 0, up FROM ({present}) p
ON CONFLICT (id) DO NOTHING"""
_NAMESAKES = "SELECT id, up FROM daemon WHERE name = %s AND id <> %s"
_HEARD_OF = "SELECT up FROM daemon WHERE id = %s"

# What their last connections still do grants no lease; see `sessions.py`.
_END_SESSIONS = "UPDATE daemon SET session = session + 1 WHERE id = ANY(%s)"
_LEFT = "SELECT id FROM scraper WHERE holder = ANY(%s) AND state <> 0 ORDER BY id FOR UPDATE"
# Without its token, a late settlement or revocation finds that it is too late.
_END = """
UPDATE scraper SET final = CASE WHEN state = 2 THEN token ELSE final END, state = 0, token = NULL
WHERE id = %s"""
_FINAL = "DELETE FROM owed WHERE scraper = %s AND gone IS NOT NULL"


@define
class _Namesake:
    """An earlier start of this daemon, or another daemon of its name.

    :ivar up: when it was last heard of.
    """

    up: int
    signs: int = 0


class Presence:
    """One daemon among those that share the database.

    :param daemon: its id.
    :param name: None: the leases that it leaves behind lapse.
    """

    _log = Logger()

    def __init__(self, daemon: str, name: str | None) -> None:
        self._id = daemon
        self._name = name
        self._namesakes: dict[str, _Namesake] = {}

    def begin(self, link: Link) -> None:
        """Register this daemon, and look for what it has left behind."""
        if self._name is None:
            return
        with link.transaction():
            link.execute(_REGISTER.format(present=link.present), (self._id, self._name))
        self._namesakes = {daemon: _Namesake(up) for daemon, up in self._read(link).items()}
        self.watch(link)

    def watch(self, link: Link) -> None:
        """End the leases of an earlier start that has become silent; called at intervals."""
        if not self._namesakes:
            return
        heard, now = self._read(link), present(link).up
        gone = []
        for daemon, namesake in list(self._namesakes.items()):
            up = heard.get(daemon)
            if up is None or now - up >= SILENT_AFTER * 1000:
                gone.append(daemon)
            elif up > namesake.up:
                namesake.up, namesake.signs = up, namesake.signs + 1
                if namesake.signs >= SIGNS_OF_LIFE:
                    del self._namesakes[daemon]
                    self._log.warn(
                        "another daemon has the name {name}, too: after a crash the scrapers of both wait for"
                        " their leases; set daemon-name",
                        name=self._name,
                    )
        if gone and (count := self._end_leases(link, gone)):
            self._log.info("ended {count} deliveries that this daemon had left behind", count=count)
        for daemon in gone:
            del self._namesakes[daemon]

    def end(self, link: Link) -> None:
        """End the leases of this daemon, which settles no more."""
        self._end_leases(link, [self._id])

    def _read(self, link: Link) -> dict[str, int]:
        return dict(link.execute(_NAMESAKES, (self._name, self._id)).fetchall())

    @staticmethod
    def _end_leases(link: Link, daemons: list[str]) -> int:
        with link.transaction():
            link.execute(_END_SESSIONS, (daemons,))
            left = link.execute(_LEFT, (daemons,)).fetchall()
            for (number,) in left:
                link.execute(_FINAL, (number,))
                link.execute(_END, (number,))
        return len(left)


def is_silent(link: Link, daemon: str | None, up: int) -> bool:
    """Return whether a daemon has not been heard of for `SILENT_AFTER`.

    :param up: the present up-time (ms).
    """
    row = link.one(_HEARD_OF, (daemon,))
    return row is None or up - row[0] >= SILENT_AFTER * 1000

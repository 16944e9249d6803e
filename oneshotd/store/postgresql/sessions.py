"""Number the connections over which a daemon grants leases, so that a lost one grants none any more.

A request may reach the server long after its connection was lost: behind a broken line, or in a server
process that was stopped. The daemon has repeated it meanwhile, and that delivery and further ones have
ended. A lease that is granted then would keep the scraper waiting until it lapses.
"""

from __future__ import annotations

from oneshotd.store.postgresql.link import CommitUnknown, Link

_BEGIN = """
INSERT INTO daemon (id, epoch, session, batch, batch_first, up) SELECT %s, 0, 1, 0, 0, up FROM ({present}) p
ON CONFLICT (id) DO UPDATE SET session = daemon.session + 1, up = excluded.up RETURNING session"""
#: Whether no later connection has begun, in SQL.
IS_OPEN = "EXISTS (SELECT FROM daemon WHERE id = %(holder)s AND session = %(session)s)"


class Session:
    """The present connection of one daemon.

    :ivar holder: the daemon's id.
    :ivar number: greater than that of the connections before.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.number = 0

    def begin(self, link: Link) -> None:
        """Begin on a new connection: what an earlier one still does will grant nothing.

        :raises CommitUnknown: call it again, on another connection.
        """
        with link.transaction():
            [self.number] = link.one(_BEGIN.format(present=link.present), (self.holder,))

    def check(self, link: Link, is_open: bool) -> None:
        """Close the connection if it may grant nothing.

        :param is_open: the result of `IS_OPEN`.
        :raises CommitUnknown: it was closed; a repetition begins another one.
        """
        if not is_open:
            link.close()
            raise CommitUnknown("the daemon was away for so long that its session was ended")

"""Connect to the newest of several hosts: an old primary that came back after a failover is refused.

A standby begins a new timeline when it is promoted. The old primary, started again, stays on its own and
takes writes which nobody will see. A daemon remembers the newest timeline that it has seen, for each
database cluster; a daemon that is started after the failover cannot tell: the old primary has to be fenced.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from oneshotd.errors import StoreRefused
from oneshotd.store.postgresql.connecting import library
from oneshotd.store.postgresql.link import NOW, Link

_READ = """
SELECT (SELECT system_identifier FROM pg_control_system()), CASE WHEN NOT pg_is_in_recovery()
  THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END"""


class Timelines:
    """Opens the connections of one daemon.

    :param now: see `Link`.
    """

    def __init__(self, address: str, now: str = NOW) -> None:
        self._address = address
        self._now = now
        self._lock = threading.Lock()
        self._newest: dict[int, int] = {}  # by cluster

    def connect(self) -> Link:
        """Connect to the first host that is not on an old timeline.

        :raises StoreRefused: all that can be reached are.
        """
        refused = None
        for address in orders(self._address):
            link = Link(address, self._now)
            try:
                self._check(link)
            except StoreRefused as error:
                link.close()
                refused = error
                continue
            except BaseException:
                link.close()
                raise
            return link
        assert refused is not None
        raise refused

    def _check(self, link: Link) -> None:
        cluster, timeline = link.one(_READ)
        if timeline is None:  # a standby takes no writes, and says so
            return
        with self._lock:
            newest = self._newest.get(cluster, 0)
            if timeline < newest:
                raise StoreRefused(
                    f"the server is on timeline {timeline}, and another one has been promoted to {newest}:"
                    " this is an old primary, and what it stores would be lost"
                )
            self._newest[cluster] = timeline


def orders(address: str) -> Iterator[str]:
    """Return an address with its hosts in each order in which another one is the first."""
    conninfo = library().conninfo
    given = conninfo.conninfo_to_dict(address)
    lists = {
        name: str(given[name]).split(",")
        for name in ("host", "hostaddr", "port")
        if given.get(name, "").strip(",")
    }
    count = max((len(values) for values in lists.values()), default=1)
    for first in range(count):
        turned = {
            name: ",".join(values[first:] + values[:first])
            for name, values in lists.items()
            if len(values) > 1
        }
        yield conninfo.make_conninfo(address, **turned)

"""The deliveries of a cluster campaign, as the daemons' logs tell them, and the scrapes they belong to.

A scraper cannot tell which daemon has answered it behind a load balancer. So a scrape and a delivery are
joined by the scraper, the number of events and the time; daemons and scrapers have the same clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import Factory, define, frozen
from soak.cluster_actors import BALANCER
from soak.exchange import Exchange

_STEP = re.compile(r"(\S+): delivery (\d+) (.+) at ([0-9.]+): (\d+) events")

#: Seconds by which the times of a scraper and of a daemon may seem to disagree: the log rounds them. And
#: seconds between the end of a process and our record of it, or between a grant and its record.
ROUNDED, SLACK = 0.0002, 0.05

#: Seconds after which a daemon may still begin to answer a request whose scraper has given up.
GIVEN_UP = 30.0

SETTLED, SUPERSEDED = "delivered, on disk: settled", "delivered, on disk: superseded"
REVOKED, REVOKED_LATE = "revoked, on disk: settled", "revoked, on disk: superseded"
RETURNED = "returned, on disk: settled"


@frozen(kw_only=True)
class Life:
    """A process of a daemon, from `began` to `ended` (monotonic seconds).

    :param killed: it ended by ``kill -9``, not by SIGTERM.
    :param stopping: when it got SIGTERM, upon which it closes its connections.
    """

    daemon: str
    began: float
    ended: float
    killed: bool
    stopping: float = float("inf")


@define(eq=False, kw_only=True)
class Delivery:
    """A delivery.

    :param events: number of its events.
    :param life: the process that made it.
    :ivar steps: (monotonic seconds, what) in the order of the log.
    :ivar exchange: the scrape, if it was found.
    """

    scraper: str
    token: str
    events: int
    life: Life
    steps: list[tuple[float, str]] = Factory(list)
    exchange: Exchange | None = None

    @property
    def begun(self) -> float:
        """When the response was rendered."""
        return self.steps[0][0]

    def time_of(self, *starts: str) -> float | None:
        """Return when the first step came that begins so."""
        return next((at for at, what in self.steps if what.startswith(starts)), None)

    def has(self, what: str) -> bool:
        """Whether it has this very step."""
        return any(step == what for _, step in self.steps)

    @property
    def is_uncertain(self) -> bool:
        """Whether the daemon says that the scraper may have read events that go out again."""
        return any(what.endswith("as uncertain") for _, what in self.steps)

    def text(self, since: float) -> str:
        """Return all of it in one line.

        :param since: monotonic seconds from which times are shown.
        """
        steps = ", ".join(f"{what} {at - since:.3f}" for at, what in self.steps)
        end = f"{'killed' if self.life.killed else 'stopped'} {self.life.ended - since:.3f}"
        return f"{self.life.daemon} ({end}): {self.events} events to {self.scraper}: {steps}"


def deliveries(lives: Sequence[Life], logs: Iterable[tuple[str, str]]) -> list[Delivery]:
    """Return all deliveries, in the order of their beginnings.

    :param logs: daemon and the text of its log, over all its processes.
    """
    found: dict[tuple[str, str, str], Delivery] = {}
    for daemon, text in logs:
        for line in text.splitlines():
            step = _STEP.search(line)
            if step is None:
                continue
            scraper, token, what, seconds, events = step.groups()
            at = float(seconds)
            life = next(
                (each for each in lives if each.daemon == daemon and each.began <= at <= each.ended + SLACK),
                Life(daemon=daemon, began=0.0, ended=float("inf"), killed=False),
            )
            delivery = found.setdefault(
                (daemon, scraper, token),
                Delivery(scraper=scraper, token=token, events=int(events), life=life),
            )
            delivery.steps.append((at, what))
    return sorted(found.values(), key=lambda each: each.begun)


def join(exchanges: Sequence[Exchange], of_scraper: Sequence[Delivery]) -> list[Exchange]:
    """Tell each delivery its scrape; return the scrapes with events that no log has.

    A scrape that was given up before its answer may have a delivery that begins later: its request lay in
    the socket of a daemon that was stopped, or the daemon waited for the database.

    :param exchanges: of one scraper, in their order; it makes one at a time.
    :param of_scraper: the deliveries to it, in their order.
    """
    unknown = []
    free = list(of_scraper)

    def join_one(exchange: Exchange, later: float = 0.0, *, delivered: bool = False) -> bool:
        events = sum(exchange.amounts.values())
        end = float("inf") if exchange.ended is None else exchange.ended
        end = min(end, exchange.first or end) + later
        for each in free:
            if (
                exchange.asked - ROUNDED <= each.begun <= end + ROUNDED
                and exchange.door in (each.life.daemon, BALANCER)
                and (each.events == events if exchange.whole else each.events >= events)
                and not (delivered and each.time_of("delivered") is None)
            ):
                each.exchange = exchange
                free.remove(each)
                return True
        return False

    for exchange in exchanges:
        if exchange.whole and not join_one(exchange) and exchange.amounts:
            unknown.append(exchange)
    given_up = [each for each in exchanges if not each.whole and not join_one(each) and each.first is None]
    # The last one first: most of them have no delivery at all. What was acknowledged for a scraper that is
    # gone, the balancer has acknowledged.
    given_up.reverse()
    rest = [
        each for each in given_up if each.door != BALANCER or not join_one(each, GIVEN_UP, delivered=True)
    ]
    for exchange in rest:
        join_one(exchange, GIVEN_UP)
    return unknown

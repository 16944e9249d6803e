"""What a cluster promises, and whether a campaign's records keep it.

In terms of the records:

* An event that was answered 200 is read by each scraper exactly once, whichever daemon took it and
  whichever are scraped. One without an answer is there for all scrapers, or for none; one that was
  refused is not there.
* A delivery that was read may come again if its daemon ended before the settlement was on disk (limit
  (a), at most one for each scraper and end of a daemon), if the daemon says that it is uncertain (b), or
  if its settlement was superseded: the daemon was held up for longer than the lease.
* A delivery that was left unread may be missing if it was left too late (f), if its daemon ended after
  the acknowledgement and before the revocation was on disk (e), if its revocation was superseded, which
  the daemons count as `late`, or if the balancer has acknowledged it and ended, had passed on a FIN
  for a scraper that gave up before the answer (also for one that reset at once), or that of a daemon that
  stops (c).
* No delivery to a scraper begins while another one holds the lease, whichever daemons they are of. A
  lease ends with the delivery, after the timeout and `margin` seconds, or as its daemon starts again.
* Nothing is superseded within its lease.
* A datagram may be missing if its daemon, or the database, was in trouble at the time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from attrs import Factory, define, frozen
from soak.cluster_actors import BALANCER
from soak.cluster_deliveries import (
    RETURNED,
    REVOKED,
    REVOKED_LATE,
    SETTLED,
    SLACK,
    SUPERSEDED,
    Delivery,
    Life,
    join,
)
from soak.exchange import Exchange
from soak.sendings import Outage

#: Why a delivery was repeated.
ENDED, UNCERTAIN, HELD_UP = (
    "doubled, allowed: deliveries whose daemon ended before the settlement was on disk (a)",
    "doubled, allowed: deliveries that a daemon counts as uncertain (b)",
    "doubled, allowed: deliveries whose settlement was superseded, the daemon was held up beyond its lease",
)
#: Why one is missing.
TOO_LATE, UNREVOKED, IN_BALANCER, SUPERSEDED_UNREAD = (
    "lost, allowed: deliveries left unread a second after the timeout (f)",
    "lost, allowed: deliveries left unread as the daemon ended (e)",
    "lost, allowed: deliveries acknowledged by the load balancer, one side of which had closed (c)",
    "lost, allowed: deliveries left unread whose revocation was superseded, counted as `late`",
)
REASONS = (ENDED, UNCERTAIN, HELD_UP, TOO_LATE, UNREVOKED, IN_BALANCER, SUPERSEDED_UNREAD)

#: The reason under which a daemon counts events whose revocation came too late.
LATE = "late"

#: Seconds from a request to the beginning of its lease, at most (`oneshotd.delivery.scrapes`).
STORE_WAIT = 5.0

#: Seconds before the end of a daemon in which trouble of the database keeps a settlement from the disk.
STOPPING = 30.0


@define(eq=False)
class Judgement:
    """What is to be said of one scraper.

    :ivar allowed: reason -> (delivery, number of its events that came again, or are missing).
    :ivar lost: identity -> how many are missing.
    :ivar doubled: identity -> how many there are too many.
    :ivar wrong: what else must not be.
    """

    allowed: dict[str, list[tuple[Delivery, int]]] = Factory(lambda: defaultdict(list))
    lost: Counter[str] = Factory(Counter)
    doubled: Counter[str] = Factory(Counter)
    wrong: list[str] = Factory(list)


@frozen(kw_only=True)
class Judge:
    """The rules.

    :param margin: seconds that a lease outlives the scrape's timeout.
    :param began: monotonic seconds from which times are shown.
    :param sent: identity -> monotonic seconds at which it was first sent.
    :param lives: the processes of all daemons.
    :param troubles: times in which the database could not be used by some daemon.
    :param balancer_deaths: monotonic seconds at which the balancer was killed.
    """

    margin: float
    began: float = 0.0
    sent: Mapping[str, float] = Factory(dict)
    lives: Sequence[Life] = ()
    troubles: Sequence[Outage] = ()
    balancer_deaths: Sequence[float] = ()

    def judge(
        self, expected: Mapping[str, int], exchanges: Sequence[Exchange], given: Sequence[Delivery]
    ) -> Judgement:
        """Hold what a scraper has read against what it must have.

        :param expected: identity -> how many it must have.
        :param exchanges: its scrapes, in their order.
        :param given: the deliveries to it, in their order.
        """
        found = Judgement()
        for exchange in join(exchanges, given):
            found.wrong.append(f"no daemon's log has this response: {exchange.text(self.began)}")
        over: Counter[str] = Counter()
        for exchange in exchanges:
            if exchange.outcome == "read":
                over.update(exchange.amounts)
        over.subtract(expected)
        self._explain_doubled(found, over, given)
        self._explain_lost(found, over, given)
        found.doubled = Counter({identity: n for identity, n in over.items() if n > 0})
        found.lost = Counter({identity: -n for identity, n in over.items() if n < 0})
        found.wrong += self._overlaps(given)
        found.wrong += self._hasty(given)
        found.wrong += self._too_many_repeats(found)
        return found

    # -- doubled

    def _explain_doubled(self, found: Judgement, over: Counter[str], given: Sequence[Delivery]) -> None:
        for each in given:
            exchange = each.exchange
            if exchange is None or exchange.outcome != "read":
                continue
            reason = self._may_repeat(each)
            again = {i: min(n, over[i]) for i, n in exchange.amounts.items() if over[i] > 0}
            if reason is not None and again:
                over.subtract(again)
                found.allowed[reason].append((each, sum(again.values())))

    def _may_repeat(self, each: Delivery) -> str | None:
        """Return why a delivery that was read may come again."""
        if each.is_uncertain:
            return UNCERTAIN
        if each.has(SUPERSEDED):
            return HELD_UP
        if each.has(SETTLED) or each.time_of("returned", "revoked") is not None:
            return None
        return ENDED if self._ended_unsettled(each) else None

    def _ended_unsettled(self, each: Delivery) -> bool:
        """Whether the end of its daemon may have kept a settlement from the disk."""
        life = each.life
        return life.ended != float("inf") and (
            life.killed
            or any(t.began <= life.ended and t.ended >= life.ended - STOPPING for t in self.troubles)
        )

    # -- lost

    def _explain_lost(self, found: Judgement, over: Counter[str], given: Sequence[Delivery]) -> None:
        """Take off what may be missing: first what was seen of unread responses, then what was not."""
        excused = [(each, reason) for each in given if (reason := self._may_be_lost(each)) is not None]
        missing: dict[int, int] = {}
        for is_seen in (True, False):
            for number, (each, _) in enumerate(excused):
                amounts = each.exchange.amounts if each.exchange is not None else {}
                room = each.events - missing.get(number, 0)
                if is_seen:
                    gone: Mapping[str, int] = {i: min(n, -over[i]) for i, n in amounts.items() if over[i] < 0}
                elif sum(amounts.values()) < each.events:
                    gone = self._unseen(over, each, room)
                else:
                    continue
                over.update(gone)
                missing[number] = missing.get(number, 0) + sum(gone.values())
        for number, (each, reason) in enumerate(excused):
            if missing[number]:
                found.allowed[reason].append((each, missing[number]))

    def _unseen(self, over: Counter[str], each: Delivery, room: int) -> Mapping[str, int]:
        gone: dict[str, int] = {}
        for identity in sorted(over, key=lambda i: self.sent.get(i, 0.0)):
            if room <= 0:
                break
            if over[identity] < 0 and self.sent.get(identity, 0.0) < each.begun:
                gone[identity] = min(room, -over[identity])
                room -= gone[identity]
        return gone

    def _may_be_lost(self, each: Delivery) -> str | None:
        """Return why a delivery that was not read may be missing."""
        exchange = each.exchange
        if exchange is not None and exchange.outcome == "read":
            return None
        if each.has(REVOKED) or each.has(RETURNED) or each.time_of("delivered") is None:
            return None
        if each.has(REVOKED_LATE):
            return SUPERSEDED_UNREAD
        if exchange is not None and exchange.door == BALANCER:
            end = float("inf") if exchange.ended is None else exchange.ended
            at_once = end <= exchange.asked + SLACK
            if exchange.first is None and (exchange.finished or at_once):
                return IN_BALANCER
            if each.life.stopping - SLACK <= end:
                return IN_BALANCER
            if any(exchange.asked <= death <= end + SLACK for death in self.balancer_deaths):
                return IN_BALANCER
        if exchange is not None and exchange.finished and exchange.first is None:
            return None  # its kernel has refused the answer
        if exchange is not None and exchange.is_excused:
            return TOO_LATE
        return UNREVOKED if not each.has("final") and self._ended_unsettled(each) else None

    # -- the leases

    def _lease_until(self, each: Delivery) -> float:
        """Return when its lease has certainly lasted, unless something ended it before."""
        if each.exchange is None:
            return each.begun - STORE_WAIT + self.margin
        return each.exchange.asked + each.exchange.timeout + self.margin

    def _overlaps(self, given: Sequence[Delivery]) -> Iterable[str]:
        for before, after in pairwise(given):
            ends = [self._lease_until(before)]
            reported = before.time_of("final", "returned", "revoked")
            if reported is not None:
                ends.append(reported)
            ends += [
                life.began
                for life in self.lives
                if life.daemon == before.life.daemon and life.began >= before.life.ended
            ]
            if after.begun < min(ends) - SLACK:
                yield (
                    "two deliveries to one scraper at once:\n"
                    f"    {before.text(self.began)}\n    {after.text(self.began)}"
                )

    def _hasty(self, given: Sequence[Delivery]) -> Iterable[str]:
        for each in given:
            for at, what in each.steps:
                if what.endswith("on disk: superseded") and at < self._lease_until(each) - SLACK:
                    yield f"superseded within its lease: {each.text(self.began)}"

    def _too_many_repeats(self, found: Judgement) -> Iterable[str]:
        ends = Counter((each.life.daemon, each.life.ended) for each, _ in found.allowed.get(ENDED, ()))
        for (daemon, at), count in ends.items():
            if count > 1:
                yield f"{count} deliveries came again after one end of {daemon} at {at - self.began:.3f}"


def uncounted(given: Sequence[Delivery], what: str, counted: int) -> str | None:
    """Return what is wrong with a scraper's count of events that were settled or revoked too late.

    :param what: "delivered" or "revoked".
    """
    late = f"{what}, on disk: superseded"
    known = sum(each.events for each in given if each.has(late))
    open_ = sum(
        each.events
        for each in given
        if each.time_of(what) is not None
        and each.time_of(f"{what}, on disk") is None
        and each.life.ended != float("inf")
    )
    if known <= counted <= known + open_:
        return None
    return f"{known} events were {late}; counted: {counted}"

"""The judge of the cluster campaign, on made-up histories: it must not let a fault pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from attrs import evolve, field, frozen
from soak.cluster_actors import BALANCER
from soak.cluster_deliveries import Life, deliveries
from soak.cluster_judge import (
    ENDED,
    HELD_UP,
    IN_BALANCER,
    SUPERSEDED_UNREAD,
    TOO_LATE,
    UNCERTAIN,
    UNREVOKED,
    Judge,
    Judgement,
    uncounted,
)
from soak.exchange import Exchange
from soak.sendings import Outage

SENT = {"a": 2, "b": 1}
MARGIN, TIMEOUT = 3.0, 2.0

#: Steps of a delivery at these seconds after it was begun.
READ = ((0.1, "delivered"), (0.2, "delivered, on disk: settled"), (1.0, "final"))
UNSETTLED = ((0.1, "delivered"),)
HELD = ((0.1, "delivered"), (7.0, "delivered, on disk: superseded"), (7.1, "final"))
TAKEN_BACK = (*READ[:2], (0.4, "revoked"), (0.5, "revoked, on disk: settled"))
TAKEN_BACK_LATE = (*READ[:2], (0.4, "revoked"), (7.0, "revoked, on disk: superseded"))
NOT_TAKEN_BACK = (*READ[:2], (0.4, "revoked"))
BACK = ((2.0, "returned"), (2.1, "returned, on disk: settled"))
IN_DOUBT = ((2.0, "returned as uncertain"), (2.1, "returned, on disk: settled"))


@frozen
class Scrape:
    """One scrape of the scraper `s`, and its delivery.

    :param daemon: that has answered; `door` where it was asked, if that is another.
    :param steps: of the delivery.
    :param unread: seconds after which it was left unread; 0: it was read.
    :param killed: seconds after which its daemon was killed; 0: never.
    :param events: of the delivery, where the scraper saw a part of it.
    :param begun: seconds after which the daemon began to answer; 0.01: while the scraper waited.
    """

    asked: float
    amounts: Mapping[str, int] = field(factory=dict)
    steps: Sequence[tuple[float, str]] = READ
    daemon: str = "ann"
    door: str = ""
    unread: float = 0.0
    finished: bool = False
    killed: float = 0.0
    events: int = 0
    begun: float = 0.01


def judged(
    *scrapes: Scrape,
    troubles: Sequence[Outage] = (),
    deaths: Sequence[float] = (),
    restarted: Sequence[float] = (),
    stopping: float = float("inf"),
    margin: float = MARGIN,
) -> Judgement:
    """Judge the scrapes of one scraper, to which 2 of `a` and 1 of `b` are due."""
    exchanges, lines, lives = [], {"ann": [""], "bob": [""]}, []
    for number, each in enumerate(scrapes):
        events = each.events or sum(each.amounts.values())
        exchanges.append(
            Exchange(
                port=1,
                timeout=TIMEOUT,
                asked=each.asked,
                door=each.door or each.daemon,
                first=each.asked + 0.02 if each.begun == 0.01 and not 0 < each.unread < 0.02 else None,
                ended=each.asked + (each.unread or 0.1),
                whole=events == sum(each.amounts.values()),
                outcome="unread" if each.unread else "read",
                finished=each.finished,
                amounts=each.amounts,
            )
        )
        if each.steps:
            begun = each.asked + each.begun
            for after, what in ((0.0, "begun"), *each.steps):
                lines[each.daemon].append(
                    f"x [y] s: delivery {number} {what} at {begun + after:.4f}: {events} events, cursor 1"
                )
        if each.killed:
            ended = each.asked + each.killed
            lives.append(Life(daemon=each.daemon, began=each.asked - 0.5, ended=ended, killed=True))
    lives += [Life(daemon="ann", began=at, ended=at + 100, killed=False) for at in restarted]
    if stopping < float("inf"):
        lives.append(Life(daemon="ann", began=0.0, ended=stopping + 1.0, killed=False, stopping=stopping))
    judge = Judge(
        margin=margin, sent={"a": 0.0, "b": 0.0}, lives=lives, troubles=troubles, balancer_deaths=deaths
    )
    given = deliveries(lives, [(name, "\n".join(text)) for name, text in lines.items()])
    return judge.judge(SENT, exchanges, given)


ALL = {"a": 2, "b": 1}

#: Reason -> scrapes that need it to be allowed, and how many events it excuses.
ALLOWED = {
    "the daemon was killed before the settlement": (
        ENDED,
        3,
        [Scrape(10, ALL, UNSETTLED, killed=0.15), Scrape(20, ALL, daemon="bob")],
    ),
    "the daemon does not know whether it was read": (
        UNCERTAIN,
        3,
        [Scrape(10, ALL, IN_DOUBT), Scrape(20, ALL, daemon="bob")],
    ),
    "the daemon was stopped beyond its lease": (
        HELD_UP,
        3,
        [Scrape(10, ALL, HELD), Scrape(16, ALL, daemon="bob")],
    ),
    "left unread too late": (TOO_LATE, 3, [Scrape(10, ALL, unread=3.1)]),
    "left unread after a FIN": (TOO_LATE, 3, [Scrape(10, ALL, unread=0.3, finished=True)]),
    "killed before the revocation": (
        UNREVOKED,
        3,
        [Scrape(10, ALL, NOT_TAKEN_BACK, unread=0.3, killed=0.6)],
    ),
    "in the balancer when that was killed": (
        IN_BALANCER,
        3,
        [Scrape(10, {"b": 1}, door=BALANCER, unread=0.3, events=3)],
    ),
    "given up before the answer, through the balancer": (
        IN_BALANCER,
        3,
        [Scrape(10, {}, door=BALANCER, unread=1.0, finished=True, events=3, begun=1.2)],
    ),
    "reset right after the request, through the balancer": (
        IN_BALANCER,
        3,
        [Scrape(10, {}, door=BALANCER, unread=0.001, events=3)],
    ),
    "revoked beyond the lease": (
        SUPERSEDED_UNREAD,
        3,
        [Scrape(10, ALL, TAKEN_BACK_LATE, unread=0.3)],
    ),
}


def test_a_reset_after_the_daemon_has_closed_is_not_passed_on() -> None:
    """HAProxy has passed on the FIN of a daemon that stops, and tells it nothing more."""
    late = Scrape(10, ALL, READ, door=BALANCER, unread=0.3)
    assert list(judged(late, stopping=10.2).allowed) == [IN_BALANCER]
    assert judged(late, stopping=10.5).lost == Counter(ALL)
    direct = evolve(late, door="ann")
    assert judged(direct, stopping=10.2).lost == Counter(ALL)


@pytest.mark.parametrize("case", ALLOWED)
def test_what_the_limits_allow_is_counted_under_its_limit(case: str) -> None:
    """A campaign would otherwise fail at what the documentation says."""
    reason, events, scrapes = ALLOWED[case]
    found = judged(*scrapes, deaths=[10.2])
    assert not found.lost and not found.doubled and not found.wrong
    assert {why: sum(n for _, n in each) for why, each in found.allowed.items()} == {reason: events}


def test_a_delivery_belongs_to_the_last_scrape_that_was_given_up() -> None:
    """An earlier scrape that no daemon has answered would take its place."""
    found = judged(
        Scrape(5, {}, (), daemon="bob", unread=1.0, begun=0.5, events=1),
        Scrape(8, {}, (), door=BALANCER, unread=1.0, begun=0.5, events=1),
        Scrape(10, {}, door=BALANCER, unread=0.001, finished=True, events=3),
    )
    assert [sum(n for _, n in each) for each in found.allowed.values()] == [3]
    assert list(found.allowed) == [IN_BALANCER] and not found.lost


def test_what_was_acknowledged_for_a_scraper_that_is_gone_went_through_the_balancer() -> None:
    """A later scrape that was given up at the daemon itself would take its place."""
    found = judged(
        Scrape(10, {}, door=BALANCER, unread=1.0, finished=True, events=3, begun=5.0),
        Scrape(12, {}, (), unread=1.0, finished=True, events=1, begun=0.5),
    )
    assert list(found.allowed) == [IN_BALANCER] and not found.lost


#: Scrapes after which something is missing or too often although everything was in order.
FAULTS = {
    "an event that no scrape had": ([Scrape(10, {"a": 2})], {"b": 1}, {}),
    "a part of a count": ([Scrape(10, {"a": 1, "b": 1})], {"a": 1}, {}),
    "settled, and it comes again": (
        [Scrape(10, ALL), Scrape(20, {"b": 1}, daemon="bob")],
        {},
        {"b": 1},
    ),
    "settled before the kill, and it comes again": (
        [Scrape(10, ALL, killed=1.5), Scrape(20, ALL, daemon="bob")],
        {},
        ALL,
    ),
    "called unread, and it was read": (
        [Scrape(10, ALL, BACK), Scrape(20, ALL, daemon="bob")],
        {},
        ALL,
    ),
    "revoked, and it was read": ([Scrape(10, ALL, TAKEN_BACK), Scrape(20, ALL)], {}, ALL),
    "repeated twice after one kill": (
        [Scrape(10, ALL, UNSETTLED, killed=0.15), Scrape(20, ALL, daemon="bob"), Scrape(30, ALL)],
        {},
        ALL,
    ),
    "left unread, and final": ([Scrape(10, ALL, unread=0.3)], ALL, {}),
    "left unread and final before the kill": ([Scrape(10, ALL, unread=1.5, killed=1.6)], ALL, {}),
    "revoked on disk, and it does not come again": (
        [Scrape(10, ALL, TAKEN_BACK, unread=0.3, killed=0.9)],
        ALL,
        {},
    ),
    "returned, and it does not come again": ([Scrape(10, ALL, BACK, unread=1.9)], ALL, {}),
    "begun and killed, and it does not come again": ([Scrape(10, ALL, (), unread=0.3)], ALL, {}),
    "another balancer's death": ([Scrape(10, ALL, door=BALANCER, unread=0.1)], ALL, {}),
    "given up long before the answer, not through the balancer": (
        [Scrape(20, {}, unread=1.0, finished=True, events=3, begun=4.0)],
        ALL,
        {},
    ),
    "given up before the answer, and not by a FIN": (
        [Scrape(20, {}, door=BALANCER, unread=1.0, events=3, begun=4.0)],
        ALL,
        {},
    ),
    "not through the balancer": ([Scrape(10, ALL, unread=0.3)], ALL, {}),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_lost_or_doubled_is_found(case: str) -> None:
    """The campaign would show nothing."""
    scrapes, lost, doubled = FAULTS[case]
    found = judged(*scrapes, deaths=[10.2])
    assert (found.lost, found.doubled) == (lost, doubled)


def test_one_loss_does_not_hide_another() -> None:
    """A delivery of one event in the balancer excuses one event."""
    found = judged(Scrape(10, {}, door=BALANCER, unread=0.3, events=1), deaths=[10.2])
    assert found.lost.total() == 2


def test_a_second_delivery_within_the_lease_is_found() -> None:
    """Two daemons would send the same events to one scraper at the same time."""
    scrapes = (Scrape(10, {"a": 2}, UNSETTLED), Scrape(13, {"b": 1}, daemon="bob"))
    [text] = judged(*scrapes).wrong
    assert "two deliveries to one scraper at once" in text
    assert not judged(*scrapes, margin=0.9).wrong
    killed = Scrape(10, {"a": 2}, UNSETTLED, killed=0.5)
    [_] = judged(killed, scrapes[1]).wrong
    assert not judged(killed, scrapes[1], restarted=[12.0]).wrong


def test_a_lease_that_is_superseded_too_early_is_found() -> None:
    """A slow settlement would double events although no daemon was held up."""
    assert not judged(Scrape(10, ALL, HELD)).wrong
    [text] = judged(Scrape(10, ALL, HELD), margin=9.0).wrong
    assert "superseded within its lease" in text


def test_two_repeats_after_one_kill_are_found() -> None:
    """Limit (a) is one delivery for each scraper and kill."""
    found = judged(
        Scrape(10, {"a": 2}, UNSETTLED),
        Scrape(20, {"b": 1}, UNSETTLED, killed=0.5),
        Scrape(30, ALL, daemon="bob"),
    )
    assert not found.wrong  # the first one's process was another
    life = Life(daemon="ann", began=0.0, ended=21.0, killed=True)
    lines = [
        f"s: delivery {n} {what} at {at}: {n} events"
        for n, start in ((2, 10.01), (1, 20.01))
        for at, what in ((start, "begun"), (start + 0.1, "delivered"))
    ]
    exchanges = [
        Exchange(
            port=1, timeout=2, asked=at, ended=at + 0.1, door=door, whole=True, outcome="read", amounts=a
        )
        for at, door, a in ((10.0, "ann", {"a": 2}), (20.0, "ann", {"b": 1}), (30.0, "bob", ALL))
    ]
    lines_of_bob = [
        f"s: delivery 3 {what} at {30.01 + after}: 3 events" for after, what in ((0.0, "begun"), *READ)
    ]
    given = deliveries([life], [("ann", "\n".join(lines)), ("bob", "\n".join(lines_of_bob))])
    found = Judge(margin=MARGIN, lives=[life]).judge(SENT, exchanges, given)
    assert [text for text in found.wrong if "2 deliveries came again after one end of ann" in text]


def test_a_stop_without_a_settlement_needs_trouble_of_the_database() -> None:
    """SIGTERM waits for the commit."""
    scrape = Scrape(10, ALL, UNSETTLED)
    life = Life(daemon="ann", began=0.0, ended=12.0, killed=False)
    [line] = deliveries([life], [("ann", "s: delivery 1 begun at 10.01: 3 events")])
    assert line.life is life and scrape.steps == UNSETTLED
    judge = Judge(margin=MARGIN)
    exchange = Exchange(
        port=1, timeout=2, asked=10.0, ended=10.1, door="ann", whole=True, outcome="read", amounts=ALL
    )
    again = Exchange(
        port=1, timeout=2, asked=20.0, ended=20.1, door="bob", whole=True, outcome="read", amounts=ALL
    )
    logs = [
        ("ann", "s: delivery 1 begun at 10.01: 3 events\ns: delivery 1 delivered at 10.02: 3 events"),
        (
            "bob",
            "\n".join(f"s: delivery 2 {what} at {20.01 + t}: 3 events" for t, what in ((0, "begun"), *READ)),
        ),
    ]
    assert judge.judge(SENT, [exchange, again], deliveries([life], logs)).doubled == ALL
    judge = Judge(margin=MARGIN, troubles=[Outage(began=9.0, ended=11.0)])
    found = judge.judge(SENT, [exchange, again], deliveries([life], logs))
    assert not found.doubled and list(found.allowed) == [ENDED]


def test_a_response_that_no_log_has_is_found() -> None:
    """The judge would know nothing of that delivery."""
    [text] = judged(Scrape(10, ALL, ())).wrong
    assert "no daemon's log has this response" in text


def test_losses_must_be_counted() -> None:
    """Nothing is lost in silence."""
    life = Life(daemon="ann", began=0.0, ended=float("inf"), killed=False)
    for what, steps in (("revoked", TAKEN_BACK_LATE), ("delivered", HELD)):
        text = "\n".join(
            f"s: delivery 1 {step} at {10 + at}: 3 events" for at, step in ((0.0, "begun"), *steps)
        )
        given = deliveries([life], [("ann", text)])
        assert uncounted(given, what, 3) is None
        assert uncounted(given, what, 0) is not None
        assert uncounted(given, what, 4) is not None

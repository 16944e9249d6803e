"""What a violation prints: its cause has to be found from that alone, on whoever's machine it was."""

from __future__ import annotations

from soak import evidence
from soak.exchange import Exchange
from soak.ledger import KEYED, UDP, Books
from soak.marks import Reading
from soak.sendings import Outage

DELIVERY = "oneshotd.delivery.log.DeliveryLog#debug"
RECEIPT = "oneshotd.web.transport.ack_tracker.AckTracker#debug"

LOG = "".join(
    f"2026-11-28T05:43:22+0000 [{system}] {text}\n"
    for system, text in (
        (DELIVERY, "ann: delivery 7 begun at 1002.1000: 3 events, cursor 9"),
        (DELIVERY, "bob: delivery 8 begun at 1002.1500: 3 events, cursor 9"),
        (DELIVERY, "ann: delivery 7 delivered at 1002.2000: 3 events, cursor 9"),
        (RECEIPT, "a response ends in OVERDUE, 900 bytes: unacknowledged 0, peer open"),
        (DELIVERY, "ann: delivery 7 final at 1005.2000: 3 events, cursor 9"),
        ("oneshotd.daemon.service.OneshotService#info", "oneshotd is ready"),
        (DELIVERY, "ann: delivery 9 begun at 1090.0000: 1 events, cursor 10"),
    )
)


def exchange(asked: float, outcome: str, **amounts: int) -> Exchange:
    return Exchange(
        port=4711,
        timeout=2.0,
        asked=asked,
        first=asked + 0.1,
        ended=asked + 0.2,
        size=1000,
        whole=True,
        outcome=outcome,
        process="P",
        amounts={f"keyed-1/{name[1:]}": amount for name, amount in amounts.items()},
    )


def books() -> Books:
    kept = Books(["ann", "bob"])
    sending = kept.send(KEYED, {"keyed-1/22": 4})
    sending.began, sending.answered = 1001.0, 1001.5
    kept.ended["P"] = 1010.0
    return kept


def test_a_lost_event_shows_who_carried_it_and_what_the_daemon_did_of_it() -> None:
    """On another machine the same loss would have to be seen again before anything could be said."""
    kept = books()
    for one in (
        exchange(1000.5, "read", n21=1),
        exchange(1002.0, "gave up (timed out)", n22=4, n23=1),
        exchange(1002.5, "read", n24=1),
        exchange(1080.0, "read", n25=1),
    ):
        kept.exchanged("ann", one)
    told = list(evidence.of(kept, "keyed-1/22", "ann", 1000.0, evidence.steps(LOG)))
    text = "\n".join(told)
    assert told[0] == "ann: keyed-1/22: POST /event with a key began 1.000 answered 1.500"
    assert (
        "4 of it: port 4711: asked 2.000 (timeout 2 s), first byte 2.100, gave up (timed out) 2.200" in text
    )
    assert "without it: port 4711: asked 0.500" in text and "asked 2.500" in text
    assert "asked 80.000" not in text, "far from it"
    assert "daemon 2.200: ann: delivery 7 delivered" in text
    assert "daemon 5.200: a response ends in OVERDUE" in text
    assert "daemon 5.200: ann: delivery 7 final" in text
    assert "bob" not in text and "delivery 9" not in text
    assert "killed at 10.000" in text


def test_of_an_event_that_was_never_carried_what_came_after_it_is_shown() -> None:
    """The response that should have had it is among these."""
    kept = books()
    for at in (990.0, 1000.7, 1001.2, 1003.0):
        kept.exchanged("ann", exchange(at, "read", n1=1))
    told = list(evidence.of(kept, "keyed-1/22", "ann", 1000.0))
    assert [line.partition("asked ")[2][:5] for line in told[1:]] == ["1.200", "3.000"]


def test_a_missing_datagram_tells_how_far_the_next_outage_was() -> None:
    """Whether the kernel, a kill or the daemon had it."""
    kept = Books(["ann"])
    sending = kept.send(UDP, {"udp-ann/1": 1, "udp-ann/2": 1})
    sending.began, sending.gone = 1001.0, 1001.25
    kept.pauses = [Outage(began=1000.5, ended=1001.5), Outage(began=1005.0, ended=1006.0)]
    assert (
        evidence.datagram(kept, sending, 1000.0)
        == "UDP: 2 series from udp-ann/1 on: UDP began 1.000 gone 1.250;"
        " no outage since 0.000, until the end; stopped: 0.500 to 1.500"
    )


def test_an_exchange_without_an_end_can_be_told() -> None:
    """A campaign that breaks off shows its last scrapes, too."""
    under_way = Exchange(port=1, timeout=1.0, asked=5.0)
    assert "first byte never, under way never; 0 bytes, not whole, process ?, 0 events" in under_way.text(0.0)
    assert not under_way.is_excused
    assert Reading(process="P", amounts={}).samples == 0

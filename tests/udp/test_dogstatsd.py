"""Messages of DogStatsD among other datagrams: access, bounds and counts are those of lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.udp_bench import Bench, log_lines

from oneshotd.access.rules import Role, Rule
from oneshotd.core.batches import SeriesBatch
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.ingest.dialects import dogstatsd

EVENT = b"_e{6,4}:Deploy|done|#env:prod"
CHECK = b"_sc|redis.up|0"
HERE, ELSEWHERE = "192.0.2.7", "198.51.100.7"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def receive(bench: Bench, *datagrams: bytes, host: str = "127.0.0.1") -> None:
    for data in datagrams:
        bench.datagrams.received(data, host)
    bench.datagrams.hand_over()


def test_events_and_checks_are_stored_under_a_source_of_their_own(bench: Bench) -> None:
    """An operator would not see which of the events come from DogStatsD libraries."""
    bench.send(EVENT, b"type=a", CHECK + b"\n" + EVENT + b"\n", b"type=b\n" + CHECK)
    bench.reader.doRead()
    assert bench.offered.sources == ["udp", "dogstatsd"]
    assert bench.offered.types() == ["a", "b", "event", "service_check", "event", "service_check"]
    assert bench.offered.events[2].detail == '{"text":"done"}'
    assert bench.figure("udp_datagrams") == 4
    assert bench.figure("udp_lines") == 6
    assert bench.figure("refused", reason="syntax") == 0


def test_a_datagram_of_messages_alone_offers_nothing_else(bench: Bench) -> None:
    receive(bench, EVENT)
    assert bench.offered.sources == ["dogstatsd"]
    receive(bench, b"type=a")
    assert bench.offered.sources == ["dogstatsd", "udp"]


def test_refused_messages_are_counted_and_logged_once_a_datagram(bench: Bench) -> None:
    """Events would be missing without a figure, or one datagram would fill the log."""
    with log_lines() as lines:
        receive(bench, b"\n".join([b"_sc|a|9", b"_sc|b|9", EVENT, b"_e{1,1}:\xff|a", b"deploys"]))
    assert bench.offered.types() == ["event"]
    assert bench.figure("refused", reason="syntax") == 3
    assert bench.figure("refused", reason="encoding") == 1
    assert bench.figure("udp_lines") == 5
    assert [line.partition(", one of them from ")[0] for line in lines] == [
        "UDP: 2 refused (syntax)",
        "UDP: 1 refused (encoding)",
    ]
    assert "status of the service check" in lines[0]
    last = {door.source: door.refusal for door in bench.telemetry.doors.report()}
    assert last["dogstatsd"] is not None
    assert last["dogstatsd"].text == "'�' is not UTF-8"
    assert last["udp"] is not None
    assert "'deploys'" in last["udp"].text


def test_a_metric_is_refused_with_the_recipe(bench: Bench) -> None:
    """A library with metrics and events would seem to work, without its metrics."""
    with log_lines() as lines:
        receive(bench, b"deploys:1|c|#env:prod")
    assert bench.offered.events == []
    assert lines[0].endswith("(this looks like a DogStatsD metric; see docs/emitting.md)")


def test_plain_datagrams_are_not_looked_at_for_messages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The format of a few senders would cost each event of all others."""
    asked: list[bytes] = []
    monkeypatch.setattr(dogstatsd, "parse_messages", lambda data, **_: asked.append(data))
    monkeypatch.setattr(dogstatsd, "begins", asked.append)
    receive(bench, *[b"type=a&n=%d" % n for n in range(200)])
    receive(bench, *[b"type=a&n=%d" % n for n in range(200)], b"type=b", b"type=c\ntype=d\n")
    assert len(bench.offered.events) == 403
    assert asked == []


def test_messages_between_plain_datagrams_keep_the_fast_parser(bench: Bench) -> None:
    """One sender of DogStatsD would make UDP several times slower for all others."""
    receive(bench, *[b"type=a&n=%d" % n for n in range(300)])
    kinds: list[type] = []
    keep = bench.offered.submit_nowait
    bench.offered.submit_nowait = lambda events, source: (kinds.append(type(events)), keep(events, source))[1]  # type: ignore[method-assign,func-returns-value]  # a spy
    receive(bench, *[b"type=a&n=%d" % n for n in range(300)])
    assert kinds == [SeriesBatch]


# Access


def put(bench: Bench, *rules: Rule) -> None:
    bench.access.update(rules=rules, has_users=True)


def rule(number: int, network: str, **given: Any) -> Rule:
    return Rule(number=number, role=Role.EMIT, network=Networks.parse([network]), **given)


def test_access_rules_hold_for_messages(bench: Bench) -> None:
    """A rule's labels, types and rate would be passed by whoever speaks DogStatsD."""
    put(
        bench,
        rule(1, f"{HERE}/32", labels={"team": "shop"}, types=("event",)),
        rule(2, f"{ELSEWHERE}/32", events_per_second=1.0),
    )
    receive(bench, EVENT + b"\n" + CHECK, b"type=event", EVENT + b",team:toys", host=HERE)
    receive(bench, EVENT, CHECK, host=ELSEWHERE)
    receive(bench, EVENT, host="203.0.113.1")
    assert [event.series.count('team="shop"') for event in bench.offered.events] == [1, 1, 0]
    assert bench.offered.types() == ["event", "event", "event"]
    assert bench.offered.sources == ["udp", "dogstatsd", "dogstatsd"]
    assert bench.offered.events[1].detail == '{"text":"done"}'
    assert bench.figure("refused", reason="forbidden") == 3
    assert bench.figure("refused", reason="rate") == 1


def test_each_sender_has_its_own_rule_in_one_turn(bench: Bench) -> None:
    """The labels of one team would be put on the events of another."""
    put(bench, rule(1, f"{HERE}/32", labels={"team": "shop"}), rule(2, f"{ELSEWHERE}/32"))
    for host in (HERE, ELSEWHERE, HERE):
        bench.datagrams.received(CHECK, host)
    bench.datagrams.hand_over()
    assert ['team="shop"' in event.series for event in bench.offered.events] == [True, False, True]


# What must not happen


@pytest.mark.parametrize("size", [2048, 4096, 8192])
def test_a_full_datagram_is_no_block_of_a_file(bench: Bench, size: int) -> None:
    """The last event would be refused as half of a line, and the next line, too."""
    data = b"\n".join([EVENT] * 10)
    text = size - len(data) - len(b"\n_e{1,1000}:a|")
    data += b"\n_e{1,%4d}:a|" % text
    data = data.replace(b"{1, ", b"{1,0") + b"x" * text
    assert len(data) == size
    receive(bench, data, b"type=a")
    assert len(bench.offered.events) == 12
    assert bench.figure("refused", reason="syntax") == 0


def test_a_fault_of_the_parser_costs_only_these_messages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes, **_: Any) -> Any:
        raise ZeroDivisionError("a bug in the parser")

    monkeypatch.setattr(dogstatsd, "parse_messages", broken)
    with log_lines() as lines:
        receive(bench, b"type=a\n" + EVENT + b"\ntype=b")
    assert bench.offered.types() == ["a", "b"]
    assert bench.figure("refused", reason="syntax") == 1
    assert lines[0] == "UDP: 1 times the parser failed on a datagram"
    receive(bench, b"type=c")
    assert bench.offered.types() == ["a", "b", "c"]


def test_limits_hold(bench: Bench) -> None:
    assert Rules().max_value == 4096
    receive(bench, b"_e{5000,1}:" + b"t" * 5000 + b"|x")
    assert bench.figure("refused", reason="limit") == 1

"""Datagrams under an access file: which rule fits, and what it does to the events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.udp_bench import Bench, log_lines

from oneshotd.access.rules import Role, Rule
from oneshotd.core.batches import SeriesBatch
from oneshotd.core.networks import Networks

HERE, ELSEWHERE, SERVER = "192.0.2.7", "198.51.100.7", "192.0.2.0/24"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def rule(number: int, network: str | None = SERVER, role: Role = Role.EMIT, **given: Any) -> Rule:
    networks = None if network is None else Networks.parse([network])
    return Rule(number=number, role=role, network=networks, **given)


def put(bench: Bench, *rules: Rule) -> None:
    bench.access.update(rules=rules, has_users=True)


def receive(bench: Bench, *datagrams: tuple[bytes, str]) -> None:
    for data, host in datagrams:
        bench.datagrams.received(data, host)
    bench.datagrams.hand_over()


def stored(bench: Bench) -> list[str]:
    found = [event.series.removeprefix("events_to_metrics") for event in bench.offered.events]
    bench.offered.events.clear()
    return found


def test_only_a_rule_with_a_network_alone_lets_datagrams_in(bench: Bench) -> None:
    """A rule "this user from that network" would let everyone of that network send by UDP."""
    put(bench, rule(1, user="ci"), rule(2, token_sha256="0"), rule(3, san="s"), rule(4, role=Role.SCRAPE))
    receive(bench, (b"type=a", HERE), (b"type=a", ELSEWHERE))
    assert stored(bench) == []
    assert bench.figure("refused", reason="forbidden") == 2
    put(bench, rule(1, user="ci"), rule(2))
    receive(bench, (b"type=a", HERE), (b"type=b", f"::ffff:{HERE}"), (b"type=c", ELSEWHERE))
    assert stored(bench) == ['{type="a"}', '{type="b"}']
    assert bench.figure("refused", reason="forbidden") == 3


def test_the_networks_of_the_option_hold_too() -> None:
    """--allow-emit would be void once there is an access file."""
    with Bench(allowed=(f"{HERE}/32",)) as bench:
        put(bench, rule(1))
        receive(bench, (b"type=a", HERE), (b"type=b", "192.0.2.8"))
        assert stored(bench) == ['{type="a"}']


def test_with_users_alone_the_option_decides_as_before() -> None:
    """Tools that know nothing but datagrams would lose their events when users are added for HTTP."""
    with Bench(allowed=("192.0.2.0/24",)) as bench:
        bench.access.update(rules=None, has_users=True)
        with log_lines() as lines:
            receive(bench, (b"type=a", HERE), (b"type=b", "198.51.100.7"))
        assert len(stored(bench)) == 1
    assert lines == [
        "UDP: 1 refused (forbidden), one of them from 198.51.100.7: the address may not send events"
    ]


def test_a_refused_sender_is_told_from_one_outside_the_option() -> None:
    """The log would lead an operator to the option, though it is the access file that refuses."""
    with Bench(allowed=("192.0.2.0/24",)) as bench:
        put(bench, rule(1, "192.0.2.8/32"))
        with log_lines() as lines:
            receive(bench, (b"type=a", HERE))
            bench.clock.advance(1)
            receive(bench, (b"type=a", ELSEWHERE))
    assert [line.partition(": ")[2].partition(": ")[2] for line in lines] == [
        "no access rule with a network alone lets the address send events",
        "the address may not send events",
    ]


def test_the_file_can_be_replaced_while_datagrams_come(bench: Bench) -> None:
    """A sender whose rule was deleted would go on, because its address was remembered."""
    put(bench, rule(1))
    receive(bench, (b"type=a", HERE))
    put(bench, rule(1, "198.51.100.0/24"))
    receive(bench, (b"type=b", HERE), (b"type=c", ELSEWHERE))
    bench.access.update(rules=None, has_users=False)
    receive(bench, (b"type=d", HERE))
    assert stored(bench) == ['{type="a"}', '{type="c"}', '{type="d"}']


def test_each_sender_has_its_own_rule_in_one_turn(bench: Bench) -> None:
    """The labels of one team would be put on the events of another, which came at the same moment."""
    put(bench, rule(1, f"{HERE}/32", labels={"team": "shop"}), rule(2, "198.51.100.0/24"))
    receive(
        bench,
        (b"type=a", HERE),
        (b"type=b\ntype=c", ELSEWHERE),
        (b"type=d\nteam=shop&type=e\nteam=toys&type=f", HERE),
        (b"type=g", HERE),
    )
    assert stored(bench) == [
        '{team="shop",type="a"}',
        '{type="b"}',
        '{type="c"}',
        '{team="shop",type="d"}',
        '{team="shop",type="e"}',
        '{team="shop",type="g"}',
    ]
    assert bench.figure("udp_datagrams") == 4
    assert bench.figure("udp_lines") == 7
    assert bench.figure("refused", reason="forbidden") == 1


def test_refusals_are_counted_and_name_the_rule(bench: Bench) -> None:
    """An operator would see fewer events than are sent, and not why."""
    put(bench, rule(1, types=("a",), series_per_day=1, events_per_second=2.0))
    with log_lines() as lines:
        receive(bench, (b"type=a\ntype=b\ntype=a&x=1", HERE), (b"type=a\ntype=a\ntype=a", HERE))
    assert stored(bench) == ['{type="a"}', '{type="a"}']
    assert {reason: bench.figure("refused", reason=reason) for reason in ("forbidden", "limit", "rate")} == {
        "forbidden": 1,
        "limit": 1,
        "rate": 2,
    }
    assert len(lines) == 3
    assert all(f"rule 1 (emit, network {SERVER})" in line for line in lines)
    (use,) = bench.datagrams._bounds.report()
    assert (use.accepted, use.series) == (2, 1)


def test_a_rule_that_changes_nothing_keeps_the_fast_parser(bench: Bench) -> None:
    """An access file with networks alone would make UDP several times slower."""
    put(bench, rule(1), rule(2, "198.51.100.0/24", events_per_second=1000.0))
    receive(bench, *[(b"type=a&n=%d" % n, HERE) for n in range(300)])
    batches: list[object] = []
    keep = bench.offered.submit_nowait
    bench.offered.submit_nowait = lambda events, source: (batches.append(events), keep(events, source))[1]  # type: ignore[method-assign,func-returns-value]  # a spy
    for host in (HERE, ELSEWHERE):
        receive(bench, *[(b"type=a&n=%d" % n, host) for n in range(300)])
    assert [type(events) for events in batches] == [SeriesBatch, SeriesBatch]
    receive(bench, *[(b"type=a&n=%d" % n, ELSEWHERE) for n in range(1000)])
    assert len(stored(bench)) == 300 + 300 + 1000
    assert bench.figure("refused", reason="rate") == 300


def test_invented_addresses_fill_no_memory(bench: Bench) -> None:
    """A flood with forged addresses could grow the daemon without end."""
    put(bench, rule(1))
    for n in range(10_000):
        bench.datagrams.received(b"type=a", f"10.0.{n // 256}.{n % 256}")
    assert len(bench.datagrams._senders) <= 4096


def test_a_fault_of_one_datagram_leaves_the_others(bench: Bench) -> None:
    """A line that is no event would cost the others of its turn once there is a rule with labels."""
    put(bench, rule(1, labels={"team": "shop"}))
    receive(bench, (b"\xff\n\n=", HERE), (b" ", HERE), (b"type=a", HERE))
    assert stored(bench) == ['{team="shop",type="a"}']
    assert bench.figure("refused", reason="empty") == 1

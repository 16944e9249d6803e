"""Any bytes at any parser: only refusals, and stored events are equal in every response.

`make fuzz` runs the same targets for longer, guided by coverage. What would be noticed if this
failed: one odd event costs every scraper all the others, or one odd request the daemon its log.
"""

from __future__ import annotations

import pytest
from fuzz.response import NEIGHBOURS, RULES, check
from fuzz.targets import TARGETS, Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.strategies import texts

from oneshotd.core.events import NewEvent, series_text

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, and such as its words and seeds are made of."""
    word = st.sampled_from([*target.words, *target.seeds]) | st.binary(max_size=6)
    return st.binary(max_size=300) | st.lists(word, max_size=30).map(b"".join)


@every_target
def test_nothing_breaks_on_any_bytes(target: Target) -> None:
    @settings(examples(150), suppress_health_check=[HealthCheck.too_slow])
    @given(inputs(target))
    def attempt(data: bytes) -> None:
        target.run(data)

    attempt()


@every_target
def test_nothing_breaks_on_damaged_good_input(target: Target) -> None:
    """Good input with a part cut out, doubled, or changed in one byte."""

    @settings(examples(100), suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(target.seeds), st.data())
    def attempt(seed: bytes, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(seed)))
        end = data.draw(st.integers(start, len(seed)))
        middle = data.draw(st.sampled_from([b"", seed[start:end] * 2]) | st.binary(max_size=3))
        target.run(seed[:start] + middle + seed[end:])

    attempt()


@every_target
def test_every_seed_is_taken(target: Target) -> None:
    """Otherwise the tests above would start from nothing but refusals."""
    for seed in target.seeds:
        assert target.run(seed) > 0


NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True).filter(
    lambda name: not name.startswith("__")  # which the grammar refuses
)


@given(st.lists(st.tuples(NAMES, texts()), max_size=5))
def test_any_labels_read_back_equal(pairs: list[tuple[str, str]]) -> None:
    check([NewEvent(series_text("any", dict(pairs).items()))])


@pytest.mark.parametrize(
    "event",
    [
        NewEvent('events_to_metrics{a="b}'),
        NewEvent('events_to_metrics{a="\n"}'),
        NewEvent('events_to_metrics{a="\\t"}'),
        NewEvent('events_to_metrics{a="x",a="y"}'),
        NewEvent('events_to_metrics{a="x"}', "0x1p4"),
        NewEvent('events_to_metrics{a="x"}', "1_000"),
        NewEvent('events_to_metrics{a-b="x"}'),
        NewEvent("process_cpu_seconds_total"),
        NewEvent("oneshotd_refused_total"),
        NewEvent("1up"),
    ],
    ids=str,
)
def test_the_readers_notice_what_must_not_be_stored(event: NewEvent) -> None:
    """Otherwise all of this would show nothing."""
    with pytest.raises((AssertionError, ValueError, KeyError)):
        check([event])


@pytest.mark.parametrize("name", sorted(RULES.taken))
def test_no_form_of_a_name_of_the_daemons_own_is_to_be_had(name: str) -> None:
    """Such an event would cost a strict scraper the whole response."""
    assert RULES.fault(name) == "is taken"


def test_the_neighbours_are_fine_by_themselves() -> None:
    check(NEIGHBOURS)

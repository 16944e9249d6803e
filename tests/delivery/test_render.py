"""What a response holds: with one sample too many a scraper discards all of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.samples import Sample
from support.examples import examples
from support.response_reader import Response as Read

from oneshotd.core.events import Pending
from oneshotd.core.negotiation import Format
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.scrape_limits import ScrapeLimits
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.scraper_features import Timestamps
from oneshotd.delivery.render import Response, respond
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Reservation, ScraperStatus, StoreStats

NOW = 1_700_000_000_000
SCRAPE, EVENT = Timestamps.SCRAPE, Timestamps.EVENT
EMPTY = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})
CROWD = StoreStats(
    events=9,
    size=99,
    head=9,
    scrapers=tuple(
        ScraperStatus(
            name=f"s{n}", live=True, cursor=0, pending=0, owed=0, seen_at=NOW, answered=3, timed=True
        )
        for n in range(20)
    ),
    lost={},
)


def pending(*series: str, value: str | None = None) -> Pending:
    """Return events of these series, a millisecond apart, the last one now."""
    return Pending(
        seqs=range(1, len(series) + 1),
        series=series,
        values=[value] * len(series),
        ats=range(NOW - len(series) + 1, NOW + 1),
        end=len(series),
    )


def response(
    rows: Pending,
    wanted: Wanted,
    *,
    history: TimestampHistory = NO_HISTORY,
    stats: StoreStats = EMPTY,
    **facts: Any,
) -> Response:
    given: dict[str, Any] = {"caps": Caps(), "default": SCRAPE, "shown": {}} | facts
    reservation = Reservation(token=1, pending=rows, history=history)
    return respond(reservation, wanted, telemetry=Telemetry(), stats=stats, now_ms=NOW, **given)


def read(made: Response, wanted: Wanted) -> list[Sample]:
    """Parse all samples with the strict parser of the format."""
    return Read(wanted.format.content_type, made.body, False).samples()


def events(made: Response, wanted: Wanted) -> list[tuple[str, float, float | None]]:
    """Return name, value and time (Unix seconds) of the samples that are not the daemon's own."""
    found = Read(wanted.format.content_type, made.body, False).events()
    return [(sample.name, sample.value, at(sample, wanted)) for sample in found]


def at(sample: Sample, wanted: Wanted) -> float | None:
    # prometheus_client: a float of seconds in the text format, an object in OpenMetrics.
    return None if sample.timestamp is None else round(float(sample.timestamp), 3)


@pytest.mark.parametrize("format", Format)
def test_events_come_first_and_the_daemons_own_metrics_after_them(format: Format) -> None:
    wanted = Wanted(format=format)
    made = response(pending("b", "a", "b"), wanted)
    names = [sample.name for sample in read(made, wanted)]
    assert names[:2] == ["b", "a"]
    assert events(made, wanted) == [("b", 2, None), ("a", 1, None)]
    assert all(name.startswith(("oneshotd_", "process_")) for name in names[2:])
    assert {"oneshotd_build_info", "oneshotd_held_events"} <= set(names)
    assert made.body.endswith(b"\n# EOF\n") == (format is Format.OPENMETRICS)
    assert (made.plan.events, made.plan.cursor) == (3, 3)


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize(
    ("asked", "default", "mode"),
    [
        (None, SCRAPE, SCRAPE),
        (None, EVENT, EVENT),
        (SCRAPE, EVENT, SCRAPE),
        (EVENT, SCRAPE, EVENT),
    ],
)
def test_the_mode_is_the_requested_one_or_the_default(
    asked: Timestamps | None, default: Timestamps, mode: Timestamps, format: Format
) -> None:
    wanted = Wanted(timestamps=asked, format=format, several=True)
    made = response(pending("a", "a"), wanted, default=default)
    late, now = (NOW - 1) / 1000, NOW / 1000
    if mode is EVENT:
        assert events(made, wanted) == [("a", 1, late), ("a", 1, now)]
        assert made.history == TimestampHistory(event_time=True, latest=NOW)
    else:
        assert events(made, wanted) == [("a", 2, None)]
        assert made.history == TimestampHistory(latest=NOW)


@pytest.mark.parametrize(
    ("several", "shown", "samples"),
    [(True, {}, [1, 1, 1]), (False, {}, [3]), (False, {"a": NOW - 1}, [2])],
)
def test_samples_depend_on_what_the_scraper_takes_and_was_shown(
    several: bool, shown: dict[str, int], samples: list[int]
) -> None:
    wanted = Wanted(timestamps=EVENT, several=several)
    made = response(pending("a", "a", "a"), wanted, shown=shown)
    assert [value for _, value, _ in events(made, wanted)] == samples


def test_a_change_of_modes_begins_at_the_latest_time_of_the_history() -> None:
    wanted = Wanted(timestamps=EVENT, several=True)
    made = response(pending("a", "a"), wanted, history=TimestampHistory(latest=NOW - 10))
    assert [at for _, _, at in events(made, wanted)] == [NOW / 1000, (NOW + 1) / 1000]
    assert made.history == TimestampHistory(
        event_time=True, floor=NOW + 2, latest=NOW + 1, moved={"a": NOW + 1}
    )


@given(
    limit=st.integers(1, 400),
    series=st.integers(0, 60),
    format=st.sampled_from(Format),
    mode=st.sampled_from(Timestamps),
    several=st.booleans(),
    crowd=st.booleans(),
)
def test_a_limit_holds_for_everything_in_the_response(
    limit: int, series: int, format: Format, mode: Timestamps, several: bool, crowd: bool
) -> None:
    """Beyond its `sample_limit` Prometheus discards the whole scrape; half of it is for events."""
    wanted = Wanted(
        limits=ScrapeLimits(samples=limit),
        format=format,
        timestamps=mode,
        several=several,
    )
    rows = pending(*(f"s{n // 2}" for n in range(series)))
    made = response(rows, wanted, stats=CROWD if crowd else EMPTY)
    samples = read(made, wanted)
    assert 1 <= len(samples) <= limit
    went = [sample for sample in samples if not sample.name.startswith(("oneshotd_", "process_"))]
    assert len(went) == len(made.plan.samples)
    each = several and mode is EVENT
    assert len(went) >= min(series if each else (series + 1) // 2, (limit + 1) // 2)


def test_a_limit_never_raises_the_caps() -> None:
    wanted = Wanted(limits=ScrapeLimits(samples=400))
    made = response(pending("a", "b", "c"), wanted, caps=Caps(samples=2))
    assert len(events(made, wanted)) == 2


@pytest.mark.parametrize("format", Format)
def test_a_response_is_never_empty(format: Format) -> None:
    """A person who reads it could not tell whether the daemon has answered."""
    for limit in (1, 2, 3):
        wanted = Wanted(limits=ScrapeLimits(samples=limit), format=format)
        assert 1 <= len(read(response(pending(), wanted), wanted)) <= limit


SIZES = [256, 400, 999, 3000, 20_000]
SOME = st.sampled_from(["a", 'b{x="y"}', f'c{{x="{"z" * 200}"}}', 'd{p="1",q="2"}'])


@examples(200)
@given(
    body=st.none() | st.sampled_from(SIZES) | st.integers(256, 30_000),
    samples=st.none() | st.integers(1, 200),
    labels=st.none() | st.integers(3, 8),
    value_length=st.none() | st.integers(1, 60),
    series=st.lists(SOME, max_size=30),
    format=st.sampled_from(Format),
    mode=st.sampled_from(Timestamps),
    several=st.booleans(),
    crowd=st.booleans(),
)
def test_every_limit_holds_for_the_own_metrics_as_well(
    body: int | None,
    samples: int | None,
    labels: int | None,
    value_length: int | None,
    series: list[str],
    format: Format,
    mode: Timestamps,
    several: bool,
    crowd: bool,
) -> None:
    """One own series beyond a limit would make Prometheus discard the whole scrape."""
    limits = ScrapeLimits(body=body, samples=samples, labels=labels, value_length=value_length)
    wanted = Wanted(limits=limits, format=format, timestamps=mode, several=several)
    made = response(pending(*series), wanted, stats=CROWD if crowd else EMPTY)
    assert len(made.body) <= (body or 10**9)
    empty = made.body in (b"", b"# EOF\n")  # Prometheus accepts that, too
    assert not empty or made.own_beyond
    found = [] if empty else read(made, wanted)
    assert len(found) <= (samples or 10**9)
    for sample in found:
        assert limits.label_fault(sample.name, sample.labels) is None
    if series:
        assert made.plan.events or made.plan.lost, "nothing moves"


@pytest.mark.parametrize("format", Format)
def test_an_event_goes_first_where_it_has_no_room_beside_the_own_metrics(format: Format) -> None:
    """The event would wait for ever, and all later ones with it."""
    long = f'c{{x="{"z" * 1100}"}}'
    wanted = Wanted(limits=ScrapeLimits(body=1500), format=format)
    made = response(pending("a", long), wanted)
    assert [name for name, _, _ in events(made, wanted)] == ["a"]
    made = response(pending(long), wanted)
    assert [name for name, _, _ in events(made, wanted)] == ["c"]
    assert (made.plan.lost, len(made.body) <= 1500) == ({}, True)


def test_limits_that_the_own_metrics_exceed_are_named() -> None:
    """The status page shows the limits; without them, missing metrics have no reason."""
    cases = [
        (ScrapeLimits(), ()),
        (ScrapeLimits(samples=10_000, body=2**20, labels=9, name_length=30, value_length=80), ()),
        (ScrapeLimits(samples=20), ("sample_limit",)),
        (ScrapeLimits(body=2000), ("body_size_limit",)),
        (ScrapeLimits(body=2000, body_name="max_scrape_size"), ("max_scrape_size",)),
        (ScrapeLimits(labels=4), ("label_limit",)),
        (ScrapeLimits(value_length=20), ("label_value_length_limit",)),
        (ScrapeLimits(samples=10, labels=4), ("label_limit", "sample_limit")),
    ]
    for limits, beyond in cases:
        made = response(pending("a"), Wanted(limits=limits), stats=CROWD)
        assert made.own_beyond == beyond

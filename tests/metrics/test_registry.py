"""The daemon's own metrics, read back with the parsers of prometheus_client."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from support.telemetry import BUSY, Shown, busy_telemetry, scraper, stats

from oneshotd.errors import REASONS
from oneshotd.metrics.doors import SOURCES
from oneshotd.metrics.registry import COMMIT_BOUNDS, MAX_TALLIES, SCRAPES, Telemetry
from oneshotd.metrics.store_families import LOSSES
from oneshotd.store.interface import StoreStats


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def test_every_label_value_is_there_from_the_start_at_zero(telemetry: Telemetry) -> None:
    """Otherwise `increase()` misses the first refusal, the first loss, the first event."""
    shown = Shown(telemetry, stats(scraper("a")))
    assert [shown("oneshotd_refused_total", reason=reason) for reason in REASONS] == [0] * len(REASONS)
    accepted = [shown("oneshotd_events_accepted_total", source=source) for source in SOURCES]
    assert accepted == [0] * len(SOURCES)
    assert [shown("oneshotd_scrapes_total", result=result) for result in SCRAPES] == [0] * len(SCRAPES)
    for reason in LOSSES:
        assert shown("oneshotd_scraper_lost_events_total", scraper="a", reason=reason) == 0
    for name in ("delivered", "returned", "revoked", "uncertain"):
        assert shown(f"oneshotd_scraper_{name}_events_total", scraper="a") == 0
    for name in ("events_duplicate", "udp_datagrams", "udp_lines", "udp_kernel_drops"):
        assert shown(f"oneshotd_{name}_total") == 0
    assert shown("oneshotd_commit_seconds_count") == 0
    assert shown("oneshotd_delivery_seconds_bucket", le="+Inf") == 0


def test_the_oldest_pending_event_is_shown_while_there_is_one(telemetry: Telemetry) -> None:
    """A scraper that is late could not be told from one that has every event."""
    late = attrs.evolve(scraper("late", pending=1), oldest_at=1_500)
    shown = Shown(telemetry, stats(late, scraper("has all")))
    name = "oneshotd_scraper_oldest_pending_timestamp_seconds"
    assert shown(name, scraper="late") == 1.5
    assert shown(name, scraper="has all") is None


def test_every_count_is_shown() -> None:
    shown = Shown(busy_telemetry(), BUSY)
    figures = {
        ("oneshotd_events_accepted_total", ("source", "udp")): 3,
        ("oneshotd_refused_total", ("reason", "syntax")): 1,
        ("oneshotd_scrapes_total", ("result", "events")): 1,
        ("oneshotd_scraper_pending_events", ("scraper", "a")): 8,
        ("oneshotd_scraper_owed_events", ("scraper", "a")): 2,
        ("oneshotd_scraper_last_seen_timestamp_seconds", ("scraper", "a")): 1.5,
        ("oneshotd_scraper_queueing_series", ("scraper", 'quo"te\\')): 6,
        ("oneshotd_scraper_delivered_events_total", ("scraper", 'quo"te\\')): 2,
        ("oneshotd_scraper_returned_events_total", ("scraper", "a")): 3,
        ("oneshotd_scraper_revoked_events_total", ("scraper", "a")): 4,
        ("oneshotd_scraper_uncertain_events_total", ("scraper", "a")): 5,
        ("oneshotd_delivery_seconds_bucket", ("le", "0.5")): 0,
        ("oneshotd_delivery_seconds_bucket", ("le", "1.0")): 2,
        ("oneshotd_delivery_seconds_bucket", ("le", "5.0")): 4,
        ("oneshotd_commit_seconds_bucket", ("le", "0.0025")): 0,
        ("oneshotd_commit_seconds_bucket", ("le", "0.005")): 1,
    }
    assert {key: shown(key[0], **dict([key[1]])) for key in figures} == figures
    plain = {
        "oneshotd_events_duplicate_total": 2,
        "oneshotd_held_events": 7,
        "oneshotd_held_bytes": 700,
        "oneshotd_udp_datagrams_total": 1,
        "oneshotd_udp_lines_total": 4,
        "oneshotd_udp_kernel_drops_total": 5,
        "oneshotd_store_writable": 1,
        "oneshotd_delivery_seconds_sum": 10,
        "oneshotd_delivery_seconds_count": 4,
        "oneshotd_commit_seconds_sum": 0.004,
    }
    assert {name: shown(name) for name in plain} == plain


def test_an_unwritable_store_shows(telemetry: Telemetry) -> None:
    telemetry.writable = False
    assert Shown(telemetry, stats())("oneshotd_store_writable") == 0


def test_a_scraper_that_is_not_live_has_no_series(telemetry: Telemetry) -> None:
    """A curl would add a series in Prometheus for each of its addresses."""
    telemetry.delivered("192.0.2.7 curl", 1, [0], 1)
    shown = Shown(telemetry, stats(scraper("192.0.2.7 curl", live=False, pending=3)))
    assert b"curl" not in shown.text
    assert shown("oneshotd_delivery_seconds_count") == 1


def test_deliveries_to_a_visitor_are_shown_once_it_is_live(telemetry: Telemetry) -> None:
    telemetry.delivered("a", 1, [0], 1)
    Shown(telemetry, stats())  # figures from before its first scrape
    Shown(telemetry, stats(scraper("a", live=False)))
    telemetry.delivered("a", 2, [0, 0], 1)
    shown = Shown(telemetry, stats(scraper("a")))
    assert shown("oneshotd_scraper_delivered_events_total", scraper="a") == 3


def test_losses_of_removed_scrapers_stay_visible(telemetry: Telemetry) -> None:
    """The operator of a scraper that was off for a weekend would not see what it missed."""
    now = stats(
        scraper("a", lost={"away": 1}),
        scraper("visitor", live=False, lost={"away": 2}),
        lost={("gone", "away"): 5, ("a", "log full"): 3},
    )
    shown = Shown(telemetry, now)
    name = "oneshotd_scraper_lost_events_total"
    assert shown(name, scraper="gone", reason="away") == 5
    assert shown(name, scraper="gone", reason="log full") is None
    assert shown(name, scraper="a", reason="log full") == 3
    assert shown(name, scraper="a", reason="away") == 1
    assert shown("oneshotd_scraper_pending_events", scraper="gone") is None


def test_counters_of_unknown_scrapers_are_bounded(telemetry: Telemetry) -> None:
    """A client with ever new names would fill the memory."""
    telemetry.returned("stays", 1)
    for number in range(MAX_TALLIES):
        telemetry.returned(f"passer-by {number}", 1)
    shown = Shown(telemetry, stats(scraper("stays")))
    assert shown("oneshotd_scraper_returned_events_total", scraper="stays") == 1
    later = Shown(telemetry, stats(scraper("stays"), scraper("passer-by 3")))
    assert later("oneshotd_scraper_returned_events_total", scraper="passer-by 3") == 0


def test_a_forgotten_scraper_starts_again_at_zero(telemetry: Telemetry) -> None:
    telemetry.returned("a", 1)
    telemetry.forget("a")
    telemetry.forget("never seen")
    shown = Shown(telemetry, stats(scraper("a")))
    assert shown("oneshotd_scraper_returned_events_total", scraper="a") == 0


def test_kernel_drops_are_summed_over_the_sockets(telemetry: Telemetry) -> None:
    telemetry.watch_drops(lambda: 2)
    telemetry.watch_drops(lambda: 3)
    assert Shown(telemetry, stats())("oneshotd_udp_kernel_drops_total") == 5


def test_unknown_kernel_drops_are_not_shown_as_none(telemetry: Telemetry) -> None:
    """0 would say that nothing was dropped."""
    telemetry.watch_drops(lambda: 2)
    telemetry.watch_drops(lambda: None)
    assert b"kernel_drops" not in Shown(telemetry, stats()).text


@pytest.mark.parametrize("method", ["accepted", "refused", "scraped"])
def test_a_label_value_outside_the_closed_set_is_a_mistake(telemetry: Telemetry, method: str) -> None:
    with pytest.raises(KeyError):
        getattr(telemetry, method)("no such thing")


# Formats


def openmetrics_of(telemetry: Telemetry, now: StoreStats) -> str:
    telemetry.render(now)
    text: bytes = openmetrics.generate_latest(telemetry.registry)
    return text.decode()


@pytest.mark.parametrize("now", [stats(), BUSY])
def test_the_strict_openmetrics_parser_takes_it(now: StoreStats) -> None:
    """Prometheus discards the whole response for one bad line, events included."""
    families = list(parse_openmetrics(openmetrics_of(busy_telemetry(), now)))
    assert {"process_cpu_seconds", "oneshotd_build"} <= {family.name for family in families}


def test_no_created_samples() -> None:
    """They would double the number of the daemon's own series for nothing."""
    assert b"_created" not in Shown(busy_telemetry(), BUSY).text
    assert "_created" not in openmetrics_of(busy_telemetry(), BUSY)


def test_names_follow_the_naming_rules() -> None:
    shown = Shown(busy_telemetry(), BUSY)
    for name in shown.names():
        assert re.fullmatch(r"(oneshotd|process)_[a-z][a-z_]*[a-z]", name), name
    for family in shown.families:
        assert family.documentation.endswith("."), family.name
        assert (family.type == "counter") == all(sample.name.endswith("_total") for sample in family.samples)


def test_the_process_and_the_build_are_shown(telemetry: Telemetry) -> None:
    shown = Shown(telemetry, stats())
    assert (shown("process_start_time_seconds") or 0) > 1e9
    assert "oneshotd_build_info" in shown.names()


def test_two_in_one_process_and_none_in_the_global_registry(telemetry: Telemetry) -> None:
    """Tests, and programs that embed the daemon, have registries of their own."""
    Telemetry().accepted("http")
    assert Shown(telemetry, stats())("oneshotd_events_accepted_total", source="http") == 0
    assert b"oneshotd" not in prometheus_client.generate_latest()


# Fitting a scraper's sample_limit


def lines(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def family_names(families: Iterable[Metric]) -> list[str]:
    return [family.name for family in families]


def test_the_number_of_samples_is_the_number_of_lines() -> None:
    """A wrong figure makes Prometheus' sample_limit discard the response, events included."""
    shown = Shown(busy_telemetry(), BUSY)
    assert shown.count == len(lines(shown.text)) > len(COMMIT_BOUNDS)


@given(st.integers(min_value=0, max_value=200))
def test_with_a_limit_whole_families_go_the_least_important_first(most: int) -> None:
    telemetry = busy_telemetry()
    everything, shown = Shown(telemetry, BUSY), Shown(telemetry, BUSY, most)
    assert len(lines(shown.text)) == shown.count <= most
    kept = family_names(shown.families)
    assert kept == family_names(everything.families)[: len(kept)]
    whole = {family.name: len(family.samples) for family in everything.families}
    assert {family.name: len(family.samples) for family in shown.families} == {
        name: whole[name] for name in kept
    }
    if len(kept) < len(whole):  # the next family did not fit
        assert shown.count + list(whole.values())[len(kept)] > most


def test_per_scraper_families_come_last() -> None:
    names = family_names(Shown(busy_telemetry(), BUSY).families)
    first = next(index for index, name in enumerate(names) if name.startswith("oneshotd_scraper_"))
    assert all(name.startswith("oneshotd_scraper_") for name in names[first:])
    assert names.index("process_cpu_seconds") < names.index("oneshotd_commit_seconds") < first


# Names that events may not have


def test_reserved_are_all_names_that_are_shown() -> None:
    reserved = Telemetry().reserved_names()
    shown = Shown(busy_telemetry(), BUSY)
    assert shown.names() <= reserved
    assert set(family_names(shown.families)) <= reserved


@pytest.mark.parametrize(
    "name",
    [
        "process_cpu_seconds",
        "process_cpu_seconds_total",
        "process_cpu_seconds_created",
        "process_open_fds_bucket",
        "oneshotd_build",
        "oneshotd_scraper_pending_events",
    ],
)
def test_reserved_are_the_expansions_too(name: str) -> None:
    assert name in Telemetry().reserved_names()


@pytest.mark.parametrize("name", ["events_to_metrics", "process_restarts", "go_gc_duration_seconds"])
def test_other_names_are_free(name: str) -> None:
    assert name not in Telemetry().reserved_names()


def test_an_event_of_any_reserved_name_would_have_broken_something_or_is_ours() -> None:
    """Each reserved name is one that the strict parser refuses beside the own families."""
    text = openmetrics_of(Telemetry(), stats()).removesuffix("# EOF\n")
    event = "# TYPE process_cpu_seconds_total gauge\nprocess_cpu_seconds_total 1\n# EOF\n"
    with pytest.raises(ValueError, match="process_cpu_seconds_total"):
        list(parse_openmetrics(text + event))

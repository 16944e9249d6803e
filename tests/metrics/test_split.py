"""Which metric is shown where: with a store of one daemon's own, and with one that several daemons share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.telemetry import BUSY, Shown, busy_telemetry

from oneshotd import __version__
from oneshotd.core.negotiation import Format
from oneshotd.core.scrape_limits import NO_LIMITS
from oneshotd.core.way import Way
from oneshotd.metrics.doors import SOURCES
from oneshotd.metrics.registry import Telemetry
from oneshotd.metrics.store_families import STORE_NAMES
from oneshotd.store.abilities import ConnectionCounts
from oneshotd.store.interface import ScraperCounts, StoreStats

#: The metrics of a daemon alone, but for the process and the build, from before there was another way.
ALONE = Path(__file__).with_name("one_daemon.txt")

#: The figures of a shared store: what the store has counted, not this daemon.
SHARED = evolve(
    BUSY,
    scrapers=tuple(
        evolve(
            status,
            counts=ScraperCounts(
                delivered=20, returned=30, revoked=40, uncertain=50, superseded=60, queueing=70
            ),
        )
        for status in BUSY.scrapers
    ),
)


def of_a_cluster() -> Telemetry:
    telemetry = busy_telemetry()
    telemetry.is_shared = True
    return telemetry


def names(text: bytes) -> set[str]:
    return {family.name for family in parse_text(text.decode())}


def of_the_daemon(telemetry: Telemetry, format: Format = Format.TEXT) -> bytes:
    return telemetry.daemon_metrics(format).within(NO_LIMITS)[0]


def test_a_daemon_alone_shows_what_it_always_has() -> None:
    """Dashboards and rules of those who use no database would break."""
    telemetry = busy_telemetry()
    telemetry.responded("a", Way.SCRAPE, ("label_limit",), ())
    families = re.split(r"(?m)^(?=# HELP )", telemetry.render(BUSY)[0].decode())
    left_out = ("# HELP process_", "# HELP oneshotd_build")
    assert "".join(each for each in families if not each.startswith(left_out)) == ALONE.read_text()


def test_a_scrape_of_a_cluster_shows_the_stores_figures_alone() -> None:
    """Behind a load balancer each scrape would show another daemon's counter, and rates would be nonsense."""
    shown = Shown(of_a_cluster(), SHARED)
    assert {family.name for family in shown.families} == {
        *STORE_NAMES,
        "oneshotd_build_info",
        "oneshotd_events_accepted",
    } - {"oneshotd_scraper_oldest_pending_timestamp_seconds"}  # nothing is pending for long
    kinds = ("delivered", "returned", "revoked", "uncertain", "superseded")
    counted = {name: 10 * n for n, name in enumerate(kinds, 2)}
    for name, figure in counted.items():
        assert shown(f"oneshotd_scraper_{name}_events_total", scraper="a") == figure
    assert shown("oneshotd_scraper_queueing_series", scraper="a") == 70
    assert shown("oneshotd_scraper_pending_events", scraper="a") == 8
    assert shown("oneshotd_scraper_lost_events_total", scraper="gone", reason="log full") == 12
    assert shown("oneshotd_scraper_lost_events_total", scraper="a", reason="late") == 0
    assert shown("oneshotd_events_accepted_total") == SHARED.head
    assert shown("oneshotd_held_events") == 7


def test_every_daemon_of_a_cluster_shows_the_same() -> None:
    """A series that one daemon shows and another does not would come and go."""
    busy, idle = of_a_cluster(), Telemetry(is_shared=True)
    busy.responded("a", Way.SCRAPE, ("label_limit",), ("label_limit",))
    assert busy.render(SHARED) == idle.render(SHARED)


def test_without_an_answer_of_the_store_there_are_no_old_figures() -> None:
    """A counter would fall behind what another daemon has shown, which counts as a restart from zero."""
    telemetry = of_a_cluster()
    telemetry.render(SHARED)
    text, samples = telemetry.render(None)
    assert (names(text), samples) == ({"oneshotd_build_info"}, 1)
    assert __version__ in text.decode()


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_daemons_own_figures_are_those_that_the_store_has_not(is_shared: bool) -> None:
    """They would be nowhere, or count twice in a sum over two jobs."""
    telemetry = busy_telemetry()
    telemetry.is_shared = is_shared
    scrape = names(telemetry.render(SHARED)[0])
    own = names(of_the_daemon(telemetry))
    assert not own & STORE_NAMES
    assert "oneshotd_build_info" in own and "process_cpu_seconds" in own
    assert {"oneshotd_events_accepted", "oneshotd_refused", "oneshotd_commit_seconds"} <= own
    database = {
        "oneshotd_database_reconnects",
        "oneshotd_database_commits_in_doubt",
        "oneshotd_superseded_deliveries",
    }
    if is_shared:
        assert scrape & own == {"oneshotd_build_info", "oneshotd_events_accepted"}
        assert database <= own
    else:
        assert own == scrape - STORE_NAMES
        assert not database & own


def test_a_daemons_own_figures_are_its_own() -> None:
    telemetry = of_a_cluster()
    telemetry.database = lambda: ConnectionCounts(reconnects=4, in_doubt=3)
    telemetry.superseded("a", 3)
    telemetry.render(SHARED)
    text = of_the_daemon(telemetry).decode()
    for line in (
        'oneshotd_events_accepted_total{source="udp"} 3.0',
        "oneshotd_database_reconnects_total 4.0",
        "oneshotd_database_commits_in_doubt_total 3.0",
        "oneshotd_superseded_deliveries_total 1.0",
    ):
        assert f"\n{line}\n" in text
    assert text.count("oneshotd_events_accepted_total{") == len(SOURCES)


def test_both_are_well_formed_in_both_formats() -> None:
    """A strict parser refuses the whole response."""
    telemetry = of_a_cluster()
    for body in (
        of_the_daemon(telemetry, Format.OPENMETRICS),
        telemetry.render(SHARED, Format.OPENMETRICS)[0],
    ):
        assert body.endswith(b"# EOF\n")
        assert list(parse_openmetrics(body.decode()))


def test_no_event_may_have_the_name_of_a_metric_of_either() -> None:
    """When a store is moved to a database, its held events would collide with the daemon's metrics."""
    for is_shared in (False, True):
        telemetry = Telemetry(is_shared=is_shared)
        shown = names(telemetry.render(StoreStats(events=0, size=0, head=0, scrapers=(), lost={}))[0])
        assert shown | names(of_the_daemon(telemetry)) <= telemetry.reserved_names()
        assert "oneshotd_database_reconnects_total" in telemetry.reserved_names()

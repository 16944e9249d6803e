"""Real scrapers as the judge: what each of them has stored of the same events, in both modes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import pytest
from attrs import frozen
from support.debian_packages import fetch
from support.prometheus import Prometheus
from support.response_reader import Response, complaints
from support.scraper_set import (
    BURST,
    MODES,
    PADDED,
    SERIES,
    SPECIAL,
    TEXTS,
    VALUES,
    WINDOW,
    Stage,
    Verdict,
    figures,
    stage,
)
from support.scrapers import KINDS, Kind

from oneshotd.core.negotiation import Format
from oneshotd.core.parsing.grammar import one_line_end

pytestmark = pytest.mark.e2e

DISCARDED = "prometheus_target_scrapes_sample_out_of_order_total"
SCRAPE_LABELS = ("job", "instance")

#: Of the events of `stage.spoiled`, which are thrown away and come again; samples in each series.
ONCE = {"one": [1.0], "three": [3.0], "values": [1.0, 2.0, 3.0]}
EACH = {"one": [1.0], "three": [1.0, 1.0, 1.0], "values": [1.0, 2.0, 3.0]}
#: Only the first of the values was in the response that came twice.
TWICE = {"one": [1.0, 1.0], "three": [3.0, 3.0], "values": [1.0, 1.0, 2.0, 3.0]}


@frozen(kw_only=True)
class Played:
    """The stage after both phases.

    :param clean: what the servers said after the first.
    :param at_last: after the second.
    """

    stage: Stage
    clean: Mapping[str, Verdict]
    at_last: Mapping[str, Verdict]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with stage(tmp_path_factory.mktemp("stage")) as made:
        yield Played(stage=made, clean=made.cut_and_burst(), at_last=made.throw_away())


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def server(played: Played, kind: Kind) -> Prometheus:
    return played.stage.servers[kind.name]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def samples(server: Prometheus, kind: Kind, selector: str) -> list[float]:
    """The values of the samples in a series, in order of time; without stale markers."""
    found = [value for _, value in server.samples(selector + WINDOW)]
    # Prometheus' API does not show them, VictoriaMetrics' shows them as NaN.
    return found if kind.is_prometheus else [value for value in found if not math.isnan(value)]


# What is stored


def test_repeats_are_counted(server: Prometheus, mode: str) -> None:
    """Twelve events are twelve on the dashboard, over several scrapes and in each series."""
    sums = server.by_labels(f'sum_over_time(counted{{job="{mode}"}}{WINDOW})', *SCRAPE_LABELS)
    assert sums == {'task="a"': 9, 'task="b"': 3}


def test_a_burst_of_one_series_is_counted(server: Prometheus, kind: Kind, mode: str) -> None:
    """Also where each event is a sample of its own and they do not fit one response."""
    assert server.value(f'sum_over_time(burst{{job="{mode}"}}{WINDOW})') == BURST
    count = server.value(f'count_over_time(burst{{job="{mode}"}}{WINDOW})')
    if kind.is_prometheus and mode == "event":
        assert count == BURST
    else:
        assert count < 20, "so many samples as scrapes at most"


def test_a_burst_of_many_series_is_complete(server: Prometheus, mode: str) -> None:
    """More series than fit one response: each has its one event."""
    show = f'sum_over_time(distinct{{job="{mode}"}}{WINDOW})'
    assert server.value(f"sum({show})") == server.value(f"count({show})") == SERIES


def test_values_come_one_by_one_in_order(server: Prometheus, kind: Kind, mode: str) -> None:
    """A reading that is the same as the one before is a reading, too."""
    assert samples(server, kind, f'valued{{job="{mode}"}}') == list(VALUES)
    assert server.value(f'count_over_time(valued{{job="{mode}"}}{WINDOW})') == len(VALUES)
    assert server.value(f'sum_over_time(valued{{job="{mode}"}}{WINDOW})') == sum(VALUES)


def test_events_with_and_without_a_value_keep_their_order(server: Prometheus, kind: Kind, mode: str) -> None:
    several = kind.is_prometheus and mode == "event"
    assert samples(server, kind, f'mixed{{job="{mode}"}}') == ([1, 7, 1, 1] if several else [1, 7, 2])


def test_every_character_arrives_as_it_was_sent(server: Prometheus, mode: str) -> None:
    """One that breaks a parser would cost the scraper the whole response."""
    found = server.query(f'sum_over_time(texts{{job="{mode}"}}{WINDOW})')
    assert {row["metric"]["text"]: row["value"][1] for row in found} == dict.fromkeys(
        map(one_line_end, TEXTS), "1"
    )


def test_numbers_that_are_none_and_the_limits_of_those_that_are(
    server: Prometheus, kind: Kind, mode: str
) -> None:
    found = {which: samples(server, kind, f'special{{job="{mode}",which="{which}"}}') for which in SPECIAL}
    if kind.is_prometheus:
        assert {which: list(map(repr, values)) for which, values in found.items()} == {
            which: [repr(float(text))] for which, text in SPECIAL.items()
        }
    else:
        # It stores decimal numbers of some 18 digits, of which the smallest may be nothing, and
        # drops what is NaN.
        assert found.pop("nan") == []
        assert found == {
            which: [pytest.approx(float(SPECIAL[which]), rel=1e-12, abs=1e-290)] for which in found
        }


def test_metrics_have_the_names_that_events_give_them(server: Prometheus, mode: str) -> None:
    for name, events in (("job:deploys:done", 2), ("events_to_metrics", 1)):
        found = server.by_labels(f'sum_over_time({name}{{job="{mode}"}}{WINDOW})', *SCRAPE_LABELS)
        assert list(found.values()) == [events], name


def test_a_response_that_was_cut_comes_again_and_counts_once(
    server: Prometheus, kind: Kind, mode: str
) -> None:
    """No scraper has kept a part of the half that it got."""
    job = f'job="spoiled-{mode}"'
    several = kind.is_prometheus and mode == "event"
    for task, values in (EACH if several else ONCE).items():
        assert samples(server, kind, f'cut{{{job},task="{task}"}}') == values
    padded = f"sum_over_time(padded{{{job}}}{WINDOW})"
    assert server.value(f"sum({padded})") == server.value(f"count({padded})") == PADDED


# What a server says of its scrapes


def test_no_sample_was_thrown_away(played: Played, kind: Kind) -> None:
    """No alert on duplicates, on what is out of order or out of bounds, fires."""
    expected: dict[str, float] = {}
    if not kind.is_prometheus:
        expected = {"vm_promscrape_scrapes_failed_total": len(MODES)}  # the cut ones; NaN is not counted
    assert played.clean[kind.name].thrown_away == expected


def test_nothing_is_wrong_in_its_log(played: Played, kind: Kind) -> None:
    warnings = list(played.clean[kind.name].warnings)
    if not kind.is_prometheus:  # Prometheus does not write of a scrape that failed
        for mode in MODES:
            (cut,) = (line for line in warnings if f'job="spoiled-{mode}"' in line)
            assert "connection reset by peer" in cut
            warnings.remove(cut)
    assert warnings == []


def test_it_was_never_down_but_for_the_cut(played: Played, kind: Kind) -> None:
    expected = dict.fromkeys(MODES, 0) | {f"spoiled-{mode}": 1 for mode in MODES}
    assert played.at_last[kind.name].down == expected


# A response that was read and comes again all the same


@pytest.mark.usefixtures("played")
def test_in_scrape_time_mode_what_comes_again_counts_twice(server: Prometheus, kind: Kind) -> None:
    """It has the time of another scrape, and nobody can know that it is the same."""
    job = 'job="spoiled-scrape"'
    assert {task: samples(server, kind, f'thrown{{{job},task="{task}"}}') for task in TWICE} == TWICE


@pytest.mark.usefixtures("played")
def test_in_event_time_mode_what_comes_again_counts_once(server: Prometheus, kind: Kind) -> None:
    """Where twins are dropped: VictoriaMetrics does it if it is told to, and else counts twice."""
    job = 'job="spoiled-event"'
    expected = EACH if kind.is_prometheus else ONCE if kind.drops_twins else TWICE
    assert {task: samples(server, kind, f'thrown{{{job},task="{task}"}}') for task in ONCE} == expected


def test_prometheus_counts_what_came_again_as_out_of_order(played: Played, kind: Kind) -> None:
    """The newest sample of a series is dropped in silence when it comes again; the older ones of
    the same response, two in each of two series here, are out of order and warned of. A server
    that has a window for late samples finds that it has them."""
    before, now = played.clean[kind.name], played.at_last[kind.name]
    if kind.takes_late:
        assert (now.thrown_away, now.warnings) == (before.thrown_away, before.warnings)
    else:
        assert now.thrown_away == {DISCARDED: 4}
        (warning,) = now.warnings
        assert "out-of-order samples" in warning and "num_dropped=4" in warning


def test_the_daemon_knows_what_became_of_each_response(played: Played) -> None:
    """What was cut has not arrived, what was thrown away has: each response had both faults."""
    assert {proxy.faults for proxy in played.stage.proxies.values()} == {2}
    daemon, proxies = played.stage.spoiled, played.stage.proxies
    in_one_response = {name: 7 if gets_several(name) else 5 for name in proxies}
    returned = figures(daemon, "oneshotd_scraper_returned_events_total")
    revoked = figures(daemon, "oneshotd_scraper_revoked_events_total")
    for name, events in in_one_response.items():
        # The reset of the second may be there before the last acknowledgement has been looked at.
        assert (returned[name], revoked[name]) in (
            (PADDED + events, events),
            (PADDED + events + events, 0),
        ), name
    for one in (daemon, played.stage.direct):
        assert set(figures(one, "oneshotd_scraper_uncertain_events_total").values()) == {0}
        assert one.errors() == []
    assert set(figures(played.stage.direct, "oneshotd_scraper_returned_events_total").values()) == {0}


def gets_several(name: str) -> bool:
    """Whether this scraper gets several samples of a series in one response."""
    return name.startswith("prometheus-") and name.endswith("event")


# What was sent


@pytest.mark.parametrize("reader", [f"{format.name}/{mode}" for format in Format for mode in MODES])
def test_strict_parsers_take_every_response_and_find_all_events(played: Played, reader: str) -> None:
    """What one of them refuses, some scraper may refuse."""
    read = played.stage.readers[reader]
    events = read.drain()
    assert len(read.responses) >= 4, "the test did not go over the cap of a response"
    assert all(response.zipped for response in read.responses)
    assert {response.is_text for response in read.responses} == {reader.startswith("TEXT")}
    assert {sample.timestamp is not None for sample in events} == {reader.endswith("event")}
    totals: dict[str, float] = defaultdict(float)
    for sample in events:
        if sample.name in ("counted", "burst", "distinct", "valued", "mixed"):
            totals[sample.name] += sample.value
    assert totals == {"counted": 12, "burst": BURST, "distinct": SERIES, "valued": sum(VALUES), "mixed": 10}
    assert [sample.value for sample in events if sample.name == "valued"] == list(VALUES)
    assert [sample.labels["text"] for sample in events if sample.name == "texts"] == list(
        map(one_line_end, TEXTS)
    )
    special = {sample.labels["which"]: sample.value for sample in events if sample.name == "special"}
    assert special == pytest.approx(
        {which: float(text) for which, text in SPECIAL.items()}, rel=0, nan_ok=True
    )


def test_strict_parsers_take_every_response_that_a_scraper_got(played: Played) -> None:
    for proxy in played.stage.proxies.values():
        assert {response.zipped for response in proxy.responses} == {True}, "every scraper takes gzip"
        for response in eventful(proxy.responses):
            response.samples()
    formats = {
        response.content_type for proxy in played.stage.proxies.values() for response in proxy.responses
    }
    assert formats == {format.content_type for format in Format}


def eventful(responses: list[Response]) -> list[Response]:
    """Those with events in them, and one without: there are many, all alike."""
    found = [response for response in responses if response.has_events]
    return found + [response for response in responses if not response.has_events][:1]


def test_promtool_takes_every_response_with_events(played: Played) -> None:
    """But for what it thinks of a name that somebody gave to a metric."""
    promtool = fetch("prometheus", "bookworm") / "usr/bin/promtool"
    sources = [reader.responses for reader in played.stage.readers.values()]
    sources += [proxy.responses for proxy in played.stage.proxies.values()]
    responses = [response for source in sources for response in eventful(source) if response.is_text]
    found = complaints(promtool, responses)
    assert set(found) <= {"job:deploys:done metric names should not contain ':'"}

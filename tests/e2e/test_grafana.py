"""The dashboard and docs/grafana.md count right: every query is run by Prometheus, and gives what it should.

A failure shows as a panel that says something else than what happened. There is no Grafana in
Debian; what it does to a query before and to a result after is in tests/support/grafana.py.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from support import grafana
from support.daemon import BROWSER, REPOSITORY, Daemon
from support.debian_packages import fetch
from support.grafana import Mark, Target
from support.postgresql_server import running_server
from support.processes import free_port
from support.prometheus import Prometheus, canonical, scrape_config

pytestmark = pytest.mark.e2e

PAGE = REPOSITORY / "docs" / "grafana.md"
BLOCKS = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.M | re.S)]

#: One body after the other, each scraped before the next.
BODIES = (
    "type=deploy&app=shop&version=1.2\n"
    "type=login_failed&user=ann\ntype=login_failed&user=ann\ntype=login_failed&user=ann\n"
    "type=backup&db=orders&result=ok&value=37.5\ntype=backup&db=users&result=failed&value=0",
    "type=deploy&app=shop&version=1.3\ntype=login_failed&user=ann\n"
    "type=backup&db=orders&result=ok&value=41.5",
)
EVENTS = sum(len(body.splitlines()) for body in BODIES)
#: The log has not room for all: the first body goes, which the scraper that stays away has not got.
HELD = len(BODIES[1].splitlines())
LOST = EVENTS - HELD

#: Seconds: of a panel's step, in which all events lie, and of `$__rate_interval` with it.
STEP, RATE_INTERVAL = 60, 75
SPAN = 3600
CHOSEN = {"valued": "backup|cron", "marked": "deploy|rollback|restart"}
#: Kind of the store -> the jobs that scrape the events, and the daemons.
JOBS = {
    "sqlite": {"job": "oneshotd", "daemons": "oneshotd"},
    "postgresql": {"job": "oneshotd", "daemons": "oneshotd-daemons"},
}

#: The job of the daemons themselves, for `scrape_config`.
DAEMONS = """\
  - job_name: oneshotd-daemons
    metrics_path: /metrics/daemon
    static_configs: [{{targets: [{}]}}]
"""

#: Of no interest, and the same in all that is compared.
LEFT_OUT = ("__name__", "job", "instance")

Judge = Callable[[float], bool]


def about(count: float) -> Judge:
    """A rate of a counter that rose by so many: Prometheus extrapolates, here by half at most."""
    return lambda rate: 0.9 * count <= rate * RATE_INTERVAL <= 1.5 * count


def between(low: float, high: float) -> Judge:
    return lambda value: low <= value <= high


def exactly(number: float) -> Judge:
    return lambda value: value == number


@frozen
class Rows:
    """What a query has to give: labels -> value, or what the value has to be.

    :param summed: the points of a graph add up to it; else its last point counts.
    """

    values: Mapping[str, float | Judge]
    summed: bool = False


def of_both(away: float | Judge, prometheus: float | Judge) -> Rows:
    return Rows({'scraper="away"': away, 'scraper="prometheus"': prometheus})


SCRAPED: Judge = between(1e12, 1e13)
UNVALUED = {'type="deploy"': 2.0, 'type="login_failed"': 4.0}
VALUED = {'type="backup"': 3.0}
NO_TIME = between(0, 10)

EXPECTED = {
    "Events by type, A": Rows(UNVALUED, summed=True),
    "Events by type, B": Rows(VALUED, summed=True),
    "Events in this time, by type, A": Rows(UNVALUED),
    "Events in this time, by type, B": Rows(VALUED),
    "Latest events, A": Rows(
        {
            'app="shop",type="deploy",version="1.2"': SCRAPED,
            'app="shop",type="deploy",version="1.3"': SCRAPED,
            'type="login_failed",user="ann"': SCRAPED,
            'db="orders",result="ok",type="backup"': SCRAPED,
            'db="users",result="failed",type="backup"': SCRAPED,
        }
    ),
    "Reachable, A": Rows({"": 1}),
    "Store can be written, A": Rows({"": 1}),
    "Held events, A": Rows({"": HELD}),
    "Held bytes, A": Rows({"": between(HELD * 20, HELD * 200)}),
    "Pending events, A": of_both(HELD, 0),
    "Pending events, B": of_both(0, 0),
    "Not seen for, A": of_both(between(1, 300), between(0, 60)),
    "Oldest pending event, A": Rows({'scraper="away"': between(1, 300)}),
    "Queueing series, A": of_both(0, 0),
    "Lost events, A": Rows(
        {
            'reason="away",scraper="away"': 0,
            'reason="log full",scraper="away"': LOST,
            'reason="clock",scraper="away"': 0,
            'reason="away",scraper="prometheus"': 0,
            'reason="log full",scraper="prometheus"': 0,
            'reason="clock",scraper="prometheus"': 0,
        }
    ),
    "Delivered, returned, revoked, uncertain, A": of_both(0, about(EVENTS)),
    "Delivered, returned, revoked, uncertain, B": of_both(0, 0),
    "Delivered, returned, revoked, uncertain, C": of_both(0, 0),
    "Delivered, returned, revoked, uncertain, D": of_both(0, 0),
    "Accepted, A": Rows({'source="http"': 0, 'source="http_bulk"': about(EVENTS), 'source="udp"': 0}),
    "Accepted, B": Rows({"": 0}),
    "Refused, A": Rows({'reason="value"': about(1)}),
    "Datagrams dropped, A": Rows({"": 0}),
    "Commit time, A": Rows({"": NO_TIME}),
    "Commit time, B": Rows({"": NO_TIME}),
    "Commit time, C": Rows({"": NO_TIME}),
    "From acceptance to delivery, A": Rows({"": NO_TIME}),
    "From acceptance to delivery, B": Rows({"": NO_TIME}),
    **{f"Database, {letter}": Rows({"": 0}) for letter in "ABC"},
    "Receivers, A": Rows({}),
}

#: Kind of the store -> what it gives otherwise.
OTHERWISE = {
    "sqlite": {f"Database, {letter}": Rows({}) for letter in "ABC"},
    "postgresql": {
        "Lost events, A": Rows(
            {
                **EXPECTED["Lost events, A"].values,
                **{f'reason="late",scraper="{name}"': 0 for name in ("away", "prometheus")},
            }
        )
    },
}


def deploys(at: float) -> list[Mark]:
    return [
        Mark(start=at, end=at, title="deploy", text="", tags=("shop", version)) for version in ("1.2", "1.3")
    ]


DEPLOYS = [
    ("Deploy of shop", "version 1.2", ("shop", "1.2")),
    ("Deploy of shop", "version 1.3", ("shop", "1.3")),
]
#: Annotation of the page -> title, text and tags of each mark.
MARKED = {
    "Deploys": DEPLOYS,
    "Backups": [
        ("Backup of orders", "ok", ("orders", "ok")),
        ("Backup of users", "failed", ("users", "failed")),
    ],
    "Long backups": [("Long backup of orders", "", ("orders",))],
    "Deploys, to the second": DEPLOYS,
}


class Recorded:
    """Servers that have scraped the events.

    :ivar store: the kind of the daemon's store; there are two daemons with "postgresql".
    :ivar at: when the dashboard's time ends; all events are in the last step, none on its edge.
    """

    def __init__(self, store: str, servers: Mapping[str, Prometheus], at: float) -> None:
        self.store = store
        self.servers = servers
        self.at = at

    def ask(self, server: Prometheus, expr: str, *, instant: bool) -> list[dict[str, Any]]:
        """The result, as Grafana asks for it; of an instant query as one point."""
        text = grafana.substituted(expr, CHOSEN | JOBS[self.store], step=STEP, span=SPAN)
        # The servers scrape once a second, not every 15 s, for which the queries are made.
        parameters: dict[str, Any] = {"query": text.replace(":5s]", ":333ms]")}
        if instant:
            parameters |= {"time": self.at}
        else:
            parameters |= {"start": self.at - 10 * STEP, "end": self.at, "step": STEP}
        path = "query" if instant else "query_range"
        rows: list[dict[str, Any]] = get(server, path, parameters)["result"]
        return [{**row, "values": row.get("values") or [row["value"]]} for row in rows]


def get(server: Prometheus, path: str, parameters: Mapping[str, Any]) -> Any:
    url = f"{server.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with BROWSER.open(url, timeout=10) as answer:
        return json.loads(answer.read())["data"]


def daemons_of(stack: ExitStack, folder: Path, store: str) -> list[Daemon]:
    """One daemon with a file, or two that share a database."""
    if store == "sqlite":
        addresses = [f"sqlite:{folder / 'oneshotd.sqlite'}"]
    else:
        server = stack.enter_context(running_server())
        addresses = [f"postgresql:{server.address(server.new_database())}"] * 2
    made = []
    for number, address in enumerate(addresses):
        port = free_port()
        options = (
            f"--http=tcp:{port}:interface=127.0.0.1",
            f"--udp=127.0.0.1:{port}",
            f"--store={address}",
            f"--max-events={EVENTS - 1}",
        )
        made.append(stack.enter_context(Daemon(folder / f"daemon{number}", options=options, port=port)))
    return made


def config(name: str, daemons: Sequence[Daemon]) -> str:
    """A scrape configuration; several daemons have a job of their own beside that of the events."""
    made = scrape_config(name, f"127.0.0.1:{daemons[0].port}")
    if len(daemons) > 1:
        made += DAEMONS.format(", ".join(f'"127.0.0.1:{each.port}"' for each in daemons))
    return made


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("grafana")
    with ExitStack() as stack:
        daemons = daemons_of(stack, folder, request.param)
        daemons[0].get("/metrics?scraper=away")
        made = {}
        for name, suite in (("prometheus", None), ("prometheus3", "sid")):
            binary = fetch("prometheus", suite) / "usr/bin/prometheus"
            made[name] = stack.enter_context(Prometheus(binary, folder / name, config(name, daemons)))
        for server in made.values():
            server.await_scrapes(2 * (1 if len(daemons) == 1 else 3))
        scraped = 0
        for number, body in enumerate(BODIES):
            post(daemons[number % len(daemons)], body)
            scraped += len(set(body.splitlines()))
            for server in made.values():
                await_value(server, "sum(count_over_time(events_to_metrics[1h]))", scraped)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(daemons[0], "type=backup&value=many")
        for server in made.values():
            await_value(server, 'sum(oneshotd_refused_total{reason="value"})', 1)
            await_value(server, 'sum(oneshotd_scraper_lost_events_total{scraper="away"})', LOST)
            await_value(server, 'oneshotd_scraper_delivered_events_total{scraper="prometheus"}', EVENTS)
        first = min(server.samples('events_to_metrics{version="1.2"}[1h]')[0][0] for server in made.values())
        at = first + STEP - 1
        assert time.time() < at, "too slow: all this is to lie in one step"
        yield Recorded(request.param, made, round(at, 3))
        assert [line for each in daemons for line in each.errors()] == []


def post(daemon: Daemon, body: str) -> None:
    request = urllib.request.Request(
        f"{daemon.url}/events", data=body.encode(), headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=10) as answer:
        assert answer.status == 200


def await_value(server: Prometheus, expression: str, value: float) -> None:
    server.process.until(lambda: server.value(expression) == value, 30, f"{expression} is {value}")


def table(rows: list[dict[str, Any]], *, summed: bool) -> dict[str, float]:
    """Labels -> number; the second server's own figures are left out."""
    found = {}
    for row in rows:
        if row["metric"].get("scraper") == "prometheus3":
            continue
        labels = {name: text for name, text in row["metric"].items() if name not in LEFT_OUT}
        numbers = [float(value) for _, value in row["values"]]
        found[canonical(labels)] = sum(numbers) if summed else numbers[-1]
    return found


@pytest.mark.parametrize("server", ["prometheus", "prometheus3"])
@pytest.mark.parametrize("target", list(grafana.targets()), ids=lambda target: target.where)
def test_a_panel_shows_what_happened(target: Target, server: str, recorded: Recorded) -> None:
    expected = OTHERWISE[recorded.store].get(target.where, EXPECTED[target.where])
    rows = recorded.ask(recorded.servers[server], target.expr, instant=target.instant)
    found = table(rows, summed=expected.summed)
    assert set(found) == set(expected.values)
    for labels, wanted in expected.values.items():
        judge = wanted if callable(wanted) else exactly(wanted)
        assert judge(found[labels]), f"{labels}: {found[labels]}"


def test_every_query_has_an_expectation() -> None:
    """A panel that nobody has tried is none."""
    assert {target.where for target in grafana.targets()} == {*EXPECTED}


@pytest.mark.parametrize("server", ["prometheus", "prometheus3"])
def test_the_dashboards_annotations_mark_what_happened(server: str, recorded: Recorded) -> None:
    (made,) = grafana.annotation_queries()
    rows = recorded.ask(recorded.servers[server], made["expr"], instant=False)
    assert grafana.marks(made, rows, STEP) == deploys(recorded.at)


@pytest.mark.parametrize("server", ["prometheus", "prometheus3"])
@pytest.mark.parametrize("made", BLOCKS, ids=lambda made: str(made["name"]))
def test_an_annotation_of_the_page_marks_what_happened(
    made: dict[str, Any], server: str, recorded: Recorded
) -> None:
    found = grafana.marks(made, recorded.ask(recorded.servers[server], made["expr"], instant=False), STEP)
    what = [(mark.title, mark.text, mark.tags) for mark in found]
    assert what == MARKED[made["name"]]
    times = {at for row in recorded.servers[server].query("events_to_metrics[1h]") for at, _ in row["values"]}
    for mark in found:
        assert mark.start == mark.end
        if made["useValueForTime"]:
            assert any(abs(mark.start - at) < 0.001 for at in times)
        else:
            assert mark.start == recorded.at


@pytest.mark.parametrize("server", ["prometheus", "prometheus3"])
def test_what_can_be_chosen_is_there(server: str, recorded: Recorded) -> None:
    """The dashboard opens with a job chosen."""
    queries = {
        made["name"]: made["query"]["query"] for made in grafana.variables() if made["type"] == "query"
    }
    assert queries.keys() == JOBS[recorded.store].keys()
    for name, query in queries.items():
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert found, query
        values = get(recorded.servers[server], f"label/{found[2]}/values", {"match[]": found[1]})
        assert values == [JOBS[recorded.store][name]]
    for made in grafana.variables():
        if made["type"] == "textbox":
            assert made["query"] == made["current"]["value"] == CHOSEN[made["name"]]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (PAGE.parent / link).exists(), link

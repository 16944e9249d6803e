"""etc/grafana/oneshotd.json is a valid dashboard, and each panel describes its remedies.

That its queries are right is shown in tests/e2e/test_grafana.py.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from support.grafana import FILE, annotation_queries, dashboard, panels, targets, variables

from oneshotd.metrics.store_families import STORE_NAMES

#: Width of a dashboard in Grafana's grid.
COLUMNS = 24

#: Functions that compare a sample with the one before: wrong for one-shot samples.
COMPARING = re.compile(r"\b(rate|irate|increase|delta|idelta|changes|resets|deriv)\(\s*events_to_metrics")

PANELS = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])


def test_it_can_be_imported_anywhere() -> None:
    """An import would replace another dashboard, or need a data source with our name."""
    found = dashboard()
    assert found["id"] is None
    assert "uid" not in found
    assert found["schemaVersion"] == 39
    assert found["title"] == "oneshotd"
    sources = set(re.findall(r'"uid": "(.*?)"', FILE.read_text(encoding="utf-8")))
    assert sources == {"${datasource}", "-- Grafana --"}
    first = variables()[0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")


def test_panels_have_distinct_names_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in panels()]
    titles = [panel["title"] for panel in panels()]
    assert len(ids) == len(set(ids)) == len(set(titles))
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, panel["title"]
        xs, ys = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        taken = set(itertools.product(xs, ys))
        assert taken and not taken & cells, panel["title"]
        cells |= taken
    assert len(cells) == COLUMNS * (1 + max(y for _, y in cells)), "there is a hole"


@PANELS
def test_a_panel_has_queries_and_a_description(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 80
    for named in re.findall(r'"([A-Z][^"]*)"', panel["description"]):
        known = {other["title"] for other in panels()} | {variable["label"] for variable in variables()}
        assert named in known, "the description names a panel that there is not"
    letters = [target["refId"] for target in panel["targets"]]
    assert letters and len(letters) == len(set(letters))
    for target in panel["targets"]:
        assert target["expr"].strip()
        assert target["datasource"]["uid"] == "${datasource}"
    if panel["type"] == "timeseries":
        # A window is never shorter than the scrape interval.
        assert panel["interval"] in ("15s", "1m")


def test_events_are_counted_by_correct_functions() -> None:
    """A panel would use a function that docs/queries.md forbids, or a window other than the step."""
    for where, expr in [
        *((target.where, target.expr) for target in targets()),
        *((made["name"], made["expr"]) for made in annotation_queries()),
    ]:
        assert not COMPARING.search(expr), where
        if "events_to_metrics" in expr:
            assert "_over_time(" in expr and "$__rate_interval" not in expr, where
        assert 'job="$job"' in expr or ('job="$daemons"' in expr and "events_to_metrics" not in expr), where


def test_a_query_asks_the_job_that_has_its_metrics() -> None:
    """With a database, a panel would be empty for ever."""
    for target in targets():
        names = {name.removesuffix("_total") for name in re.findall(r"oneshotd_\w+", target.expr)}
        if names:
            job = "job" if names <= STORE_NAMES else "daemons"
            assert not names & STORE_NAMES or job == "job", target.where
            assert set(re.findall(r'job="\$(\w+)"', target.expr)) == {job}, target.where


def test_every_variable_is_used() -> None:
    text = FILE.read_text(encoding="utf-8")
    for variable in variables():
        assert f"${variable['name']}" in text or f"${{{variable['name']}}}" in text

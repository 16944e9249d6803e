"""etc/grafana/oneshotd.json as Grafana reads it: its queries, and what it makes of their results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from support.daemon import REPOSITORY

FILE = REPOSITORY / "etc" / "grafana" / "oneshotd.json"

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_IN_FORMAT = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@frozen(kw_only=True)
class Target:
    """One query of the dashboard.

    :param where: title of the panel and the query's letter.
    :param instant: it is asked for one moment, not for a range.
    """

    where: str
    expr: str
    instant: bool


@frozen(kw_only=True)
class Mark:
    """An annotation on a graph.

    :param start: Unix seconds; of its first point.
    :param end: the same of its last point: neighbouring points become one annotation.
    """

    start: float
    end: float
    title: str
    text: str
    tags: tuple[str, ...]


def dashboard() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Those that ask for something, rows not among them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[Target]:
    """Every query of every panel."""
    for panel in panels():
        for target in panel["targets"]:
            where = f"{panel['title']}, {target['refId']}"
            assert target["instant"] is not target["range"], where
            yield Target(where=where, expr=target["expr"], instant=target["instant"])


def annotation_queries() -> list[dict[str, Any]]:
    """Those that are made of queries; the one that Grafana puts into every dashboard is left out."""
    return [made for made in dashboard()["annotations"]["list"] if not made.get("builtIn")]


def variables() -> list[dict[str, Any]]:
    """What can be chosen above the panels."""
    found: list[dict[str, Any]] = dashboard()["templating"]["list"]
    return found


def substituted(
    text: str, chosen: Mapping[str, str], *, step: int, span: int = 3600, scrape_interval: int = 15
) -> str:
    """The query as Grafana sends it.

    :param chosen: variable -> value.
    :param step: seconds between two points.
    :param span: seconds that the dashboard shows.
    :param scrape_interval: seconds, as set in the data source.
    :raises KeyError: it names a variable that there is not.
    """
    values = {
        **chosen,
        "__interval": f"{step}s",
        "__rate_interval": f"{max(step + scrape_interval, 4 * scrape_interval)}s",
        "__range": f"{span}s",
    }
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def marks(made: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], step: int) -> list[Mark]:
    """What Grafana's Prometheus data source (10, 11) makes of an annotation's result.

    A point that is not above 0 is none, a label that is missing leaves its name in a title, and
    tags are the values of those labels that there are, spelled without spaces in the list.

    :param rows: of a range query: labels, and points of Unix seconds and text.
    """
    found = []
    for row in rows:
        labels = row["metric"]
        times = [float(at) for at, value in row["values"] if made["useValueForTime"] or float(value) > 0]
        if made["useValueForTime"]:
            times = [float(value) / 1000 for _, value in row["values"]]
        for start, end in _stretches(times, step):
            found.append(
                Mark(
                    start=start,
                    end=end,
                    title=_rendered(made["titleFormat"], labels),
                    text=_rendered(made["textFormat"], labels),
                    tags=tuple(labels[key] for key in made["tagKeys"].split(",") if key in labels),
                )
            )
    return sorted(found, key=lambda mark: (mark.title, mark.text, mark.start))


def _stretches(times: Sequence[float], step: int) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for at in times:
        if found and found[-1][1] + step >= at:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def _rendered(text: str, labels: Mapping[str, str]) -> str:
    return _IN_FORMAT.sub(lambda found: labels.get(found[1]) or found[1], text)

"""The queries of docs/queries.md, with the results that stand under them.

A fenced block is one query: its kind is the word behind the fence, the lines up to the first
comment are the query, and each comment is a result, for the servers named in it or for all. Where it begins
with `Remote write:`, it is the result for events that were pushed, instead of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import Factory, define

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queries.md"

PROMETHEUS_2, PROMETHEUS_3, METRICSQL = SERVERS = ("Prometheus 2", "Prometheus 3", "MetricsQL")

#: How the events have reached the servers.
SCRAPED, PUSHED = WAYS = ("scraped", "pushed")

#: Kind of a block -> the servers that it is for.
KINDS = {
    "promql": SERVERS,
    "panel": SERVERS,
    "prometheus3": (PROMETHEUS_3,),
    "metricsql": (METRICSQL,),
}

#: Instead of a value: the time of a sample.
TIME = "T"

#: What the page says a panel's points add up to: off and on an edge of its windows.
TOTAL, TOTAL_ON_AN_EDGE = "total", "total on an edge"

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PUSHED = "Remote write: "
_FOR_SERVERS = re.compile(rf"((?:{'|'.join(SERVERS)})(?:, (?:{'|'.join(SERVERS)}))*): (.*)")
_FIGURE = re.compile(r"(step|total|total on an edge): (\w+)")
_ROW = re.compile(r"(?:\{(.*)\} )?(\S+)")


@define
class Query:
    """One query of the page.

    :ivar results: server -> labels as the page writes them -> value; for a panel: name of a figure -> text.
    :ivar pushed: the same where they are others for pushed events; for a panel the figures that are.
    """

    kind: str
    text: str
    results: dict[str, dict[str, str]] = Factory(dict)
    pushed: dict[str, dict[str, str]] = Factory(dict)

    def expected(self, server: str, way: str) -> dict[str, str]:
        """Return the results for a server."""
        scraped, pushed = self.results[server], self.pushed.get(server)
        if way == SCRAPED or pushed is None:
            return scraped
        return {**scraped, **pushed} if self.kind == "panel" else pushed

    @property
    def servers(self) -> tuple[str, ...]:
        """Whom it is for."""
        return KINDS[self.kind]


def blocks(kind: str) -> list[str]:
    """The texts of all fenced blocks of one kind."""
    return [text for found, text in _FENCED.findall(PAGE.read_text(encoding="utf-8")) if found == kind]


def queries() -> Iterator[Query]:
    """All queries, in their order.

    :raises AssertionError: a block or a comment in it is none that this understands.
    """
    for kind, text in _FENCED.findall(PAGE.read_text(encoding="utf-8")):
        if kind in KINDS:
            yield _query(kind, text.splitlines())


def _query(kind: str, lines: list[str]) -> Query:
    query = Query(kind, "\n".join(line for line in lines if not line.startswith("#")))
    assert query.text, f"a block {kind} without a query"
    for line in lines:
        if line.startswith("#"):
            comment = line.removeprefix("# ")
            is_pushed = comment.startswith(_PUSHED)
            _note(query, query.pushed if is_pushed else query.results, comment.removeprefix(_PUSHED))
    assert set(query.results) == set(query.servers), f"{query.text}: results for {sorted(query.results)}"
    return query


def _note(query: Query, results: dict[str, dict[str, str]], comment: str) -> None:
    named = _FOR_SERVERS.fullmatch(comment)
    servers = named[1].split(", ") if named else query.servers
    result = named[2] if named else comment
    for server in servers:
        assert server in query.servers, f"{query.text}: {server}"
        if query.kind == "panel":
            figure = _FIGURE.fullmatch(result)
            assert figure, f"{query.text}: {result}"
            results.setdefault(server, {})[figure[1]] = figure[2]
        else:
            rows = results.setdefault(server, {})
            row = _ROW.fullmatch(result)
            assert row, f"{query.text}: {result}"
            if result != "nothing":
                rows[row[1] or ""] = row[2]

"""The requests of `oneshotctl audit` to the daemon and to the store, and the parsing of their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from oneshotd.core.text import quoted
from oneshotd.core.way import Way
from oneshotd.ctl.audit_comparison import Events, Function, Window
from oneshotd.ctl.http_get import Server
from oneshotd.ctl.results import PROTOCOL, UNAVAILABLE, USAGE, Failed

#: Events of a page: the most that the daemon gives.
PAGE = 1000

#: The longest hold or lag: no daemon holds an event for a thousand years.
MAX_SECONDS = 1000 * 366 * 86_400.0

_MATCHER = re.compile(r'[A-Za-z_][A-Za-z0-9_]*(=~|!~|!=|=)"([^"\\\n]|\\.)*"')


@frozen(kw_only=True)
class Scraper:
    """The state of the scraper at the daemon.

    :param way: how it gets its events; None: the daemon does not say.
    :param cursor: seq up to which it has every event, except owed ones.
    :param owed_from: `at` (Unix ms) of the oldest event that may be owed; None: none is owed.
    :param lost: reason -> events that it will never get, since it is known.
    :param lag: the longest seconds from an event to its delivery; None if it is not known.
    :param lag_since: Unix ms of the first delivery that `lag` covers.
    :param hold: seconds for which the daemon keeps events.
    """

    name: str
    way: Way | None
    cursor: int
    pending: int
    owed_from: int | None
    lost: Mapping[str, int]
    lag: float | None
    lag_since: int | None
    hold: float


def matcher(text: str) -> str:
    """Return a label matcher of PromQL as it was given.

    :raises ValueError: it is none.
    """
    if not _MATCHER.fullmatch(text):
        raise ValueError(f"expected a label matcher such as 'instance=\"edge-1:8090\"', got {text[:80]!r}")
    return text


def read_scraper(daemon: Server, name: str) -> Scraper:
    """Return the state of a scraper.

    :raises Failed: the daemon does not know it, does not answer, or is none.
    """
    answer = daemon.get("/api/v1/scrapers", {})
    try:
        hold = _seconds(answer["hold_seconds"])
        known = {_text(row["name"]): row for row in answer["scrapers"]}
        if name not in known:
            others = ", ".join(map(quoted, sorted(known)[:20])) or "none"
            raise Failed(f"{daemon.name}: there is no scraper {quoted(name)}; known: {others}", USAGE)
        row = known[name]
        oldest, since, lag = row["oldest_pending_at"], row["lag_since_at"], row["longest_lag_seconds"]
        return Scraper(
            name=name,
            way=_way(row.get("way")),
            cursor=_whole(row["cursor"]),
            pending=_whole(row["pending"]),
            owed_from=_whole(oldest) if _whole(row["owed"]) and oldest is not None else None,
            lost={_text(reason): _whole(events) for reason, events in row["lost"].items()},
            lag=None if lag is None else _seconds(lag),
            lag_since=None if since is None else _whole(since),
            hold=hold,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _strange(daemon, "oneshotd of this version") from None


def _way(text: object) -> Way | None:
    """Return the way; None for a daemon that does not know the field, or not yet the way."""
    return None if text is None else Way(text)


def read_events(daemon: Server, window: Window, into: Events) -> None:
    """Add the held events that can have a sample in the window, page by page; those that are newer than
    `Events.head`.

    :raises Failed: the daemon does not answer, or is none.
    """
    asked = {"since": str(window.earliest), "until": str(window.latest + 1), "limit": str(PAGE)}
    if window.earliest <= 0:
        del asked["since"]
    before: int | None = None
    known = into.head
    while True:
        page = daemon.get("/api/v1/events", asked if before is None else {**asked, "before": str(before)})
        try:
            for event in page["events"]:
                if (seq := _whole(event["seq"])) <= known:
                    return
                labels, valued = _labels(event["labels"]), event["value"] is not None
                into.add(seq, _whole(event["at"]), _text(event["metric"]), labels, valued=valued)
            following = page["next"]
            if following is None:
                return
            if _whole(following) < 0 or (before is not None and following >= before):
                raise ValueError(following)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _strange(daemon, "oneshotd of this version") from None
        before = following


@frozen(kw_only=True)
class Counted:
    """The result of a query function for one series of the store."""

    labels: Mapping[str, str]
    number: float


def count(
    store: Server, function: Function, metric: str, matchers: Sequence[str], window: Window
) -> Iterator[Counted]:
    """Yield what a function gives for each series of a metric, over the window.

    :raises Failed: the store does not answer, answers in part, or is none.
    """
    answer = store.get("/api/v1/query", query_of(function, metric, matchers, window))
    try:
        if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
            raise ValueError
        rows: list[Any] = answer["data"]["result"]
        found = [Counted(labels=_labels(row["metric"]), number=_sample(row["value"])) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise _strange(store, "a store with the query API of Prometheus") from None
    partial = answer.get("isPartial") or answer.get("warnings")
    if partial:
        said = "" if partial is True else f": {quoted(str(partial)[:300])}"
        raise Failed(f"{store.name}: the answer is not complete{said}", UNAVAILABLE)
    yield from found


def query_of(function: Function, metric: str, matchers: Sequence[str], window: Window) -> Mapping[str, str]:
    """Return the parameters of an instant query at the end of the window."""
    name = metric.replace("\\", "\\\\").replace('"', '\\"')
    selector = ",".join([f'__name__="{name}"', *matchers])
    return {
        "query": f"{function.value}({{{selector}}}[{window.length}ms])",
        "time": f"{window.ends // 1000}.{window.ends % 1000:03d}",
        # VictoriaMetrics would answer for half a minute ago.
        "nocache": "1",
    }


def _whole(value: object) -> int:
    """Return a whole number of 64 bits, as JSON has it."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError(value)
    return value


def _seconds(value: object) -> float:
    """Return seconds that a date can be moved by."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(value)
    return float(value)


def _sample(pair: object) -> float:
    """Return the value of a sample: the query API has a time, and a text."""
    if not isinstance(pair, list) or not isinstance(pair[1], str):
        raise ValueError(pair)
    return float(pair[1])


def _labels(value: object) -> Mapping[str, str]:
    """Return labels, or the metric's name among them."""
    if not isinstance(value, dict):
        raise ValueError(value)
    return {_text(name): _text(text) for name, text in value.items()}


def _text(value: object) -> str:
    """Return a text; half a surrogate pair, which JSON can have and no output, is a question mark."""
    if not isinstance(value, str):
        raise ValueError(value)
    return value.encode(errors="replace").decode()


def _strange(server: Server, expected: str) -> Failed:
    return Failed(f"{server.name}: this is not {expected}", PROTOCOL)

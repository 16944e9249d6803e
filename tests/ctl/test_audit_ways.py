"""What `oneshotctl audit` learns from the daemon: how events reach the store, and their longest lag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from support.audit_servers import (
    GOOD,
    INSTANCE,
    Audit,
    events,
    now,
    pair,
    store,
    vector,
)


@pytest.mark.parametrize(
    ("said", "option"), [("push", ()), (None, ("--way", "push")), ("scrape", ("--way", "push"))]
)
def test_pushed_events_are_counted_by_their_samples(
    ran: Audit, stack: ExitStack, said: str | None, option: tuple[str, ...]
) -> None:
    """The daemon says that this scraper is a receiver; the option goes before."""
    daemon = events()
    daemon.scraper = {"way": said}
    pushed = {
        "count m": vector(({**INSTANCE, "type": "a"}, 2), ({**INSTANCE, "type": "b"}, 1)),
        "count other": vector(({**INSTANCE, "exported_job": "x"}, 1)),
    }
    _, prometheus, words = pair(stack, daemon.answer, store(pushed))
    status, out, _ = ran(*words, *option, "--match", 'instance="edge-1:8090"')
    assert status == 0 and out.startswith("equal: 4 events")
    assert "\nway:     push (remote write" in out
    assert ("--way is push, the daemon says scrape" in out) is (said == "scrape")
    assert {parameters["query"] for _, parameters, _ in prometheus.asked} == {
        f'count_over_time({{__name__="{metric}",instance="edge-1:8090"}}[600001ms])'
        for metric in ("m", "other")
    }


@pytest.mark.parametrize(
    ("row", "way", "assumed"),
    [({}, "scrape", False), ({"way": "event"}, "event", False), ({"way": None}, "scrape", True)],
)
def test_the_way_is_named_and_so_is_that_it_was_assumed(
    ran: Audit, stack: ExitStack, row: dict[str, Any], way: str, assumed: bool
) -> None:
    daemon = events()
    daemon.scraper = row
    _, _, words = pair(stack, daemon.answer, store(GOOD))
    found = json.loads(ran(*words, "--json")[1])
    assert (found["verdict"], found["way"]) == ("equal", way)
    assert ["scrape is assumed, see --way" in note for note in found["notes"]] == [True] * assumed
    lines = ran(*words)[1].splitlines()
    assert lines[1].startswith(f"way:     {way} (")


def test_a_daemon_without_the_field_is_an_older_one(ran: Audit, stack: ExitStack) -> None:
    daemon = events()

    def older(path: str, parameters: Mapping[str, str]) -> tuple[int, Any]:
        status, found = daemon.answer(path, parameters)
        if path == "/api/v1/scrapers":
            del found["scrapers"][0]["way"]
        return status, found

    _, _, words = pair(stack, older, store(GOOD))
    status, out, _ = ran(*words)
    assert status == 0 and "scrape is assumed, see --way" in out
    daemon.scraper = {"way": "telepathy"}
    _, _, words = pair(stack, daemon.answer, store(GOOD))
    status, _, err = ran(*words)
    assert status == 76 and "this is not oneshotd of this version" in err


@pytest.mark.parametrize("since", [None, 30_000], ids=["database", "restart"])
@pytest.mark.parametrize(
    ("older", "found", "status", "text"),
    [
        (False, 1, 1, 'missing: m{type="a"}: 2 delivered, 1 found; 1 missing'),
        (False, 2, 0, "equal: "),
        (False, 3, 1, 'surplus: m{type="a"}: 2 delivered, 3 found; 1 too many'),
        (True, 3, 0, 'edge:    m{type="a"}: 2 delivered, 3 found; up to 3 can be there'),
        (True, 4, 1, 'surplus: m{type="a"}: 2 delivered, 4 found; 1 too many'),
    ],
)
def test_without_a_lag_a_loss_is_found_and_mostly_a_repetition(
    ran: Audit, stack: ExitStack, since: int | None, older: bool, found: int, status: int, text: str
) -> None:
    """After a restart of the daemon, and where daemons share a database, the lag is not known."""
    daemon = events()
    daemon.scraper = {"lag_since_at": None, "longest_lag_seconds": None}
    if since is not None:
        daemon.scraper = {"lag_since_at": now() - since}
    if older:  # its sample may have come in the range
        daemon.events.insert(0, (now() - 900_000, "m", {"type": "a"}, None))
    row = vector(({**INSTANCE, "type": "a"}, found), ({**INSTANCE, "type": "b"}, 3.5))
    _, _, words = pair(stack, daemon.answer, store({**GOOD, "sum m": row}))
    got, out, _ = ran(*words)
    assert (got, text in out) == (status, True), out
    assert "the daemon does not know the longest lag" in out


def test_without_a_lag_of_the_whole_range_a_note_says_so(ran: Audit, stack: ExitStack) -> None:
    daemon = events()
    daemon.scraper = {"lag_since_at": now() - 30_000}
    _, prometheus, words = pair(stack, daemon.answer, store(GOOD))
    status, out, _ = ran(*words)
    assert status == 0 and "the daemon does not know the longest lag" in out
    assert "since" not in prometheus.asked[0][1]
    assert "does not know" not in ran(*words, "--lag", "30s")[1]

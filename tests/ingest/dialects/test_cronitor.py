"""Telemetry as Cronitor takes it."""

from __future__ import annotations

from typing import Any

import pytest

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.cronitor import read_telemetry
from oneshotd.ingest.dialects.pings import FAIL, RESET, START, SUCCESS, TICK, Ping
from oneshotd.ingest.dialects.translation import Message

PLACE = ("0123456789abcdef", "nightly-job")


def ping(state: str, details: dict[str, str] | None = None, **more: Any) -> Ping:
    empty = dict.fromkeys(["text", "env", "host", "metrics", "exit_code", "time"], "")
    return Ping(place=PLACE, state=state, details=empty | (details or {}), **{"series": ("", ""), **more})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", ping(TICK)),
        (b"state=run", ping(START)),
        (b"state=complete", ping(SUCCESS)),
        (b"state=fail&status_code=3", ping(FAIL, exit_code="3")),
        (b"state=fail&status_code=-1073741510", ping(FAIL, {"exit_code": "-1073741510"})),
        (b"state=ok", ping(RESET)),
        (b"state=tick", ping(TICK)),
        (b"state=run&series=a%20b", ping(START, run="a b")),
        (
            b"state=run&env=staging&host=h1&message=50%+done&stamp=1700000000.25",
            ping(
                START,
                {"env": "staging", "host": "h1", "text": "50% done", "time": "2023-11-14T22:13:20.250Z"},
                series=("staging", "h1"),
            ),
        ),
        (
            b"state=complete&metric=count:100&metric=duration:45.20",
            ping(SUCCESS, {"metrics": "count:100 duration:45.20"}, value="45.2"),
        ),
        (b"state=complete&duration=7.0", ping(SUCCESS, value="7")),
        (b"state=complete&duration=long&metric=duration:-1", ping(SUCCESS, {"metrics": "duration:-1"})),
        (b"state=complete&state=fail&other=1&=&&x=%zz%ff", ping(SUCCESS)),
    ],
)
def test_parameters(query: bytes, expected: Ping) -> None:
    assert read_telemetry(Message(path="/".join(PLACE), query=query)) == expected


def test_old_clients_have_the_state_in_the_path() -> None:
    path = "/".join(PLACE)
    assert read_telemetry(Message(path=f"{path}/run")).state == START
    assert read_telemetry(Message(path=f"{path}/run", query=b"state=fail")).state == FAIL
    assert read_telemetry(Message(path=f"{path}/")).state == TICK


def test_a_body_is_the_message_where_there_is_none() -> None:
    found = read_telemetry(Message(path="/".join(PLACE), body=b"all well\n"))
    assert found.details["text"] == "all well"
    found = read_telemetry(Message(path="/".join(PLACE), query=b"message=m", body=b"all well\n"))
    assert found.details["text"] == "m"


@pytest.mark.parametrize(
    ("path", "query", "status", "why"),
    [
        ("", b"", 404, "not found"),
        ("key", b"", 404, "not found"),
        ("key/", b"", 404, "not found"),
        ("key//run", b"", 404, "not found"),
        ("key/a/run/b", b"", 404, "not found"),
        ("key/a/halt", b"", 400, "state: expected run, complete, fail or ok, got 'halt'"),
        ("key/a", b"state=RUN", 400, "state: expected"),
        ("key/a", b"state=run&status_code=x", 400, "status_code: expected a number, got 'x'"),
        ("key/a", b"stamp=now", 400, "stamp: expected seconds since 1970"),
    ],
)
def test_other_requests_are_refused(path: str, query: bytes, status: int, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        read_telemetry(Message(path=path, query=query))
    assert refused.value.status == status

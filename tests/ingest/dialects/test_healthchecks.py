"""Pings as Healthchecks takes them: every path, and what is no path of a ping."""

from __future__ import annotations

import pytest

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.healthchecks import read_ping
from oneshotd.ingest.dialects.pings import FAIL, LOG, START, SUCCESS
from oneshotd.ingest.dialects.translation import Message

UUID = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
RUN = "123e4567-e89b-12d3-a456-426614174000"
KEY = "fqOOd6-F4MMNuCEnzTU01w"


@pytest.mark.parametrize(
    ("path", "place", "state", "exit_code"),
    [
        (UUID, (UUID,), SUCCESS, ""),
        (f"{UUID}/", (UUID,), SUCCESS, ""),
        (UUID.upper(), (UUID,), SUCCESS, ""),
        (f"{UUID}/start", (UUID,), START, ""),
        (f"{UUID}/fail", (UUID,), FAIL, ""),
        (f"{UUID}/log", (UUID,), LOG, ""),
        (f"{UUID}/0", (UUID,), SUCCESS, "0"),
        (f"{UUID}/007", (UUID,), FAIL, "7"),
        (f"{UUID}/255", (UUID,), FAIL, "255"),
        (f"{KEY}/backup", (KEY, "backup"), SUCCESS, ""),
        (f"{KEY}/start", (KEY, "start"), SUCCESS, ""),
        (f"{KEY}/backup/start", (KEY, "backup"), START, ""),
        (f"{KEY}/backup/1/", (KEY, "backup"), FAIL, "1"),
        (f"{UUID}/backup", (UUID, "backup"), SUCCESS, ""),
        (f"{UUID}/backup/fail", (UUID, "backup"), FAIL, ""),
        (f"{UUID}/start/log", (UUID, "start"), LOG, ""),
        (f"{UUID}/12345678901", (UUID, "12345678901"), SUCCESS, ""),
    ],
)
def test_paths(path: str, place: tuple[str, ...], state: str, exit_code: str) -> None:
    ping = read_ping(Message(path=path, query=b"create=1"))
    assert (ping.place, ping.state, ping.exit_code, ping.run) == (place, state, exit_code, "")


def test_run_id_and_body() -> None:
    ping = read_ping(
        Message(path=f"{UUID}/fail", query=b"x=%zz&rid=" + RUN.upper().encode(), body=b"disk\xff full\n")
    )
    assert ping.run == RUN
    assert ping.details == {"text": "disk\ufffd full"}


def test_the_end_of_a_long_body_is_read() -> None:
    """A job writes why it failed at the end of its output."""
    ping = read_ping(Message(path=UUID, body=b"x" * 1_000_000 + b"disk full"))
    assert ping.details["text"].endswith("xdisk full")
    assert len(ping.details["text"]) == 3000


@pytest.mark.parametrize(
    ("path", "query", "status", "why"),
    [
        ("", b"", 404, "not found"),
        ("/", b"", 404, "not found"),
        ("backup", b"", 404, "not found"),
        (UUID[:-1], b"", 404, "not found"),
        (f"{UUID}/back up", b"", 404, "not found"),
        (f"{KEY}/backup/stop", b"", 404, "not found"),
        (f"{KEY}/backup/start/1", b"", 404, "not found"),
        (f"{KEY}//start", b"", 404, "not found"),
        (f"{KEY}/" + "x" * 101, b"", 404, "not found"),
        (f"{KEY}/b\u00e4ckup", b"", 404, "not found"),
        (f"{KEY}/Backup", b"", 400, "^invalid url format$"),
        (f"{UUID}/256", b"", 400, "^invalid url format$"),
        (f"{UUID}/1234567890", b"", 400, "^invalid url format$"),
        (UUID, b"rid=7", 400, "^rid: invalid uuid format, got '7'$"),
        (UUID, b"rid=", 400, "^rid: invalid uuid format"),
        (UUID, b"rid", 400, "="),
        (UUID, b"rid=%zz", 400, "%zz"),
    ],
)
def test_other_requests_are_refused(path: str, query: bytes, status: int, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        read_ping(Message(path=path, query=query))
    assert refused.value.status == status
    assert UUID not in refused.value.text
    assert KEY not in refused.value.text

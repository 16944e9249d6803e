"""What an answer means for the event, and how often it is tried."""

from __future__ import annotations

import pytest

from oneshotd.emit.answers import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    EmitRefused,
    EmitUnavailable,
    RetrySchedule,
    check,
    check_ok,
    check_tally,
)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_good_answer_is_passed_on(status: int) -> None:
    """A stored event would be reported as lost."""
    assert check(status, None, b"ok\n") == b"ok\n"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 413, 415, 422, 501])
def test_a_refusal_is_final(status: int) -> None:
    """An event that nobody will ever take would be sent for the whole of `--retry`."""
    with pytest.raises(EmitRefused, match=rf"^refused \({status}\): because$") as caught:
        check(status, "3", b"because\nof that\n")
    assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), (None, 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)]
)
def test_trouble_passes(status: int, header: str | None, seconds: float) -> None:
    """An event would be given up because a proxy restarts."""
    with pytest.raises(EmitUnavailable, match=rf"^not now \({status}\): without a reason$") as caught:
        check(status, header, b"")
    assert caught.value.retry_after == seconds


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    """A hostile answer could repaint the sender's terminal."""
    with pytest.raises(EmitRefused, match=r"^refused \(400\):  \[2Jx$"):
        check(400, None, b"\x1b[2Jx")
    with pytest.raises(EmitRefused, match=r"…$") as caught:
        check(400, None, b"x" * 10_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"ok then", b"[]", b'{"stored": 1}', b'{"stored": []}', b"3"]
)
def test_another_server_is_not_taken_for_oneshotd(body: bytes) -> None:
    """With a wrong port every event would vanish, each with exit status 0."""
    with pytest.raises(EmitRefused, match=r"^this is not oneshotd"):
        check_ok(body)
    with pytest.raises(EmitRefused, match=r"^this is not oneshotd"):
        check_tally(body)


def test_the_daemons_own_answers_are_understood() -> None:
    """Every event would be reported as lost."""
    check_ok(b"ok\n")
    assert check_tally(b'{"stored": 2, "duplicates": 1}\n') == (2, 1)


def pauses(retry: float, retry_after: float = 0.0) -> list[float]:
    """All pauses, if each attempt takes no time."""
    now, found, patience = 100.0, [], RetrySchedule(retry, 100.0)
    error = EmitUnavailable("away", retry_after=retry_after)
    try:
        while True:
            found.append(patience.pause(now, error))
            now += found[-1]
    except EmitUnavailable:
        return found


def test_pauses_grow_and_end_with_the_time() -> None:
    """A daemon would be hammered while it starts, or an event given up too early."""
    found = pauses(60.0)
    assert found[:7] == [FIRST_PAUSE * 2**n for n in range(6)] + [LONGEST_PAUSE]
    assert max(found) == LONGEST_PAUSE
    assert sum(found) == pytest.approx(60.0)


def test_without_retry_there_is_one_attempt() -> None:
    """Without a key a second attempt could count twice."""
    assert pauses(0.0) == []


@pytest.mark.parametrize(("asked", "first"), [(1.0, 1.0), (3600.0, LONGEST_PAUSE)])
def test_the_daemon_may_ask_for_a_pause_but_not_for_an_hour(asked: float, first: float) -> None:
    """A busy daemon would be made busier, or a command wait for ever."""
    assert pauses(60.0, asked)[0] == first

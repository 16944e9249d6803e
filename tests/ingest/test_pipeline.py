"""The ingest pipeline: batches, back-pressure, and one answer for each client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.fake_store import logged, quiet
from support.ingest_driver import Rig, group, heard
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from oneshotd.core.events import Group, NewEvent
from oneshotd.errors import Refused
from oneshotd.ingest import pipeline as module
from oneshotd.store.interface import Stored


def refusal(answers: Sequence[Stored | Failure]) -> tuple[str, int]:
    [answer] = answers
    assert isinstance(answer, Failure)
    assert isinstance(answer.value, Refused)
    return answer.value.reason, answer.value.status


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(str(tmp_path / "store"))
    yield made
    made.pump.get(made.real.close())


# ---- batches ---------------------------------------------------------------------------------


def test_events_of_one_turn_share_a_commit(rig: Rig) -> None:
    """A thousand clients at once would cost a thousand fsyncs."""
    first, second = rig.submit("a", "b"), rig.submit("c")
    rig.ingest.submit_nowait([NewEvent("d")], "udp")
    assert rig.store.calls == []
    rig.turn()
    assert rig.store.calls == ["append"]
    assert (first, second) == ([Stored(stored=2, first=1)], [Stored(stored=1, first=3)])
    assert rig.series() == ["a", "b", "c", "d"]


def test_events_that_arrive_during_a_commit_go_together_in_order(rig: Rig) -> None:
    """Throughput would end at one event per fsync, or events of a client would change places."""
    rig.store.silent.add("append")
    answers = [rig.submit("e0")]
    rig.clock.advance(0)
    for number in range(1, 50):
        answers.append(rig.submit(f"e{number}"))
        rig.clock.advance(0)
    assert rig.store.calls == ["append"]
    assert not any(answers), "answered before it was on disk"
    rig.store.resume()
    rig.turn()
    assert rig.store.calls == ["append", "append"]
    assert answers == [[Stored(stored=1, first=seq)] for seq in range(1, 51)]
    assert rig.series() == [f"e{number}" for number in range(50)]


def test_nothing_is_answered_before_the_commit(rig: Rig) -> None:
    """A 200 would be a lie if the power failed right after it."""
    rig.disk.full = True
    answers = rig.submit("a")
    rig.clock.advance(0)
    assert answers == []
    rig.turn()
    assert refusal(answers) == ("store", 503)
    rig.disk.full = False
    assert rig.series() == []


# ---- back-pressure ---------------------------------------------------------------------------


def test_too_many_waiting_events_are_refused_until_some_are_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a slow disk the daemon would grow until it is killed, with all that waited."""
    monkeypatch.setattr(module, "MAX_WAITING_EVENTS", 3)
    rig.store.silent.add("append")
    taken = rig.submit("a", "b")
    rig.clock.advance(0)
    full = rig.submit("c", "d")
    assert refusal(full) == ("busy", 503), "what is in the store's hands must count as well"
    rest = rig.submit("e")
    assert refusal(rig.submit("f")) == ("busy", 503)
    rig.store.resume()
    rig.turn()
    assert taken == [Stored(stored=2, first=1)] and rest == [Stored(stored=1, first=3)]
    again = rig.submit("g", "h", "i")
    rig.turn()
    assert again == [Stored(stored=3, first=4)]
    assert rig.series() == ["a", "b", "e", "g", "h", "i"]
    assert (rig.ingest.load.events, rig.ingest.load.size) == (0, 0)


def test_too_many_waiting_bytes_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few but large events would fill the memory all the same."""
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    assert refusal(rig.submit("x" * 10_000)) == ("busy", 503)
    fits = rig.submit("x" * 9_000)
    assert refusal(rig.submit("y" * 1_000)) == ("busy", 503)
    detailed = Group(events=[NewEvent("y", detail="d" * 1_000)])
    assert refusal(heard(rig.ingest.submit(detailed, "http"))) == ("busy", 503)
    rig.turn()
    assert fits == [Stored(stored=1, first=1)]
    assert rig.ingest.load.size == 0


def test_refused_events_leave_room_for_the_next_ones(rig: Rig) -> None:
    """After an hour of a full disk the daemon would answer "busy" for ever."""
    rig.disk.full = True
    for _ in range(3):
        assert refusal(_turned(rig, rig.submit("a"))) == ("store", 503)
    assert (rig.ingest.load.events, rig.ingest.load.size) == (0, 0)
    rig.disk.full = False
    assert _turned(rig, rig.submit("b")) == [Stored(stored=1, first=1)]


def _turned(rig: Rig, answers: list[Stored | Failure]) -> list[Stored | Failure]:
    rig.turn()
    return answers


# ---- answers ---------------------------------------------------------------------------------


def test_all_clients_of_a_batch_are_told_that_the_store_failed(rig: Rig) -> None:
    """Some clients would wait for ever, and their events would be lost without a word."""
    rig.disk.full = True
    answers = [rig.submit("a"), rig.submit("b", "c")]
    rig.ingest.submit_nowait([NewEvent("d"), NewEvent("e")], "udp")
    rig.turn()
    for answer in answers:
        assert refusal(answer) == ("store", 503)
        assert isinstance(answer[0], Failure) and "full" in str(answer[0].value)
    assert rig.figure("oneshotd_refused_total", reason="store") == 2, "HTTP counts its own"


def test_a_bug_in_the_store_is_answered_and_logged(rig: Rig) -> None:
    """The clients would hang, and nobody would learn why."""
    with logged() as events:
        rig.store.faults["append"] = ZeroDivisionError("a bug")
        answer = _turned(rig, rig.submit("a"))
    assert refusal(answer) == ("store", 503)
    assert [type(event["log_failure"].value) for event in events if "log_failure" in event] == [
        ZeroDivisionError
    ]
    rig.store.resume()
    assert _turned(rig, rig.submit("b")) == [Stored(stored=1, first=1)]


def test_a_key_with_other_content_is_a_conflict_for_that_client_alone(rig: Rig) -> None:
    """A client's mistake would be taken for an event, or fail others that came with it."""
    rig.submit("a", key="k")
    other, good = rig.submit("b", key="k"), rig.submit("c")
    rig.turn()
    assert refusal(other) == ("conflict", 422)
    assert isinstance(other[0], Failure) and "'k'" in str(other[0].value)
    assert good == [Stored(stored=1, first=2)]
    assert rig.series() == ["a", "c"]


def test_repeats_are_answered_as_the_first_time_and_counted(rig: Rig) -> None:
    """A client that retries would be counted twice, or told something else than before."""
    first = _turned(rig, rig.submit("a", "b", key="k"))
    again = _turned(rig, rig.submit("a", "b", key="k"))
    assert first == [Stored(stored=2, first=1)]
    assert again == [Stored(stored=2, first=1, again=True)]
    rig.ingest.submit_nowait([NewEvent("c", key="1"), NewEvent("c", key="1"), NewEvent("c", key="2")], "udp")
    rig.turn()
    assert rig.series() == ["a", "b", "c", "c"]
    assert rig.figure("oneshotd_events_duplicate_total") == 3
    assert rig.figure("oneshotd_events_accepted_total", source="http") == 2
    assert rig.figure("oneshotd_events_accepted_total", source="udp") == 2


def test_a_client_that_hangs_up_changes_nothing_for_its_event(rig: Rig) -> None:
    """klein#840: the event would be lost although it was taken, or the batch would stumble."""
    before = rig.ingest.submit(group("a"), "http")
    others = rig.submit("b")
    during = rig.ingest.submit(group("c"), "http")
    gone = [heard(before), heard(during)]
    before.cancel()
    rig.clock.advance(0)
    during.cancel()
    quiet(rig.pump, rig.real)
    assert [isinstance(answer, Failure) and answer.type for [answer] in gone] == [CancelledError] * 2
    assert others == [Stored(stored=1, first=2)]
    assert rig.series() == ["a", "b", "c"]
    assert rig.figure("oneshotd_events_accepted_total", source="http") == 3


# ---- events without a waiting client ---------------------------------------------------------


def test_lines_of_a_datagram_stand_alone(rig: Rig) -> None:
    """One line with a used key would take the other lines of its datagram along."""
    rig.submit("a", key="k")
    rig.turn()
    events = [NewEvent("b"), NewEvent("x", key="k"), NewEvent("c", key="l"), NewEvent("d")]
    rig.ingest.submit_nowait(events, "udp")
    rig.turn()
    assert sorted(rig.series()) == ["a", "b", "c", "d"]
    assert rig.figure("oneshotd_refused_total", reason="conflict") == 1
    assert rig.figure("oneshotd_events_accepted_total", source="udp") == 3


def test_lines_with_and_without_a_key_keep_their_order(rig: Rig) -> None:
    """A value would be followed by an older one of its series."""
    events = [NewEvent("a"), NewEvent("b", key="1"), NewEvent("c"), NewEvent("d"), NewEvent("e", key="2")]
    rig.ingest.submit_nowait(events, "udp")
    rig.turn()
    assert rig.series() == ["a", "b", "c", "d", "e"]


def test_datagrams_that_find_no_room_are_counted_and_logged_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost in silence; nor does a flood of datagrams fill the log."""
    monkeypatch.setattr(module, "MAX_WAITING_EVENTS", 2)
    with logged() as events:
        for _ in range(10):
            rig.ingest.submit_nowait([NewEvent("a"), NewEvent("b", key="k"), NewEvent("c")], "udp")
        rig.clock.advance(0.5)
        rig.ingest.flush()
    assert rig.figure("oneshotd_refused_total", reason="busy") == 28
    assert [event["count"] for event in events if event.get("reason") == "busy"] == [1, 27]
    rig.turn()
    assert rig.ingest.load.events == 0
    assert rig.series() == ["a", "b"]


def test_no_events_are_no_reason_to_write(rig: Rig) -> None:
    """A datagram of refused lines would cost an fsync."""
    rig.ingest.submit_nowait([], "udp")
    rig.turn()
    assert rig.store.calls == []


# ---- the end ---------------------------------------------------------------------------------


def test_drain_waits_for_all_accepted_events_and_their_answers(rig: Rig) -> None:
    """At SIGTERM the daemon would end before the disk has what it has taken."""
    assert rig.ingest.drain().called, "with nothing to do it must not hang"
    rig.store.silent.add("append")
    first = rig.submit("a")
    rig.clock.advance(0)
    second = rig.submit("b")
    answered: list[bool] = []
    rig.ingest.drain().addCallback(lambda _: answered.append(bool(first and second)))
    rig.ingest.drain().addCallback(lambda _: answered.append(True))
    assert answered == []
    rig.store.resume()
    rig.turn()
    assert answered == [True, True]
    assert rig.series() == ["a", "b"]


def test_drain_waits_for_events_that_an_answer_leads_to(rig: Rig) -> None:
    """A client that sends its next event on the answer to the last would lose it."""
    later: list[Stored | Failure] = []

    def go_on(_: Stored) -> None:
        rig.ingest.submit(group("b"), "http").addBoth(later.append)

    rig.ingest.submit(group("a"), "http").addCallback(go_on)
    ended: list[bool] = []
    rig.ingest.drain().addCallback(lambda _: ended.append(bool(later)))
    rig.turn()
    assert ended == [True], "the second event was not waited for"
    assert rig.series() == ["a", "b"]


# ---- an ingest that does not move ------------------------------------------------------------


def test_how_long_the_longest_waits(rig: Rig) -> None:
    """/readyz would say ok while no POST is answered."""
    assert rig.ingest.waits() == 0
    rig.store.silent.add("append")
    rig.submit("a")
    rig.clock.advance(3)
    rig.submit("b")
    rig.clock.advance(4)
    assert rig.ingest.waits() == 7
    rig.store.resume()
    rig.turn()
    assert rig.ingest.waits() == 0


def test_events_that_never_become_a_batch_are_waiting_too(rig: Rig) -> None:
    """A batch whose timer does not come would be no fault to /readyz."""
    rig.ingest.submit_nowait([NewEvent("a")], "udp")
    for call in rig.clock.getDelayedCalls():
        call.cancel()  # what a clock that was set back did to it
    rig.clock.advance(20)
    assert rig.ingest.waits() == 20

"""What a receiver does in a step: under which reservation, and what goes first."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from support.receiver_driver import SETTINGS, Daemon, ReceiverDriver
from support.remote_write_reader import STALE, read

from oneshotd.core.events import Group, NewEvent
from oneshotd.delivery.remote_write import batch_size
from oneshotd.delivery.remote_write import receiver as receiver_module
from oneshotd.delivery.remote_write.batching import plan_batch
from oneshotd.delivery.remote_write.figures import State
from oneshotd.delivery.remote_write.pacing import LINGER
from oneshotd.delivery.remote_write.receiver import LEASE_MARGIN, MAX_DELAY

VISIBLE = 15_000


def paused(driver: ReceiverDriver, daemon: Daemon, seconds: float) -> None:
    """Stop the process between its question for a reservation and the answer, for so long."""
    driver.run(5)
    driver.withheld = {"reserve"}
    driver.append("b")
    assert daemon.request is None
    driver.time.advance(seconds)
    daemon.clock.advance(seconds)
    driver.quiet()
    driver.calls.clear()


@pytest.mark.parametrize(
    ("seconds", "calls"), [(0.0, []), (MAX_DELAY, []), (MAX_DELAY + 0.125, ["settle", "reserve"])]
)
def test_a_daemon_that_was_paused_sends_under_a_new_reservation(
    driver: ReceiverDriver, seconds: float, calls: list[str]
) -> None:
    """The lease could end before the request, whose events another daemon sends then, too."""
    daemon = driver.daemon()
    paused(driver, daemon, seconds)
    driver.let_go()
    assert daemon.request is not None
    assert driver.calls == calls
    driver.serve()
    assert len(driver.prometheus.times("b")) == 1
    assert driver.stats().scrapers[0].pending == 0


def test_a_daemon_that_was_paused_beyond_its_lease_sends_nothing(driver: ReceiverDriver) -> None:
    """It would send old events after newer ones of another daemon, and take the refusal for a loss."""
    daemon = driver.daemon(shared=True)
    paused(driver, daemon, SETTINGS.timeout + LEASE_MARGIN + 1)
    requests = len(daemon.requests)
    driver.withheld = set()
    other = driver.daemon(shared=True)
    driver.run(1)
    driver.append("b")
    driver.run(1)
    assert len(driver.prometheus.times("b")) == 2 and other.requests
    driver.let_go()
    driver.run(1)
    assert len(daemon.requests) == requests
    assert daemon.receiver.figures.state is State.STANDING_BY
    assert driver.lost() == {}


def test_a_daemon_whose_lease_ended_during_its_request_leaves_the_rest_to_the_other(
    driver: ReceiverDriver,
) -> None:
    """It would count events as delivered that another daemon has sent, and end their series too early."""
    daemon = driver.daemon(shared=True)
    driver.append("a")
    driver.run(2)
    driver.append("b")
    request = daemon.request
    assert request is not None
    driver.time.advance(SETTINGS.timeout + LEASE_MARGIN + 1)  # the process is stopped: its timers are, too
    other = driver.daemon(shared=True)
    other_request = other.request
    assert other_request is not None
    other_request.reply(driver.prometheus.receive(other_request.body))
    driver.quiet()
    samples = daemon.receiver.figures.samples
    request.reply(driver.prometheus.receive(request.body))
    driver.quiet()
    assert daemon.receiver.figures.samples == samples, "the other daemon has counted it"
    assert daemon.telemetry.tally(SETTINGS.name).superseded == 1
    assert daemon.receiver.figures.state is not State.IDLE
    driver.run(3)
    assert daemon.receiver.figures.state is State.STANDING_BY
    driver.run(30)
    assert daemon.receiver.figures.markers["accepted"] == 0
    assert [len(driver.prometheus.marked(name)) for name in "ab"] == [1, 1]
    assert driver.lost() == {} and driver.prometheus.refused == 0


def test_a_daemon_whose_lease_ended_stands_by_also_if_nothing_has_moved(driver: ReceiverDriver) -> None:
    """The other daemon is about to send the same events; both would go on, and each end the other's lease."""
    daemon = driver.daemon(shared=True)
    driver.append("a")
    driver.run(2)
    driver.append("b")
    request = daemon.request
    assert request is not None
    driver.time.advance(SETTINGS.timeout + LEASE_MARGIN + 1)
    other = driver.daemon(shared=True)
    assert other.request is not None
    other.request.reply(503)
    driver.quiet()
    request.reply(driver.prometheus.receive(request.body))
    driver.quiet()
    requests = len(daemon.requests)
    driver.run(3)
    assert len(daemon.requests) == requests
    assert daemon.receiver.figures.state is State.STANDING_BY
    assert driver.stats().scrapers[0].pending == 0 and driver.lost() == {}


def test_the_only_one_of_several_daemons_goes_on_with_owed_and_lost_events(driver: ReceiverDriver) -> None:
    """It would take its own deliveries for those of another daemon, and wait for that one."""
    driver.daemon(evolve(SETTINGS, max_labels=4), shared=True)
    driver.append("a", "a", 'a{x="1",y="2"}', "b", "a", 'a{x="1",y="2"}', "c")
    driver.run(0.5, step=0.125)
    assert driver.stats().scrapers[0].pending == 0
    assert [len(driver.prometheus.times(name)) for name in "abc"] == [3, 1, 1]
    assert driver.lost() == {"max_labels": 2}


def test_a_daemon_that_stands_by_returns_its_reservation_at_once(driver: ReceiverDriver) -> None:
    """The daemon that sends would wait for the end of the lease."""
    first, second = driver.daemon(shared=True), driver.daemon(shared=True)
    driver.run(2)
    driver.pump.get(driver.store.append([Group(events=[NewEvent("a")])]))
    first.receiver.wake()
    driver.serve()
    assert len(driver.prometheus.times("a")) == 1
    second.clock.advance(1)
    driver.quiet()
    assert second.receiver.figures.state is State.STANDING_BY
    assert not driver.stats().scrapers[0].in_flight
    driver.append("b")
    assert first.request is not None


def test_a_small_request_is_not_followed_at_once_by_the_next_one(driver: ReceiverDriver) -> None:
    """Each event of a steady stream would cost a request and two commits."""
    daemon = driver.daemon()
    driver.append("a")
    answer(driver, daemon)
    driver.append("b")
    assert daemon.request is None
    daemon.clock.advance(LINGER)
    driver.quiet()
    assert daemon.request is not None


def test_events_that_did_not_fit_into_a_request_follow_at_once(driver: ReceiverDriver) -> None:
    """A backlog of one series would be sent at 20 events a second."""
    driver.append("a", "a", "b")
    driver.time.advance(1)
    daemon = driver.daemon()
    answer(driver, daemon)
    [sent] = [each for is_delivered, each in driver.settled if is_delivered]
    assert (sent.events, sent.queueing, sent.cursor) == (2, 1, 3)
    assert daemon.request is not None
    answer(driver, daemon)
    assert daemon.request is None and driver.stats().scrapers[0].pending == 0


def test_the_store_counts_what_was_sent_and_not_accepted(driver: ReceiverDriver) -> None:
    """Daemons on one database have no other count of it."""
    driver.append("a", "b", "bad")
    daemon = driver.daemon()
    assert daemon.request is not None
    driver.settled.clear()
    daemon.request.reply(503)
    driver.run(5)
    driver.prometheus.bad = {"bad"}
    driver.append("bad")
    driver.run(5)
    sent = [(delivered, each.events) for delivered, each in driver.settled if each.events]
    # A refused one is returned until a request without samples was accepted, and then counts as lost.
    assert sent == [(False, 3), (True, 3), (False, 1)]
    assert driver.lost() == {"refused": 1}
    assert driver.lost() == {"refused": 1}


def answer(driver: ReceiverDriver, daemon: Daemon) -> None:
    """Answer the request in flight as Prometheus does."""
    assert daemon.request is not None
    daemon.request.reply(driver.prometheus.receive(daemon.request.body))
    driver.quiet()


def test_a_marker_is_dropped_once_a_later_event_may_be_stored(driver: ReceiverDriver) -> None:
    """The request of markers would be refused, and each half of it, down to that marker."""
    daemon = driver.daemon()
    driver.append("a", "b")
    driver.serve()
    driver.pass_time(16)  # the markers are due in a moment
    driver.append("a")
    assert daemon.request is not None
    driver.prometheus.receive(daemon.request.body)
    daemon.request.reply(503)
    driver.run(60)
    assert driver.prometheus.refused == 0
    assert [len(driver.prometheus.marked(name)) for name in "ab"] == [1, 1]


def test_events_go_between_two_requests_of_markers(driver: ReceiverDriver) -> None:
    """Thousands of series that end together would hold new events up."""
    daemon = driver.daemon()
    driver.append(*(f's{{n="{number}"}}' for number in range(5000)))
    driver.run(10)
    driver.pass_time(10)
    assert daemon.request is not None and is_of_markers(daemon)
    driver.append("new")
    daemon.request.reply(driver.prometheus.receive(daemon.request.body))
    driver.quiet()
    driver.pass_time(1)  # a part of the time is the clients'
    assert daemon.request is not None and not is_of_markers(daemon)
    daemon.request.reply(driver.prometheus.receive(daemon.request.body))
    driver.quiet()
    driver.pass_time(1)
    assert daemon.request is not None and is_of_markers(daemon)
    driver.run(30)
    assert daemon.receiver.figures.markers["accepted"] == 5001


def test_a_fault_of_the_program_ends_no_receiver(
    driver: ReceiverDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver would get nothing until the next start of the daemon, or until the lease ends."""

    def faulty(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(receiver_module, "plan_batch", plan_batch)
        raise ZeroDivisionError

    monkeypatch.setattr(receiver_module, "plan_batch", faulty)
    driver.most_faults = 1
    driver.append("a")
    driver.daemon()
    assert "ZeroDivisionError" in "".join(driver.faults)
    driver.run(3)
    assert len(driver.prometheus.times("a")) == 1


def test_the_lag_of_an_event_includes_its_request(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    driver.pass_time(7)
    answer(driver, daemon)
    assert 7 <= daemon.telemetry.tally(SETTINGS.name).longest_lag < 7.1


def is_of_markers(daemon: Daemon) -> bool:
    assert daemon.request is not None
    return all(bits == STALE for series in read(daemon.request.body) for bits, _ in series.samples)


def test_no_marker_goes_while_some_pending_events_were_not_read(driver: ReceiverDriver) -> None:
    """Among them may be an earlier event of the series, which would be refused after the marker."""
    daemon = driver.daemon()
    driver.append("a")
    driver.serve()
    driver.append(*(f's{{n="{number}"}}' for number in range(6000)), "a")
    for _ in range(3):
        if daemon.request is not None:
            daemon.request.reply(503)
        driver.pass_time(10)
    driver.run(60)
    first, second = [event.at for event in driver.events() if event.series == "a"]
    assert driver.prometheus.times("a") == [first, second]
    assert driver.prometheus.marked("a") == [second + VISIBLE]
    assert driver.lost() == {}


def test_events_that_no_request_can_hold_are_lost_also_alone(driver: ReceiverDriver) -> None:
    """They would wait for ever, and be read again and again."""
    driver.daemon(evolve(SETTINGS, max_labels=4))
    driver.append('a{x="1",y="2"}')
    assert driver.prometheus.requests == 0
    assert driver.lost() == {"max_labels": 1}
    assert driver.stats().scrapers[0].pending == 0


def test_all_goes_again_if_the_receiver_was_away_once_more(
    driver: ReceiverDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took between two crashes is gone with the second one."""
    monkeypatch.setattr(batch_size, "MAX_SAMPLES", 1)
    daemon = driver.daemon(evolve(SETTINGS, replay=20.0, visible=0.0))
    driver.append("a", "b", "c")
    driver.serve()
    driver.append("d")
    assert daemon.request is not None
    driver.prometheus.samples.clear()
    daemon.request.fail(ConnectionError())
    driver.quiet()
    daemon.request.reply(driver.prometheus.receive(daemon.request.body))
    driver.quiet()
    assert set(driver.prometheus.samples) == {"a"}
    driver.prometheus.samples.clear()
    daemon.request.fail(ConnectionError())
    driver.quiet()
    driver.run(5)
    assert set(driver.prometheus.samples) == set("abcd")

"""What a receiver's memory is for: series that end, samples that go again, and a second daemon."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.fake_store import logged
from support.receiver_driver import SETTINGS, ReceiverDriver
from support.service_in_memory import lines

from oneshotd.delivery.remote_write.figures import State

VISIBLE = 15_000


def test_a_marker_that_is_refused_is_no_loss(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a", "b", "c")
    driver.serve()
    driver.prometheus.bad = {"b"}
    driver.run(20)
    assert [len(driver.prometheus.marked(name)) for name in "abc"] == [1, 0, 1]
    assert driver.lost() == {}
    assert daemon.receiver.figures.markers == {"accepted": 2, "refused": 1, "dropped": 0}


def test_a_marker_that_is_thrown_away_is_not_sent_again(driver: ReceiverDriver) -> None:
    """Mimir answers 202 for each request while another replica is elected."""
    daemon = driver.daemon()
    driver.append("a")
    driver.serve()
    driver.pass_time(17)
    assert daemon.request is not None
    daemon.request.reply(202)
    driver.run(60)
    assert daemon.receiver.figures.markers["refused"] == 1
    assert driver.prometheus.marked("a") == []


def test_a_marker_that_is_answered_with_500_for_ever_is_given_up(driver: ReceiverDriver) -> None:
    """Events would wait for the pauses between its attempts, a minute each."""
    daemon = driver.daemon()
    driver.append("a", "b", "c")
    driver.serve()
    driver.prometheus.bad, driver.prometheus.status = {"b"}, 500
    driver.run(600, step=5)
    assert [len(driver.prometheus.marked(name)) for name in "abc"] == [1, 0, 1]
    assert daemon.receiver.figures.markers == {"accepted": 2, "refused": 1, "dropped": 0}


def test_no_marker_goes_before_a_pending_event(driver: ReceiverDriver) -> None:
    """After an outage the second event has to go before the marker of the first, or it is refused."""
    daemon = driver.daemon()
    driver.append("a")
    driver.serve()
    driver.pass_time(5)
    driver.append("a")
    for _ in range(10):
        if daemon.request is not None:
            daemon.request.reply(503)
        driver.pass_time(5)
    driver.run(60)
    _, second = driver.prometheus.times("a")
    assert driver.prometheus.marked("a") == [second + VISIBLE]
    assert driver.lost() == {}


def test_markers_follow_after_a_restart(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a", "b")
    driver.serve()
    driver.kill(daemon)
    driver.time.advance(60)
    driver.daemon()
    driver.run(3)
    assert [len(driver.prometheus.marked(name)) for name in "ab"] == [1, 1]


def test_without_visible_there_are_no_markers(driver: ReceiverDriver) -> None:
    driver.daemon(evolve(SETTINGS, visible=0.0))
    driver.append("a")
    driver.run(60)
    assert driver.prometheus.samples["a"] == [(0x3FF0000000000000, driver.events()[0].at)]


def test_accepted_events_go_again_after_the_receiver_was_away(driver: ReceiverDriver) -> None:
    """VictoriaMetrics loses what it accepted in the last ten seconds before a crash."""
    daemon = driver.daemon(evolve(SETTINGS, replay=20.0, visible=0.0))
    driver.append("early")
    driver.serve()
    driver.run(30)
    driver.append("late")
    driver.serve()
    driver.prometheus.samples.clear()
    driver.append("next")
    assert daemon.request is not None
    daemon.request.fail(ConnectionError())
    driver.quiet()
    driver.run(3)
    assert set(driver.prometheus.samples) == {"late", "next"}
    assert daemon.receiver.figures.replayed == 1


def test_accepted_events_go_again_over_another_connection_and_after_a_restart(driver: ReceiverDriver) -> None:
    settings = evolve(SETTINGS, replay=20.0, visible=0.0)
    daemon = driver.daemon(settings)
    driver.append("a")
    driver.serve()
    driver.prometheus.samples.clear()
    driver.append("b")
    assert daemon.request is not None
    daemon.request.reply(driver.prometheus.receive(daemon.request.body), reconnected=True)
    driver.quiet()
    driver.run(2)
    assert set(driver.prometheus.samples) == {"a", "b"}
    driver.prometheus.samples.clear()
    driver.kill(daemon)
    driver.time.advance(3600)
    driver.daemon(settings)
    driver.run(2)
    assert set(driver.prometheus.samples) == {"a", "b"}


def test_of_two_daemons_one_sends_and_the_other_takes_over(driver: ReceiverDriver) -> None:
    first = driver.daemon(shared=True)
    second = driver.daemon(shared=True)
    for _ in range(5):
        driver.append("a")
        driver.run(2)
    by_state = {daemon.receiver.figures.state: daemon for daemon in (first, second)}
    assert set(by_state) == {State.IDLE, State.STANDING_BY}
    driver.append("b")
    driver.serve()
    driver.kill(by_state[State.IDLE])
    driver.append("c")
    driver.run(25)
    assert set(driver.prometheus.samples) == {"a", "b", "c"}
    assert [len(driver.prometheus.marked(name)) for name in "ab"] == [1, 1], (
        "also those of the daemon that died"
    )
    assert driver.lost() == {}


@pytest.mark.parametrize("is_marker", [False, True])
def test_a_receiver_that_has_refused_the_last_sample_is_not_failing(
    driver: ReceiverDriver, is_marker: bool
) -> None:
    """Nothing waits for it. An alert would last until the next event, and say that events wait."""
    daemon = driver.daemon()
    driver.append("a")
    driver.serve()
    if not is_marker:
        driver.append("b")
    driver.prometheus.bad = {"a", "b"}
    driver.run(20)
    assert driver.lost() == ({} if is_marker else {"refused": 1})
    assert daemon.receiver.figures.requests["refused"] > 0
    assert daemon.receiver.figures.failing_since is None
    assert daemon.receiver.figures.state is State.IDLE


def test_only_a_receiver_that_took_no_events_takes_them_again(driver: ReceiverDriver) -> None:
    """The line is the end of another one; it means nothing after a refusal."""
    daemon = driver.daemon()
    with logged() as entries:
        driver.append("a", "b")
        driver.run(1)
        driver.prometheus.bad = {"b"}
        driver.append("b")
        driver.run(1)
        driver.append("a")
        driver.run(1)
        driver.append("a")
        driver.pass_time(0.1)
        assert daemon.request is not None
        daemon.request.reply(503)
        driver.run(3)
    assert [line for line in lines(entries, "info", "warn") if "again" in line] == [
        "receiver prometheus-a takes no events, and gets them again later: HTTP 503 (1 attempts)",
        "receiver prometheus-a takes events again",
    ]
    assert driver.lost() == {"refused": 1}

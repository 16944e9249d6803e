"""What a receiver makes again from the log: after a start, and when it takes over from another daemon."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.receiver_driver import SETTINGS, Daemon, ReceiverDriver

from oneshotd.core.events import Group, NewEvent
from oneshotd.delivery.remote_write import batch_size
from oneshotd.delivery.remote_write.settings import ReceiverSettings

VISIBLE = 15_000


def run_alone(driver: ReceiverDriver, daemon: Daemon, seconds: int) -> None:
    """Let time pass for one daemon, while the processes of others are stopped."""
    for _ in range(seconds):
        driver.time.advance(1)
        daemon.clock.advance(1)
        driver.quiet()
        while daemon.request is not None:
            daemon.request.reply(driver.prometheus.receive(daemon.request.body))
            driver.quiet()


def append(driver: ReceiverDriver, *series: str) -> None:
    """Store events of which no daemon hears at once."""
    driver.pump.get(driver.store.append([Group(events=[NewEvent(name) for name in series])]))


def led_before(driver: ReceiverDriver, settings: ReceiverSettings, then: str) -> Daemon:
    """Return a daemon that was stopped after it had sent `a`; another one has sent an event, and died."""
    first = driver.daemon(settings, shared=True)
    append(driver, "a")
    run_alone(driver, first, 1)
    assert len(driver.prometheus.times("a")) == 1
    second = driver.daemon(settings, shared=True)
    append(driver, then)
    run_alone(driver, second, 1)
    assert driver.stats().scrapers[0].pending == 0
    driver.kill(second)
    return first


def test_a_daemon_that_takes_over_forgets_its_own_markers(driver: ReceiverDriver) -> None:
    """It would end the sample of the other daemon too early."""
    first = led_before(driver, SETTINGS, "a")
    driver.time.advance(20)
    append(driver, "a")
    run_alone(driver, first, 60)
    last = driver.events()[-1].at
    assert len(driver.prometheus.times("a")) == 3
    assert driver.prometheus.marked("a") == [last + VISIBLE]
    assert driver.prometheus.refused == 0


def test_a_daemon_that_takes_over_sends_what_the_log_says_and_nothing_twice(driver: ReceiverDriver) -> None:
    first = led_before(driver, evolve(SETTINGS, replay=20.0, visible=0.0), "b")
    append(driver, "c")
    run_alone(driver, first, 30)
    assert first.receiver.figures.replayed == 2, "a and b"
    assert set(driver.prometheus.samples) == set("abc")


@pytest.mark.parametrize(("visible", "replay"), [(0.0, 20.0), (15.0, 0.0)])
def test_a_series_that_was_never_sent_is_not_sent_after_a_start(
    driver: ReceiverDriver, visible: float, replay: float
) -> None:
    """The log has events that the settings keep from the receiver."""
    settings = evolve(SETTINGS, max_labels=4, visible=visible, replay=replay)
    daemon = driver.daemon(settings)
    driver.append('a{x="1",y="2"}', "b")
    driver.serve()
    driver.kill(daemon)
    driver.time.advance(20)
    driver.daemon(settings)
    driver.run(5)
    assert set(driver.prometheus.samples) == {"b"}
    assert bool(driver.prometheus.marked("b")) == bool(visible)
    assert driver.lost() == {"max_labels": 1}


def test_a_refused_event_is_found_also_if_no_other_one_comes(driver: ReceiverDriver) -> None:
    """It would be tried for ever, and be counted as pending, until the hold ends."""
    driver.append("old")
    driver.prometheus.bad = {"old"}
    driver.daemon()
    driver.run(120)
    assert driver.lost() == {"uncertain": 1}
    assert driver.stats().scrapers[0].pending == 0


@pytest.mark.parametrize("status", [401, 500, 503])
def test_what_goes_again_waits_for_a_receiver_in_trouble(driver: ReceiverDriver, status: int) -> None:
    """It may ask for a password before it is up again."""
    daemon = driver.daemon(evolve(SETTINGS, replay=20.0, visible=0.0))
    driver.append("a")
    driver.serve()
    driver.prometheus.samples.clear()
    driver.append("b")
    assert daemon.request is not None
    daemon.request.fail(ConnectionError())
    driver.quiet()
    assert daemon.request is not None
    daemon.request.reply(status)
    driver.quiet()
    assert daemon.request is None
    driver.run(100)
    assert set(driver.prometheus.samples) == {"a", "b"}
    assert daemon.receiver.figures.replayed == 1


@pytest.mark.parametrize(("status", "was_away"), [(429, False), (500, True), (502, True), (503, True)])
def test_a_proxy_answers_for_a_receiver_that_is_away(
    driver: ReceiverDriver, status: int, was_away: bool
) -> None:
    """Behind a proxy neither a request nor the connection ends by a crash of the receiver."""
    daemon = driver.daemon(evolve(SETTINGS, replay=20.0, visible=0.0))
    driver.append("a")
    driver.serve()
    driver.append("b")
    assert daemon.request is not None
    daemon.request.reply(status)
    driver.run(5)
    assert daemon.receiver.figures.replayed == int(was_away)
    assert set(driver.prometheus.samples) == {"a", "b"}


def test_all_goes_again_if_the_receiver_was_restarted_in_between(
    driver: ReceiverDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request need fail by a restart: the next one is sent over a new connection."""
    monkeypatch.setattr(batch_size, "MAX_SAMPLES", 1)
    daemon = driver.daemon(evolve(SETTINGS, replay=20.0, visible=0.0))
    driver.append("a", "b", "c")
    driver.serve()

    def reply(*, restarted: bool) -> None:
        if restarted:
            driver.prometheus.samples.clear()
        assert daemon.request is not None
        daemon.request.reply(driver.prometheus.receive(daemon.request.body), reconnected=restarted)
        driver.pass_time(0.125)

    driver.append("d")
    reply(restarted=True)
    for restarted in (False, False, True):
        reply(restarted=restarted)
    driver.run(2)
    assert set(driver.prometheus.samples) == set("abcd")
    requests = driver.prometheus.requests
    driver.run(30)
    assert driver.prometheus.requests == requests

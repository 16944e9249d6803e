"""The pauses of a receiver: without them, a backlog halves what clients can report."""

from __future__ import annotations

import pytest
from support.receiver_driver import ReceiverDriver

from oneshotd.delivery.remote_write.figures import State
from oneshotd.delivery.remote_write.pacing import ENOUGH, LINGER, LONGEST, Pacing


class Process:
    """A process and its clocks: clients use a part of the processor all the time."""

    def __init__(self, clients: float) -> None:
        self.now = self.used = 0.0
        self.clients = clients
        self.pacing = Pacing(lambda: self.used)

    def step(self, took: float, *, has_more: bool = True, is_fed: bool = True) -> float:
        """Make a step that uses the processor all the time; pause, and return the pause."""
        began = self.now
        self.pacing.step_begins(began)
        self.now += took
        self.used += took
        pause = self.pacing.pause(self.now, has_more=has_more, is_fed=is_fed)
        self.now += pause
        self.used += pause * self.clients
        return pause


def share(process: Process, *, took: float = 0.04, steps: int = 200) -> float:
    """Return the part of the time that the receiver gets, once it has measured."""
    for _ in range(int(ENOUGH / (took / 20)) + 1):
        process.step(took)
    began = process.now
    for _ in range(steps):
        process.step(took)
    return took * steps / (process.now - began)


@pytest.mark.parametrize(
    ("clients", "least", "most"),
    [(0.0, 0.9, 0.96), (0.2, 0.7, 0.8), (0.4, 0.45, 0.55), (0.75, 0.05, 0.08), (1.1, 0.04, 0.06)],
)
def test_clients_keep_what_they_use(clients: float, least: float, most: float) -> None:
    assert least <= share(Process(clients)) <= most
    assert least <= share(Process(clients), took=0.002) <= most, "short steps"


def test_a_backlog_goes_without_pauses_while_no_events_arrive() -> None:
    process = Process(1.0)
    share(process)
    assert process.step(0.04, is_fed=False) == 0.0


def test_a_slow_receiver_is_left_alone_no_longer_than_a_fast_one() -> None:
    process = Process(1.0)
    share(process)
    assert process.step(10.0) == LONGEST


def test_the_share_grows_again_when_the_clients_have_gone() -> None:
    process = Process(1.0)
    share(process)
    process.clients = 0.0
    share(process, steps=3)
    assert process.step(0.04) < 0.003


def test_what_arrives_after_the_last_event_shares_a_request() -> None:
    process = Process(0.0)
    assert process.step(0.01, has_more=False, is_fed=False) == pytest.approx(LINGER - 0.01)
    assert process.step(0.01, has_more=False) == pytest.approx(LINGER - 0.01)
    assert process.step(1.0, has_more=False, is_fed=False) == 0.0


def test_pauses_that_are_too_short_to_measure_are_added_up() -> None:
    process = Process(1.0)
    steps = 0
    while process.step(0.001) < 0.001:
        steps += 1
        assert steps < 10_000, "the clients' part is never found"
    assert steps * 0.001 / 0.95 * 0.05 >= ENOUGH / 2


def test_a_receiver_pauses_while_clients_keep_the_processor_busy(driver: ReceiverDriver) -> None:
    used = 0.0
    daemon = driver.daemon(processor=lambda: used)

    def request_after(seconds: float) -> bool:
        """Answer a request of 20 ms, during which an event arrives; tell whether the next one has gone."""
        nonlocal used
        assert daemon.request is not None
        daemon.clock.advance(0.02)
        driver.append("a")
        daemon.request.reply(204)
        driver.quiet()
        used += seconds  # all that time is the clients'
        daemon.clock.advance(seconds)
        driver.quiet()
        return daemon.request is not None

    driver.append("a", "a", "a", "a")
    driver.time.advance(1)  # no time is one to come
    assert request_after(0.05), "nothing is measured yet"
    assert not request_after(0.1)  # a twentieth of the time is the receiver's: it goes on after 380 ms
    daemon.clock.advance(0.3)
    driver.quiet()
    assert daemon.request is not None


def test_a_pause_between_two_requests_delays_no_stop(driver: ReceiverDriver) -> None:
    """A daemon, or a change of the file, would wait for it."""
    daemon = driver.daemon()
    driver.append("a", "a")
    driver.time.advance(1)
    assert daemon.request is not None
    driver.append("b")
    daemon.request.reply(driver.prometheus.receive(daemon.request.body))
    driver.quiet()
    if daemon.request is not None:
        daemon.request.reply(driver.prometheus.receive(daemon.request.body))
        driver.quiet()
    assert daemon.request is None and daemon.clock.getDelayedCalls(), "it pauses"
    assert daemon.receiver.figures.state is not State.IDLE
    stopped = daemon.receiver.stop()
    driver.quiet()
    assert stopped.called and daemon.clock.getDelayedCalls() == []

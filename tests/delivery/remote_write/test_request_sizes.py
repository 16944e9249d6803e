"""Requests of markers and of samples that go again: as large as those of events, and as careful."""

from __future__ import annotations

from attrs import evolve
from support.receiver_driver import SETTINGS, Daemon, ReceiverDriver
from support.remote_write_reader import decompress

from oneshotd.delivery.remote_write.batching import MAX_BYTES

REPLAYING = evolve(SETTINGS, replay=20.0, visible=0.0)

#: Series of 60 KB each; 2,000 of them are far more than a request may have.
LARGE = [
    f'm{{a="{number}",' + ",".join(f'l{n}="{"x" * 4000}"' for n in range(15)) + "}" for number in range(40)
]


def sizes(daemon: Daemon) -> list[int]:
    """Return the bytes of each request before compression."""
    return [len(decompress(request.body)) for request in daemon.requests]


def lose(driver: ReceiverDriver, daemon: Daemon, last: str) -> None:
    """The receiver crashes, and loses what it has; an event more is on its way then."""
    driver.prometheus.samples.clear()
    driver.append(last)
    assert daemon.request is not None
    daemon.request.fail(ConnectionError())
    driver.quiet()


def test_no_request_is_larger_than_one_of_events(driver: ReceiverDriver) -> None:
    """A receiver refuses it as a whole, and the process would need a hundred times its memory."""
    daemon = driver.daemon(evolve(SETTINGS, replay=20.0))
    driver.append(*LARGE)
    driver.serve()
    lose(driver, daemon, "last")
    driver.run(30)
    assert max(sizes(daemon)) <= MAX_BYTES
    assert len(driver.prometheus.samples) == len(LARGE) + 1
    assert daemon.receiver.figures.replayed >= len(LARGE)
    assert daemon.receiver.figures.markers["accepted"] == len(LARGE) + 1


def test_what_goes_again_is_halved_where_it_is_too_large(driver: ReceiverDriver) -> None:
    """All of it would be lost at once, and counted as sent again."""
    daemon = driver.daemon(REPLAYING)
    names = [f"m{number}" for number in range(100)]
    driver.append(*names)
    driver.serve()
    lose(driver, daemon, "last")
    for _ in range(100):
        if (request := daemon.request) is None:
            driver.pass_time(0.1)
            continue
        is_small = len(decompress(request.body)) < 1000
        request.reply(driver.prometheus.receive(request.body) if is_small else 413)
        driver.quiet()
    assert set(driver.prometheus.samples) == {*names, "last"}
    assert daemon.receiver.figures.replayed == len(names)


def test_what_is_refused_when_it_goes_again_is_not_counted(driver: ReceiverDriver) -> None:
    """A store that takes no sample twice has it; a halving for each one would keep the events back."""
    daemon = driver.daemon(REPLAYING)
    driver.append(*(f"m{number}" for number in range(100)))
    driver.serve()
    lose(driver, daemon, "last")
    assert daemon.request is not None
    daemon.request.reply(400)
    driver.quiet()
    driver.run(3)
    assert set(driver.prometheus.samples) == {"last"}
    assert daemon.receiver.figures.replayed == 0

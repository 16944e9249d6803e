"""What a daemon does where others share its store: it waits, looks, and counts what came too late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import TIMEOUT, DeliveryDriver, sums
from support.fake_store import logged
from twisted.internet.defer import Deferred, succeed

from oneshotd.core.events import Pending
from oneshotd.core.identity import Visit
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import MAX_ELSEWHERE_WAIT
from oneshotd.store.interface import LATE, Holder, Reservation

ELSEWHERE = Reservation(token=None, pending=Pending(), busy="in flight", holder=Holder.ELSEWHERE)
SILENT = Reservation(token=None, pending=Pending(), busy="in flight", holder=Holder.SILENT)
LOOK = Reservation(token=None, pending=Pending(), busy="look")

#: Beyond any lease.
AWAY = 1000.0


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    driver = DeliveryDriver(tmp_path / "store")
    driver.append("a")
    yield driver
    driver.stop()


class Answers:
    """The store's answers to reservations; after the last one it is asked itself."""

    def __init__(self, driver: DeliveryDriver, patch: pytest.MonkeyPatch, *answers: Reservation) -> None:
        self.left = list(answers)
        self._reserve = driver.store.reserve
        patch.setattr(driver.store, "reserve", self.reserve)

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        return succeed(self.left.pop(0)) if self.left else self._reserve(visit, lease, limit)


def resume_after(driver: DeliveryDriver, seconds: float) -> None:
    """Let time pass in which the process was stopped: its timers fire after what has arrived."""
    driver.time.advance(seconds)
    driver.clock.rightNow += seconds


# ---- another daemon's delivery ---------------------------------------------------------------


def test_a_scrape_waits_for_the_end_of_another_daemons_delivery(
    driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a load balancer every second response would have no events."""
    answers = Answers(driver, monkeypatch, *[ELSEWHERE] * 4)
    asked = driver.ask()
    for _ in range(4):
        assert not asked.called
        driver.clock.advance(0.3)
    assert sums(driver.pump.get(asked).body) == Counter(a=1)
    assert not answers.left


def test_it_does_not_wait_for_long(driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scrape would fail, with the daemon's own metrics, because another one takes its time."""
    Answers(driver, monkeypatch, *[ELSEWHERE] * 100)
    asked = driver.ask()
    waited = 0.0
    while not asked.called:
        driver.clock.advance(0.05)
        driver.quiet()
        waited += 0.05
        assert waited <= MAX_ELSEWHERE_WAIT
    assert sums(driver.pump.get(asked).body) == Counter()
    assert driver.clock.getDelayedCalls() == []


def test_it_does_not_wait_for_a_daemon_that_is_gone(
    driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scrape would take seconds until the lease has lapsed."""
    Answers(driver, monkeypatch, SILENT)
    assert sums(driver.scrape().body) == Counter()


def test_a_client_that_goes_while_it_waits_leaves_no_lease(
    driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scraper would get no events until the lease expires."""
    Answers(driver, monkeypatch, ELSEWHERE)
    asked = driver.ask().addErrback(lambda failure: None)
    asked.cancel()
    driver.clock.advance(1)
    driver.quiet()
    assert driver.take() == Counter(a=1)


# ---- the timeout header ----------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_the_store_knows_that_a_request_is_a_look(
    driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A person's curl at one daemon would take the events of a scraper that another one serves."""
    if known:
        driver.take()
        driver.append("b")
    Answers(driver, monkeypatch, LOOK)
    got = driver.scrape()
    assert got.is_look and not got.awaits_receipt
    assert sums(got.body) == (Counter(b=1) if known else Counter(a=1))
    assert driver.take() == sums(got.body)


def test_such_looks_are_reported(driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scraper whose requests have lost the header gets nothing, and nothing would say why."""
    Answers(driver, monkeypatch, *[LOOK] * 6)
    for _ in range(6):
        driver.scrape()
        driver.pass_time(20)
    [only] = driver.telemetry.looks.only(driver.clock.seconds())
    assert (only.name, only.looks) == ("ann", 6)


# ---- a pause beyond the lease ----------------------------------------------------------------


@pytest.mark.parametrize("silent", ["reserve", "stats"])
def test_a_daemon_that_was_stopped_sends_no_events_when_it_goes_on(
    driver: DeliveryDriver, silent: str
) -> None:
    """Another daemon has delivered them since."""
    driver.take("bob")
    driver.take()
    driver.append("b")
    driver.store.silent.add(silent)
    asked = driver.ask()
    driver.quiet()
    resume_after(driver, TIMEOUT + 0.1)
    driver.store.resume()
    driver.quiet()
    driver.clock.advance(0)
    assert sums(driver.pump.get(asked).body) == Counter()
    driver.quiet()
    assert driver.take() == Counter(b=1)


def overtaken(driver: DeliveryDriver, *, delivered: bool) -> InFlightDelivery:
    """A delivery beyond whose lease another one was made.

    :param delivered: it was settled in time.
    """
    first = driver.scrape()
    if delivered:
        first.delivered()
        driver.append("b")
    driver.pass_time(AWAY)
    second = driver.scrape()
    assert sums(second.body) == (Counter(b=1) if delivered else Counter(a=1))
    second.delivered()
    second.final()
    driver.quiet()
    return first


def errors(driver: DeliveryDriver, first: InFlightDelivery, *reports: str) -> list[str]:
    """What is logged as an error when these ends of a delivery are reported."""
    with logged() as events:
        for report in reports:
            getattr(first, report)(**({"uncertain": False} if report == "returned" else {}))
        driver.quiet()
    return [event["log_format"] for event in events if event["log_level"].name == "error"]


def superseded(driver: DeliveryDriver) -> int:
    return driver.telemetry.tally("ann").superseded


@pytest.mark.parametrize("end", ["final", "revoked"])
def test_a_settlement_that_is_superseded_is_counted(driver: DeliveryDriver, end: str) -> None:
    """Events that went out twice would be in no figure, or be counted as lost besides."""
    first = overtaken(driver, delivered=False)
    [line] = errors(driver, first, "delivered", end)
    assert "twice" in line
    assert superseded(driver) == 1
    assert driver.pump.get(driver.real.stats()).lost == {}
    assert driver.delivery.unsettled() == []
    assert driver.take() == Counter()
    assert b'oneshotd_scraper_superseded_events_total{scraper="ann"} 1.0' in driver.scrape().body


def test_most_responses_have_no_such_figure(driver: DeliveryDriver) -> None:
    """The metrics of one daemon stay as they were."""
    assert b"superseded" not in driver.scrape().body


def test_a_return_that_is_superseded_is_no_repetition(driver: DeliveryDriver) -> None:
    """The first response did not arrive, so that its events went out once."""
    first = overtaken(driver, delivered=False)
    assert errors(driver, first, "returned") == []
    assert superseded(driver) == 0
    assert driver.take() == Counter()


def test_a_revocation_that_is_too_late_is_a_loss(driver: DeliveryDriver) -> None:
    """The scraper has not read them and will not get them, and nothing would say so."""
    first = overtaken(driver, delivered=True)
    [line] = errors(driver, first, "revoked")
    assert "will never get" in line
    assert driver.pump.get(driver.real.stats()).lost == {("ann", LATE): 1}
    assert superseded(driver) == 0
    assert driver.take() == Counter()


# ---- clocks that differ ----------------------------------------------------------------------


def test_latencies_are_by_the_stores_clock(driver: DeliveryDriver) -> None:
    """On a host whose clock is an hour behind, they would be minus an hour."""
    driver.pass_time(7)
    got = driver.scrape()
    driver.clock.advance(2)
    driver.time.wall -= 3600  # of this host, as the store's answer has its own
    got.delivered()
    got.final()
    driver.quiet()
    assert b"oneshotd_delivery_seconds_sum 9.0" in driver.scrape().body

"""One probe of the store serves all concurrent requests."""

from __future__ import annotations

import pytest
from support.web_fakes import FakeServer, request
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oneshotd.errors import StoreUnavailable
from oneshotd.web.status.readiness import MAX_AGE, STORE_TIMEOUT, StoreProbe

OVERDUE = f"store: no answer in {STORE_TIMEOUT:g} s"


class Scene:
    """A probe of a store that answers when the test says so.

    :ivar checks: what the store was asked so far.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.checks: list[Deferred[None]] = []
        self.probe = StoreProbe(self._check, self.clock)

    def _check(self) -> Deferred[None]:
        self.checks.append(Deferred())
        return self.checks[-1]

    def ask(self) -> list[object]:
        """Ask for the problem; the answer is in the list as soon as there is one."""
        got: list[object] = []
        self.probe.problem().addBoth(got.append)
        return got


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_one_probe_serves_all_requests_of_a_second(scene: Scene) -> None:
    """Each prober of a load balancer would cost the disk a sync."""
    together = [scene.ask() for _ in range(50)]
    assert len(scene.checks) == 1 and together == [[]] * 50
    scene.checks[0].callback(None)
    assert together == [[None]] * 50
    scene.clock.advance(MAX_AGE - 0.01)
    assert scene.ask() == [None] and len(scene.checks) == 1
    scene.clock.advance(0.01)
    assert scene.ask() == [] and len(scene.checks) == 2
    assert scene.clock.getDelayedCalls()[0].getTime() == scene.clock.seconds() + STORE_TIMEOUT


def test_a_fault_is_told_and_asked_for_again(scene: Scene) -> None:
    """A full disk is seen within a second, and so is that there is room again."""
    first = scene.ask()
    scene.checks[0].errback(StoreUnavailable("no space left"))
    assert first == scene.ask() == ["store: no space left"]
    scene.clock.advance(MAX_AGE)
    again = scene.ask()
    scene.checks[1].callback(None)
    assert again == scene.ask() == [None]


def test_a_store_that_hangs_gets_no_second_probe(scene: Scene) -> None:
    """Probes would pile up in the store's queue, and each request would wait for the whole timeout."""
    early = scene.ask()
    scene.clock.advance(STORE_TIMEOUT - 1)
    late = scene.ask()
    scene.clock.advance(1)
    assert early == late == scene.ask() == [OVERDUE]
    scene.clock.advance(1000)
    assert scene.ask() == [OVERDUE]
    assert len(scene.checks) == 1
    scene.checks[0].callback(None)
    assert scene.ask() == [None] and len(scene.checks) == 1
    assert not scene.clock.getDelayedCalls()


def test_a_bug_is_no_answer_and_does_not_stay(scene: Scene) -> None:
    first = scene.ask()
    scene.checks[0].errback(ZeroDivisionError())
    assert [type(getattr(each, "value", None)) for each in first] == [ZeroDivisionError]
    assert scene.ask() == [] and len(scene.checks) == 2


def test_a_client_that_hangs_up_does_not_cancel_the_probe_of_others(scene: Scene) -> None:
    gone = scene.probe.problem()
    gone.addErrback(lambda _: None)
    stays = scene.ask()
    gone.cancel()
    scene.checks[0].callback(None)
    assert stays == [None]


def test_readyz_and_the_page_share_the_probe() -> None:
    """Each request on each connection would cost the disk a sync."""
    server = FakeServer()
    site = server.site()
    for _ in range(20):
        assert server.connect(site).ask("GET /readyz").status == 200
        assert server.connect(site).ask("HEAD /readyz").status == 200
        assert server.connect(site).ask("GET /live").status == 200
    assert server.store.checks == 1
    server.store.fault = StoreUnavailable("no space left")
    server.clock.advance(1)
    assert server.connect(site).ask("GET /readyz").text == "store: no space left\n"
    assert server.store.checks == 2


def test_a_daemon_that_stops_is_not_ready_at_once() -> None:
    """A probe of a moment ago must not hide it."""
    server = FakeServer()
    site = server.site()
    connection = server.connect(site)
    connection.protocol.dataReceived(request("GET /readyz"))
    assert [answer.status for answer in connection.answers("GET")] == [200]
    server.unready = "stopping"
    assert server.connect(site).ask("GET /readyz").text == "stopping\n"

"""A receiver on a real store: what reaches Prometheus, and what becomes of each answer."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.receiver_driver import SETTINGS, Daemon, ReceiverDriver
from support.remote_write_reader import read

from oneshotd.delivery.remote_write.exchange import NotSent
from oneshotd.delivery.remote_write.figures import State

VISIBLE = 15_000


def names(daemon: Daemon) -> list[str]:
    """The metrics of the request in flight."""
    assert daemon.request is not None, daemon.receiver.figures
    return [dict(series.labels)["__name__"] for series in read(daemon.request.body)]


def test_an_event_arrives_with_its_time_and_ends_after_visible(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    at = driver.events()[0].at
    assert names(daemon) == ["a"]
    driver.serve()
    assert driver.prometheus.times("a") == [at]
    driver.run(15)
    assert driver.prometheus.marked("a") == []
    driver.run(3)
    assert driver.prometheus.samples["a"][1:] == [(0x7FF0000000000002, at + VISIBLE)]
    figures = daemon.receiver.figures
    assert (figures.samples, figures.markers["accepted"], figures.state) == (1, 1, State.IDLE)


def test_events_of_a_series_go_one_a_request_in_order(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a", ("a", "2"), "b", ("a", "3"))
    driver.time.advance(1)
    assert names(daemon) == ["a", "b"]
    driver.serve()
    driver.run(1)
    assert [int(at) for at in driver.prometheus.times("a")] == [
        e.at for e in driver.events() if e.series == "a"
    ]
    assert driver.stats().scrapers[0].pending == 0
    driver.run(20)
    assert len(driver.prometheus.marked("a")) == 1, "the next sample ends the one before"


def test_a_store_that_has_a_backlog_is_read_to_its_end(driver: ReceiverDriver) -> None:
    for start in range(0, 5000, 500):
        driver.append(*(f's{{n="{number}"}}' for number in range(start, start + 500)), "hot", "hot")
    driver.daemon()
    driver.run(3)
    assert len(driver.prometheus.samples) == 5001
    assert len(driver.prometheus.times("hot")) == 20
    assert driver.stats().scrapers[0].pending == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_same_batch_goes_again_after_a_pause(driver: ReceiverDriver, status: int) -> None:
    daemon = driver.daemon()
    driver.append("a", "b")
    assert daemon.request is not None
    body = daemon.request.body
    daemon.request.reply(status)
    driver.quiet()
    assert daemon.request is None and daemon.receiver.figures.state is State.RETRYING
    driver.append("c")
    assert daemon.request is None, "new events do not end the pause"
    driver.pass_time(1)
    assert daemon.request is not None
    assert read(daemon.request.body)[:2] == read(body)
    driver.serve()
    assert daemon.receiver.figures.failing_since is None
    assert set(driver.prometheus.samples) == {"a", "b", "c"}


def test_retry_after_is_kept(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    assert daemon.request is not None
    daemon.request.reply(429, retry_after=20.0)
    driver.pass_time(19)
    assert daemon.request is None
    driver.pass_time(2)
    assert daemon.request is not None


def test_a_request_without_an_answer_goes_again_at_once_and_then_later(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    for pause in (0, 2, 4):
        driver.pass_time(pause)
        assert daemon.request is not None, pause
        daemon.request.fail(ConnectionError("reset"))
        driver.quiet()
    assert daemon.request is None
    driver.run(8)
    assert len(driver.prometheus.times("a")) == 1
    assert not daemon.receiver._attempts._seqs, "its memory would grow with each lost answer"


def test_a_receiver_that_never_answers_is_left_after_the_timeout(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    first = daemon.request
    driver.pass_time(29)
    assert daemon.request is first
    driver.pass_time(2)
    assert daemon.request is not None and daemon.request is not first
    assert daemon.receiver.figures.requests["no answer"] == 1
    assert daemon.receiver.figures.trouble == "no answer within 30 s"


def test_no_connection_is_tried_again_after_a_pause(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    assert daemon.request is not None
    daemon.request.fail(NotSent("no connection: refused"))
    driver.quiet()
    assert daemon.receiver.figures.trouble == "no connection: refused", "people read it"
    assert daemon.request is None
    driver.run(2)
    assert driver.prometheus.times("a") != []


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405, 415])
def test_a_wrong_configuration_is_said_and_tried_slowly(driver: ReceiverDriver, status: int) -> None:
    daemon = driver.daemon()
    driver.append("a")
    assert daemon.request is not None
    daemon.request.reply(status, text="no")
    driver.pass_time(59)
    assert daemon.request is None
    assert daemon.receiver.figures.state is State.MISCONFIGURED
    assert daemon.receiver.figures.trouble == f"HTTP {status} no"
    driver.run(2)
    assert len(driver.prometheus.times("a")) == 1
    assert driver.lost() == {}


def test_one_bad_series_is_found_and_all_others_arrive(driver: ReceiverDriver) -> None:
    driver.prometheus.bad = {"bad"}
    daemon = driver.daemon()
    driver.append("good")
    driver.serve()
    driver.append(*(f"a{n}" for n in range(70)), "bad", *(f"b{n}" for n in range(70)))
    driver.serve()
    assert len(driver.prometheus.samples) == 141
    assert driver.lost() == {"refused": 1}
    assert driver.prometheus.requests < 40
    assert daemon.receiver.figures.lost == {"refused": 1}


def test_an_event_is_uncertain_if_an_earlier_attempt_had_no_answer(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("good")
    driver.serve()
    driver.prometheus.bad = {"bad"}
    driver.append("bad")
    assert daemon.request is not None
    daemon.request.fail(ConnectionError())
    driver.quiet()
    driver.serve()
    assert driver.lost() == {"uncertain": 1}


def test_a_receiver_that_refuses_everything_costs_no_event(driver: ReceiverDriver) -> None:
    """VictoriaMetrics answers 400 for a wrong path: nothing is wrong with the events."""
    daemon = driver.daemon()
    driver.append("a", "b", "c")
    for _ in range(50):
        if daemon.request is not None:
            daemon.request.reply(400)
            driver.quiet()
        driver.pass_time(10)
    assert driver.lost() == {}
    driver.run(120)
    assert sorted(driver.prometheus.samples) == ["a", "b", "c"]


def test_a_receiver_that_comes_to_refuse_everything_costs_no_event(driver: ReceiverDriver) -> None:
    """A Prometheus that speaks TLS from a restart on answers 400 to a request without it."""
    daemon = driver.daemon()
    driver.append("before")
    driver.serve()
    for number in range(100):
        driver.append(f"m{number}")
        driver.pass_time(10)
        while daemon.request is not None:
            daemon.request.reply(400)
            driver.quiet()
    assert driver.lost() == {}
    assert daemon.receiver.figures.failing_since is not None
    driver.run(120)
    assert len(driver.prometheus.samples) == 101


def test_events_that_are_too_old_are_refused_also_right_after_the_start(driver: ReceiverDriver) -> None:
    """A request without samples shows that the receiver takes requests; then a refusal counts."""
    driver.append("old1", "old2")
    driver.time.advance(7200)
    driver.append("new")
    driver.prometheus.bad = {"old1", "old2"}
    driver.daemon()
    driver.run(30)
    assert list(driver.prometheus.samples) == ["new"]
    assert driver.lost() == {"uncertain": 2}


def test_a_series_that_is_answered_with_500_is_found_if_others_are_taken(driver: ReceiverDriver) -> None:
    """Prometheus 2.42 answers so for a duplicate label, for ever."""
    driver.prometheus.bad, driver.prometheus.status = {"bad"}, 500
    driver.daemon()
    driver.append("a", "bad", "b", "c", "d")
    for number in range(12):
        driver.append(f"later{number}")
        driver.run(60)
    assert len(driver.prometheus.samples) == 16
    assert driver.lost() == {"uncertain": 1}


def test_a_receiver_in_trouble_costs_no_event(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("z")
    driver.serve()
    driver.append("a", "b", "c")
    for _ in range(60):
        if daemon.request is not None:
            daemon.request.reply(500)
        driver.pass_time(30)
    driver.run(120)
    assert sorted(driver.prometheus.samples) == ["a", "b", "c", "z"]
    assert driver.lost() == {}


def test_202_is_no_receipt(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a", "b")
    assert daemon.request is not None
    daemon.request.reply(202)
    driver.run(20)
    assert driver.prometheus.samples == {}
    assert driver.lost() == {"discarded": 2}


def test_all_reasons_of_a_request_are_counted(driver: ReceiverDriver) -> None:
    """Events that no request can hold would vanish if the request beside them is thrown away."""
    daemon = driver.daemon(evolve(SETTINGS, max_labels=4))
    driver.append('a{x="1",y="2"}', "b")
    assert daemon.request is not None
    daemon.request.reply(202)
    driver.quiet()
    assert driver.lost() == {"max_labels": 1, "discarded": 1}
    assert driver.stats().scrapers[0].pending == 0


def test_a_request_that_is_too_large_is_halved_and_stays_small(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append(*(f"a{n}" for n in range(8)))
    assert daemon.request is not None
    daemon.request.reply(413)
    driver.quiet()
    assert len(names(daemon)) == 4
    driver.serve()
    driver.append(*(f"b{n}" for n in range(8)))
    assert len(names(daemon)) <= 4
    driver.serve()
    assert len(driver.prometheus.samples) == 16


def test_a_request_that_is_too_large_halves_the_bytes_too(driver: ReceiverDriver) -> None:
    """Larger samples would be refused again and again, though there are fewer of them."""
    daemon = driver.daemon()
    driver.append(*(f'a{n}{{x="{"v" * 1000}"}}' for n in range(8)))
    assert daemon.request is not None
    daemon.request.reply(413)
    driver.serve()
    driver.append(*(f'b{n}{{x="{"v" * 2000}"}}' for n in range(8)))
    assert len(names(daemon)) == 2
    driver.serve()
    assert len(driver.prometheus.samples) == 16


def test_times_to_come_never_leave(driver: ReceiverDriver) -> None:
    """A burst of one series has times a millisecond apart, which run ahead of the clock."""
    driver.daemon()
    driver.append(*["a"] * 300)
    driver.serve()
    assert len(driver.prometheus.times("a")) == 1, "SimulatedPrometheus asserts the rest"
    driver.run(0.125, step=0.125)
    assert len(driver.prometheus.times("a")) == 126
    driver.run(0.5, step=0.125)
    assert len(driver.prometheus.times("a")) == 300


def test_limits_of_the_settings_cost_those_events_alone(driver: ReceiverDriver) -> None:
    driver.daemon(evolve(SETTINGS, max_labels=4, max_label_value=20))
    driver.append("a", 'b{x="1"}', 'c{x="1",y="2"}', f'd{{x="{"v" * 21}"}}', 'e{x="12345678901234567890"}')
    driver.serve()
    assert set(driver.prometheus.samples) == {"a", "b,x=1", "e,x=12345678901234567890"}
    assert driver.lost() == {"max_labels": 1, "max_label_value": 1}


def test_a_full_disk_of_the_store_delays_the_next_request(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a", "a")
    driver.time.advance(1)
    driver.disk.full = True
    assert daemon.request is not None
    daemon.request.reply(driver.prometheus.receive(daemon.request.body))
    driver.pass_time(3)
    assert daemon.request is None and daemon.receiver.figures.state is State.STORE_UNAVAILABLE
    driver.disk.full = False
    driver.run(3)
    assert len(driver.prometheus.times("a")) == 2


def test_a_stop_waits_for_the_answer_and_its_settlement(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    stopped = daemon.receiver.stop()
    driver.quiet()
    assert not stopped.called
    driver.serve()
    assert stopped.called and daemon.receiver.figures.state is State.STOPPED
    assert driver.stats().scrapers[0].pending == 0


def test_an_aborted_stop_leaves_the_events_pending(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    driver.append("a")
    stopped = daemon.receiver.stop()
    daemon.receiver.abort()
    driver.quiet()
    assert stopped.called
    assert driver.stats().scrapers[0].pending == 1
    assert not driver.stats().scrapers[0].in_flight


def test_a_stop_in_a_pause_is_immediate(driver: ReceiverDriver) -> None:
    daemon = driver.daemon()
    stopped = daemon.receiver.stop()
    driver.quiet()
    assert stopped.called
    assert daemon.clock.getDelayedCalls() == []


def test_a_stop_while_the_store_is_asked_sends_no_request(driver: ReceiverDriver) -> None:
    """A receiver that does not answer would hold the stop up, since nothing closes this request any more."""
    daemon = driver.daemon()
    driver.withheld = {"reserve"}
    driver.append("a")
    stopped = daemon.receiver.stop()
    driver.let_go()
    driver.quiet()
    assert daemon.requests == []
    assert stopped.called
    assert driver.stats().scrapers[0].pending == 1
    assert not driver.stats().scrapers[0].in_flight

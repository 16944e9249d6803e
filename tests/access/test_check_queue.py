"""The queue of password checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from support.thread_pump import PATIENCE, ThreadPump
from support.threads import Threads
from twisted.python.failure import Failure

from oneshotd.access.check_queue import (
    MAX_WAITING,
    MAX_WAITING_OF_ADDRESS,
    THREADS,
    CheckQueue,
    PasswordThreads,
)
from oneshotd.errors import Refused


class Recorded:
    """A check that records when it was begun, and its results."""

    def __init__(self, name: str, log: list[str], work: Callable[[], bool] | bool = lambda: True) -> None:
        self.name, self.log, self.work = name, log, work
        self.results: list[bool | Failure] = []

    def begin(self) -> Callable[[], bool] | bool:
        self.log.append(self.name)
        return self.work

    def finish(self, result: bool | Failure) -> None:
        self.results.append(result)


def test_addresses_take_turns() -> None:
    """A client with one password would wait for all that a guesser has sent before."""
    threads, log = Threads(), list[str]()
    queue = CheckQueue(threads)
    for number in range(4):
        queue.add("bad", Recorded(f"bad{number}", log))
    queue.add("good", Recorded("good", log))
    queue.add("other", Recorded("other", log))
    threads.work_all()
    assert log == ["bad0", "good", "other", "bad1", "bad2", "bad3"]
    assert len(queue) == 0


def test_an_address_has_one_check_at_a_time() -> None:
    """A guesser would occupy all threads."""
    threads, log = Threads(), list[str]()
    queue = CheckQueue(threads)
    for number in range(4):
        queue.add("bad", Recorded(f"bad{number}", log))
    assert len(threads.jobs) == 1
    for number in range(THREADS + 3):
        queue.add(f"other{number}", Recorded(f"other{number}", log))
        assert len(threads.jobs) == min(THREADS, number + 2)
    threads.work_all()
    assert len(log) == 4 + THREADS + 3


def test_the_queue_is_bounded() -> None:
    """Guesses would fill the memory, and each client would wait for minutes."""
    threads, log = Threads(), list[str]()
    queue = CheckQueue(threads)
    refused = []
    for _ in range(100):
        try:
            queue.add("bad", Recorded("bad", log))
        except Refused as error:
            refused.append(error)
    assert len(refused) == 100 - 1 - MAX_WAITING_OF_ADDRESS
    assert {(error.status, error.retry_after) for error in refused} == {(429, 1)}
    for number in range(MAX_WAITING):
        try:
            queue.add(f"{number}", Recorded(f"{number}", log))
        except Refused as error:
            refused.append(error)
    assert len(queue) == MAX_WAITING and refused[-1].status == 503
    assert threads.work_all() == MAX_WAITING + THREADS
    queue.add("good", Recorded("good", log))
    assert log[-1] == "good"


def test_a_check_that_nobody_waits_for_is_dropped() -> None:
    """Clients that hang up at once would keep the threads busy."""
    threads, log = Threads(), list[str]()
    queue = CheckQueue(threads)
    running, waiting = Recorded("running", log), Recorded("waiting", log)
    queue.add("a", running)
    queue.add("a", waiting)
    assert queue.drop("a", waiting) and not queue.drop("a", waiting) and not queue.drop("a", running)
    assert len(queue) == 0
    threads.work_all()
    assert (log, running.results, waiting.results) == (["running"], [True], [])


def test_a_check_that_fails_does_not_stop_the_others() -> None:
    """One broken hash would end all authentication."""

    def broken() -> bool:
        raise ValueError("broken")

    class Odd(Recorded):
        def begin(self) -> Callable[[], bool] | bool:
            raise Refused("no", reason="rate", status=429)

    threads, log = Threads(), list[str]()
    queue = CheckQueue(threads)
    first, odd, last = Recorded("a", log, broken), Odd("b", log), Recorded("c", log, False)
    for check in (first, odd, last):
        queue.add("one", check)
    threads.work_all()
    assert [type(check.results[0]) for check in (first, odd, last)] == [Failure, Failure, bool]


def test_the_threads_are_few_and_do_not_hold_the_process() -> None:
    """A stop of the daemon would wait for the comparison with a costly hash."""
    pump = ThreadPump()
    threads = PasswordThreads(pump)
    before = threading.active_count()
    release, names = threading.Event(), set[str]()

    def work() -> bool:
        names.add(threading.current_thread().name)
        assert threading.current_thread().daemon
        return release.wait(PATIENCE)

    jobs = [threads(work) for _ in range(10)]
    assert threading.active_count() - before <= THREADS
    began = time.monotonic()
    threads.stop()
    assert time.monotonic() - began < PATIENCE / 2, "it has waited for the threads"
    release.set()
    assert [pump.get(job) for job in jobs] == [True] * 10
    assert 1 <= len(names) <= THREADS


def test_a_result_is_an_error_if_the_work_raised() -> None:
    """The request would hang for ever."""

    def broken() -> bool:
        raise ValueError("broken")

    pump = ThreadPump()
    threads = PasswordThreads(pump)
    with pytest.raises(ValueError, match="broken"):
        pump.get(threads(broken))
    threads.stop()

"""The SQLite store keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store import contract
from store.contract import (
    TestAppend,
    TestBackup,
    TestClock,
    TestClosed,
    TestCrowd,
    TestDelivery,
    TestDetails,
    TestHold,
    TestKeys,
    TestLeases,
    TestLogFull,
    TestLooking,
    TestLosses,
    TestRecent,
    TestRetirement,
    TestScrapers,
    TestStates,
    TestTimes,
)
from support.sqlite_backend import SQLiteBackend
from support.store_backends import Backend, group, series_of
from support.thread_pump import ThreadPump
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface.verify import verifyObject

from oneshotd.store.interface import IStore

__all__ = [
    "TestAppend",
    "TestBackup",
    "TestClock",
    "TestClosed",
    "TestCrowd",
    "TestDelivery",
    "TestDetails",
    "TestHold",
    "TestKeys",
    "TestLeases",
    "TestLogFull",
    "TestLooking",
    "TestLosses",
    "TestRecent",
    "TestRetirement",
    "TestScrapers",
    "TestStates",
    "TestTimes",
]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    backend = SQLiteBackend(tmp_path)
    yield backend
    backend.finish()


def test_no_part_of_the_contract_is_left_out() -> None:
    """A promise would be held by nothing."""
    assert set(__all__) == set(contract.__all__)


def test_the_store_and_its_test_reactor_have_all_that_their_interfaces_ask_for(backend: Backend) -> None:
    assert verifyObject(IStore, backend.store)
    assert verifyObject(IReactorFromThreads, ThreadPump())


def test_events_of_the_same_moment_are_read_with_the_rest(backend: Backend) -> None:
    """Asked for together, answered in the order of asking: there is one thread."""
    stored = backend.store.append([group("a")])
    reserved = backend.store.reserve(backend.visit("p"), 60.0, 10)
    later = backend.store.append([group("b")])
    reservation = backend.get(reserved)
    assert series_of(reservation) == ["a"]
    backend.get(stored), backend.get(later)
    backend.settle(reservation)
    backend.release(reservation)
    assert backend.take("p") == ["b"]

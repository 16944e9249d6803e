"""The PostgreSQL store keeps the contract."""

from __future__ import annotations

from store import contract
from store.contract import (
    TestAppend,
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
from support.store_backends import Backend
from support.thread_pump import ThreadPump
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface.verify import verifyObject

from oneshotd.store.interface import IStore

__all__ = [
    "TestAppend",
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


def test_no_part_of_the_contract_is_left_out() -> None:
    """A promise would be held by nothing."""
    assert {*__all__, "TestBackup"} == set(contract.__all__)  # a database has its own backups


def test_the_store_and_its_test_reactor_have_all_that_their_interfaces_ask_for(backend: Backend) -> None:
    assert verifyObject(IStore, backend.store)
    assert verifyObject(IReactorFromThreads, ThreadPump())

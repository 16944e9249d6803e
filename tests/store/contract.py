"""The one contract suite of `IStore`: what every back end promises, whatever it is made of.

A back end is put under it by a test module with a fixture `backend` (a `store.backend.Backend`)
that imports these classes; see `test_store.py`.
"""

from store.contract_append import TestAppend, TestTimes
from store.contract_clock import TestClock
from store.contract_crowd import TestCrowd
from store.contract_delivery import TestDelivery, TestScrapers
from store.contract_details import TestDetails
from store.contract_keys import TestKeys
from store.contract_leases import TestLeases
from store.contract_looking import TestBackup, TestClosed, TestLooking
from store.contract_losses import TestLosses
from store.contract_recent import TestRecent
from store.contract_states import TestStates
from store.contract_upkeep import TestHold, TestLogFull, TestRetirement

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

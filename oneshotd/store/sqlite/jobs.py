"""Jobs of the store's thread, and a transaction of them whose outcome is in doubt."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred

from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import Loss


@frozen(eq=False)
class Job:
    """Work for the store's thread.

    :param lone: it cannot run inside a transaction.
    :param in_memory: it needs no disk, so it takes effect even if its transaction fails.
    """

    work: Callable[[], Any]
    done: Deferred[Any] | None = None
    lone: bool = False
    in_memory: bool = False


#: Jobs, each with its result or with the exception for its client.
Results = list[tuple[Job, object]]


@frozen
class Doubt:
    """A transaction whose COMMIT failed, so that it may be on disk or not.

    :param marker: the commit marker on disk if it was committed.
    :param leases: the leases to restore if it was not committed.
    :param then: memory jobs submitted since, to be run afterwards.
    """

    outcomes: Results
    losses: Sequence[Loss]
    marker: tuple[int, int]
    leases: object
    then: list[Job] = field(factory=list)


def result_of(job: Job) -> object:
    """Run a job outside of a transaction; return its result, or the exception for its client."""
    try:
        return job.work()
    except sqlite3.Error as error:
        return StoreUnavailable(str(error))
    except Exception as error:
        return error

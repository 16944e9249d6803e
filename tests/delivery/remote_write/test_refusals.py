"""Whether an event that the receiver refuses may be stored there all the same."""

from __future__ import annotations

from oneshotd.core.events import Pending
from oneshotd.delivery.remote_write.refusals import REFUSED, UNCERTAIN, Attempts
from oneshotd.store.interface import Reservation


def test_an_event_is_uncertain_after_an_attempt_of_unknown_outcome_until_it_is_settled() -> None:
    attempts = Attempts()
    attempts.unknown([5, 6], 5)
    assert [attempts.reason(seq) for seq in (4, 5, 6, 7)] == [REFUSED, UNCERTAIN, UNCERTAIN, REFUSED]
    attempts.settled([4, 5])
    assert attempts.reason(6) == UNCERTAIN
    attempts.settled([6])
    assert not attempts._seqs, "it would grow with every lost answer"


def test_events_that_were_given_up_are_forgotten() -> None:
    """A receiver that answers 503 for days would take the memory of the daemon."""
    attempts = Attempts()
    for oldest in range(0, 1_000_000, 2000):
        attempts.unknown(range(oldest, oldest + 2000), oldest)
    assert len(attempts._seqs) == 2000
    attempts.unknown([1_000_000], 999_999)
    assert [attempts.reason(seq) for seq in (999_998, 999_999, 1_000_000)] == [REFUSED, UNCERTAIN, UNCERTAIN]


def test_all_that_was_there_at_the_start_may_have_been_sent_before() -> None:
    """A daemon that was killed with a request in flight does not know what became of it."""
    attempts = Attempts()
    attempts.unknown([90], 90)
    pending = Pending(
        seqs=[3, 7, 11, 12],
        series=["a"] * 4,
        values=[None] * 4,
        ats=[1] * 4,
        owed=2,
        owed_total=2,
        cursor=10,
        end=12,
    )
    attempts.begin(Reservation(token=1, pending=pending, remaining=3))  # 13 to 15 were not read
    assert [attempts.reason(seq) for seq in (3, 11, 15, 16, 90)] == [
        *[UNCERTAIN] * 3,
        *[REFUSED] * 2,
    ]

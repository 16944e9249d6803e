"""Who has something reserved, until when, and what undoes a failed transaction's part in it."""

from __future__ import annotations

from oneshotd.core.events import Event, Pending
from oneshotd.store.leases import ENDED_TOKENS, Leases

PENDING = Pending(
    seqs=[3, 7, 8], series=["a", "b", "c"], values=[None, "1", None], ats=[30, 70, 80], owed=1, cursor=6
)


def test_the_lowest_cursor_of_those_that_have_not_lapsed_bounds_pruning() -> None:
    leases = Leases()
    assert leases.lowest(0.0) is None
    leases.grant("p", 10.0, Pending(cursor=5), timed=False)
    leases.grant("q", 20.0, Pending(cursor=9), timed=False)
    assert [leases.lowest(now) for now in (0.0, 9.9, 10.0, 20.0)] == [5, 5, 9, None]


def test_a_lease_lapses_at_its_end_and_never_while_its_end_is_asked_for() -> None:
    leases = Leases()
    lease = leases.grant("p", 10.0, PENDING, timed=True)
    leases.settling.add(lease.token)
    assert leases.of("p", 1e9) == lease
    leases.settling.clear()
    assert leases.of("p", 9.0) == lease
    assert leases.of("p", 10.0) is None
    assert leases.get(lease.token) is None
    assert not leases.has_ended(lease.token)


def test_a_delivered_one_keeps_what_undoes_it_and_not_what_was_read() -> None:
    leases = Leases()
    lease = leases.grant("p", 10.0, PENDING, timed=False)
    leases.delivered(lease, (8,), (Event(3, 30, "a", None),))
    kept = leases.get(lease.token)
    assert kept is not None and kept.delivered
    assert (kept.cursor, kept.newly_owed, kept.went_out) == (6, (8,), (Event(3, 30, "a", None),))
    assert len(kept.pending) == 0


def test_a_failed_transaction_leaves_the_leases_as_they_were() -> None:
    leases = Leases()
    kept = leases.grant("p", 10.0, PENDING, timed=False)
    before = leases.snapshot()
    leases.delivered(kept, (), ())
    leases.end(kept)
    new = leases.grant("q", 10.0, PENDING, timed=False)
    leases.restore(before)
    assert leases.of("p", 0.0) == kept
    assert leases.of("q", 0.0) is None
    assert leases.grant("q", 10.0, PENDING, timed=False).token != new.token


def test_ended_tokens_are_remembered_for_long_but_not_for_ever() -> None:
    leases = Leases()
    tokens = []
    for _ in range(ENDED_TOKENS + 1):
        lease = leases.grant("p", 10.0, PENDING, timed=False)
        leases.end(lease)
        tokens.append(lease.token)
    assert len(set(tokens)) == len(tokens)
    assert [leases.has_ended(token) for token in (tokens[0], tokens[1], tokens[-1])] == [False, True, True]


def test_nothing_is_left_after_clearing() -> None:
    leases = Leases()
    ended = leases.grant("p", 10.0, PENDING, timed=False)
    leases.end(ended)
    leases.grant("p", 10.0, PENDING, timed=False)
    leases.clear()
    assert leases.of("p", 0.0) is None and leases.lowest(0.0) is None
    assert not leases.has_ended(ended.token)

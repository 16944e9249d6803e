"""What answers mean, when a request goes again, and which sample is to blame."""

from __future__ import annotations

from itertools import count

import pytest

from oneshotd.delivery.remote_write.batch_size import CHANCES, DOUBTS, PROVEN, BatchSize
from oneshotd.delivery.remote_write.batching import MAX_BYTES, MAX_SAMPLES
from oneshotd.delivery.remote_write.retry import LAST, MAX_RETRY_AFTER, RetrySchedule
from oneshotd.delivery.remote_write.verdicts import Verdict, verdict_of


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204, 299), Verdict.ACCEPTED),
        ((202,), Verdict.DISCARDED),
        ((400, 409, 422), Verdict.REFUSED),
        ((413,), Verdict.TOO_LARGE),
        ((408, 425, 429, 502, 503, 504, 529), Verdict.AGAIN),
        ((500, 501, 507, 599), Verdict.DOUBTFUL),
        ((300, 301, 302, 307, 308, 401, 403, 404, 405, 406, 410, 415, 431, 451), Verdict.MISCONFIGURED),
        ((100, 199), Verdict.MISCONFIGURED),
    ],
)
def test_the_meaning_of_a_status(statuses: tuple[int, ...], verdict: Verdict) -> None:
    assert {verdict_of(status) for status in statuses} == {verdict}


def test_pauses_double_to_a_minute() -> None:
    retry = RetrySchedule(lambda: 0.5)
    assert [retry.failed() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    for _ in range(2000):
        assert retry.failed() == LAST
    retry.succeeded()
    assert retry.failed() == 1


@pytest.mark.parametrize(("dice", "pauses"), [(0.0, [0.5, 1.0]), (1.0, [1.5, 3.0])])
def test_pauses_are_spread(dice: float, pauses: list[float]) -> None:
    retry = RetrySchedule(lambda: dice)
    assert [retry.failed(), retry.failed()] == pauses
    assert retry.misconfigured() == LAST * (0.5 + dice)


@pytest.mark.parametrize(
    ("asked", "pause"), [(None, 1), (0.0, 1), (-5.0, 1), (30.0, 30), (1e9, MAX_RETRY_AFTER)]
)
def test_retry_after(asked: float | None, pause: float) -> None:
    assert RetrySchedule(lambda: 0.5).failed(asked) == pause


def test_the_first_request_without_an_answer_goes_again_at_once() -> None:
    retry = RetrySchedule(lambda: 0.5)
    assert [retry.unanswered() for _ in range(4)] == [0, 2, 4, 8]
    retry.succeeded()
    assert retry.unanswered() == 0
    retry.succeeded()
    retry.failed()
    assert retry.unanswered() == 2


def search(bad: set[int], events: int, size: BatchSize, status: int = 400) -> tuple[list[int], int]:
    """Send events to a receiver that refuses some; return those given up, and how many requests it took."""
    left = list(range(events))
    given_up: list[int] = []
    for requests in count():
        seqs = [seq for seq in left if seq not in size.aside][: size.samples]
        if not seqs:
            if not size.aside:
                return given_up, requests
            size.aside.clear()
            continue
        assert requests < 20_000, "the search does not end"
        if size.wants_proof:
            size.proof(True)
        elif not bad & set(seqs):
            size.accepted(seqs)
            left = [seq for seq in left if seq not in seqs]
        elif size.refused(seqs) if status == 400 else size.doubtful(seqs):
            size.gave_up(seqs[0])
            given_up += seqs
            left.remove(seqs[0])
    raise AssertionError


@pytest.mark.parametrize(
    ("bad", "most"),
    [
        (set(), 2),
        ({0}, 47),
        ({1999}, 47),
        ({777, 778, 779}, 92),
        (set(range(100)), 400),
        ({5, 500, 1000, 1500, 3999}, 250),
    ],
)
def test_bad_samples_are_found_with_few_requests(bad: set[int], most: int) -> None:
    given_up, requests = search(bad, 4000, BatchSize())
    assert given_up == sorted(bad)
    assert requests <= most


@pytest.mark.parametrize("bad", [{0}, {3}, {7, 30}])
def test_a_sample_that_is_answered_with_500_is_found(bad: set[int]) -> None:
    given_up, _ = search(bad, 60, BatchSize(), 500)
    assert set(given_up) == bad


def test_doubtful_answers_change_nothing_at_first() -> None:
    size = BatchSize()
    for _ in range(DOUBTS - 1):
        assert not size.doubtful(list(range(10)))
        assert size.samples == MAX_SAMPLES
    assert not size.doubtful(list(range(10)))
    assert size.samples == 5


def test_a_receiver_that_answers_500_to_everything_costs_nothing() -> None:
    size = BatchSize()
    size.accepted([0])
    for _ in range(1000):
        seqs = [seq for seq in range(1, 500) if seq not in size.aside][: size.samples]
        assert not size.doubtful(seqs)


def test_a_sample_has_its_chances_only_while_others_are_taken() -> None:
    size = BatchSize()
    for _ in range(DOUBTS):
        size.doubtful([1])
    for chance in range(1, CHANCES):
        size.accepted([100 + chance])
        for _ in range(DOUBTS - 1):
            assert not size.doubtful([1])
        assert size.doubtful([1]) is (chance == CHANCES - 1)


def test_without_proof_a_refused_sample_is_kept() -> None:
    size = BatchSize()
    assert not size.refused([1])
    assert size.wants_proof and size.aside == {1}
    size.proof(False)
    assert not size.refused([2]) and size.wants_proof
    size.proof(True)
    assert not size.aside
    for number in range(PROVEN):
        assert size.refused([number])
    assert not size.refused([PROVEN]) and size.wants_proof


def test_what_was_accepted_before_is_no_proof() -> None:
    """The receiver may have been restarted with other settings."""
    size = BatchSize()
    size.proof(True)
    size.accepted([1])
    assert not size.refused([2]) and size.wants_proof


def test_a_smaller_size_is_kept_after_413() -> None:
    size = BatchSize()
    assert not size.too_large(1000, 200_000)
    assert (size.samples, size.bytes) == (500, 100_000)
    for _ in range(5):
        size.accepted([1])
    assert size.samples == 500
    assert size.too_large(1, 5_000_000), "one sample that is too large"
    assert size.bytes == 100_000 < MAX_BYTES

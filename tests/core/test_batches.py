"""Records stored by column compare and index as a list of the same records."""

from __future__ import annotations

from oneshotd.core.batches import CountSamples, SeriesBatch
from oneshotd.core.events import NewEvent, Sample


def test_plain_events_are_a_sequence_of_events() -> None:
    plain = SeriesBatch(["a", "b"])
    events = [NewEvent("a"), NewEvent("b")]
    assert plain == events == list(plain)
    assert (plain[1], plain[1:], len(plain)) == (events[1], events[1:], 2)
    assert plain != events[:1] and plain != "ab" and plain != 2


def test_samples_by_columns_are_a_sequence_of_samples() -> None:
    counts = CountSamples(["a", "b"], ["1", "2"])
    samples = [Sample("a", "1"), Sample("b", "2")]
    assert counts == samples == list(counts)
    assert (counts[1], counts[1:], len(counts)) == (samples[1], samples[1:], 2)
    assert counts != samples[:1] and counts != "ab" and counts != 2

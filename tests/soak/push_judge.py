"""The judge of a receiver of remote write: its samples against those that it has to have. Pure.

What the daemon promises (docs/receivers.md), for a Prometheus in its default configuration:

* Each event is one sample, exactly once, at its own millisecond, with its own value, in the series of its
  labels with the receiver's `job` and `instance`.
* Nothing is lost, and nothing is counted as lost.
* Each series ends some seconds after its newest event.

There are two sources of what it has to have. The daemon's log names each event with its millisecond. The
books of the campaign (`ledger.py`) know nothing of the daemon: how often each event was sent, and when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import Factory, define, frozen
from soak.marks import COUNTED, VALUED
from soak.sendings import Sending

#: All labels of a series, the metric's name among them.
Series = frozenset[tuple[str, str]]

#: Unix ms and value.
Sample = tuple[int, float]

Samples = Mapping[Series, Sequence[Sample]]

#: Seconds by which an event's time may be earlier or later than the exchange in which it was sent: a series
#: has one event in a millisecond, so that the last of several is later.
TOLERANCE = 1.0


@frozen(kw_only=True)
class Difference:
    """A sample that is not there as often as it has to be.

    :param wanted: how often it has to be there; `found`: how often it is.
    """

    series: Series
    sample: Sample
    wanted: int
    found: int

    def text(self) -> str:
        """All of it in one line."""
        at, value = self.sample
        labels = dict(self.series)
        name = labels.pop("__name__", "")
        shown = ",".join(f'{label}="{text[:40]}"' for label, text in sorted(labels.items()))
        return f"{name}{{{shown}}} {value:g} at {at}: there {self.found} times, expected {self.wanted}"


@define(kw_only=True)
class Findings:
    """What was found out of the receiver when all was quiet.

    :ivar record: what it has to have, by the daemon's log.
    :ivar found: its raw samples.
    :ivar visible: series that have not ended.
    :ivar audit: what `oneshotctl audit` printed, and its exit status.
    :ivar wall: what to add to monotonic seconds for Unix seconds; None: the daemon had a clock of its own.
    """

    record: Samples = Factory(dict)
    found: Samples = Factory(dict)
    visible: int = 0
    audit: Mapping[str, Any] = Factory(dict)
    status: int = 0
    wall: float | None = None


def differences(record: Samples, found: Samples) -> list[Difference]:
    """Compare exactly: labels, milliseconds, values, and how often each is there."""
    result = []
    for series in sorted({*record, *found}, key=sorted):
        wanted, there = Counter(record.get(series, ())), Counter(found.get(series, ()))
        result += [
            Difference(series=series, sample=sample, wanted=wanted[sample], found=there[sample])
            for sample in sorted({*wanted, *there})
            if wanted[sample] != there[sample]
        ]
    return result


def identities(found: Samples) -> Counter[str]:
    """Identity (`soak.marks`) -> number of samples; what was never sent so has a name that was never sent."""
    counted: Counter[str] = Counter()
    for series, samples in found.items():
        for sample in samples:
            counted[_identity(series, sample)] += 1
    return counted


def _identity(series: Series, sample: Sample) -> str:
    labels, value = dict(series), sample[1]
    which = f"{labels.get('sender')}/{labels.get('n')}"
    if labels.get("__name__") == COUNTED and value == 1.0:
        return which
    return f"{which}={value:g}" if labels.get("__name__") == VALUED else f"{sorted(labels.items())} {value:g}"


def untimely(found: Samples, sendings: Iterable[Sending], wall: float) -> list[str]:
    """Return the samples whose time does not lie within the exchange in which they were sent.

    :param wall: what to add to monotonic seconds for Unix seconds.
    """
    spans: dict[str, tuple[float, float]] = {}
    for sending in sendings:
        if sending.refused:
            continue
        until = float("inf") if sending.answered is None else sending.answered
        for identity in sending.amounts:
            first, last = spans.get(identity, (sending.began, until))
            spans[identity] = min(first, sending.began), max(last, until)
    wrong = []
    for series, samples in found.items():
        for sample in samples:
            identity, at = _identity(series, sample), sample[0] / 1000 - wall
            began, ended = spans.get(identity, (at, at))
            if not began - TOLERANCE <= at <= ended + TOLERANCE:
                wrong.append(f"{identity}: sent {began:.3f} to {ended:.3f}, its sample is at {at:.3f}")
    return wrong


def misjudged(findings: Findings) -> list[str]:
    """Return why `oneshotctl audit` did not find what is there: each event of the log, and no other."""
    events = sum(map(len, findings.record.values()))
    wanted = {
        "verdict": "equal",
        "events": events,
        "found": events,
        "pending": 0,
        "lost": {},
        "differences": [],
    }
    audit = findings.audit
    wrong = [
        f"oneshotctl audit: {name}: {str(audit.get(name))[:300]}, expected {expected}"
        for name, expected in wanted.items()
        if audit.get(name) != expected
    ]
    if findings.status != 0:
        wrong.append(f"oneshotctl audit: exit status {findings.status}")
    return wrong

"""The daemon's own metrics as part of a response: as many families as the limits allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen
from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.samples import Sample

from oneshotd.core.negotiation import Format
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits

#: The end of a response in OpenMetrics (openmetrics.io, "ABNF").
EOF = b"# EOF\n"


@frozen
class _Family:
    """The text of one family, and its samples."""

    text: bytes
    samples: Sequence[Sample]


class OwnMetrics:
    """Families in one format.

    :param families: the last ones are the first to be left out.
    """

    def __init__(self, families: Iterable[Metric], format: Format) -> None:
        self.end = EOF if format is Format.OPENMETRICS else b""
        self._families = list(_written(families, format))

    def within(self, limits: ScrapeLimits) -> tuple[bytes, int]:
        """Return the text of the first families that fit together, and the number of their samples.

        A family with a series that exceeds a label limit is left out. The first family that does not fit
        ends the text: the families are in order of importance.
        """
        remaining = limits.less(0, len(self.end))
        parts: list[bytes] = []
        taken = 0
        for family in self._families:
            if _label_fault(family, limits):
                continue
            if _exceeds(len(family.samples), remaining.samples) or _exceeds(len(family.text), remaining.body):
                break
            if limits is not NO_LIMITS:
                remaining = remaining.less(len(family.samples), len(family.text))
            parts.append(family.text)
            taken += len(family.samples)
        return b"".join([*parts, self.end]), taken

    def beyond(self, limits: ScrapeLimits) -> tuple[str, ...]:
        """Return the limits that keep some of the families out of a response without events."""
        if limits is NO_LIMITS:
            return ()
        faults = [_label_fault(family, limits) for family in self._families]
        fitting = [family for family, fault in zip(self._families, faults, strict=True) if fault is None]
        found = {fault for fault in faults if fault is not None}
        if _exceeds(sum(len(family.samples) for family in fitting), limits.samples):
            found.add("sample_limit")
        if _exceeds(len(self.end) + sum(len(family.text) for family in fitting), limits.body):
            found.add(limits.body_name)
        return tuple(sorted(found))


def _written(families: Iterable[Metric], format: Format) -> Iterator[_Family]:
    write = openmetrics_latest if format is Format.OPENMETRICS else generate_latest
    for family in families:
        if family.samples:
            yield _Family(write(_One(family)).removesuffix(EOF), family.samples)


def _label_fault(family: _Family, limits: ScrapeLimits) -> str | None:
    if limits is NO_LIMITS:
        return None
    faults = (limits.label_fault(sample.name, sample.labels) for sample in family.samples)
    return next((fault for fault in faults if fault is not None), None)


def _exceeds(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit


class _One:
    """The part of a registry that `generate_latest` needs, with one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family

"""A scraper's limits of one response, and the series that exceed them.

Prometheus discards a response that exceeds one of its limits, and the daemon is not told. So a
scrape request has the job's limits as parameters, with the names, numbers and units of the scrape
configuration, and the response stays within them.

The behaviour at exactly the limit was tested with Prometheus 2.42, 2.53.3 and 3.5.3, which agree,
and with VictoriaMetrics 1.145 (`tests/e2e/test_scrape_limits.py`):

==========================  ======================================================================
sample_limit                as many samples are taken
body_size_limit             the body must be *smaller*; it is measured uncompressed
max_scrape_size             VictoriaMetrics: a body of that size is taken; ``KB`` is 1000 bytes there
label_limit                 as many labels are taken; ``__name__``, job and instance count as well
label_name_length_limit     as many bytes are taken; a label ``job`` arrives as ``exported_job``
label_value_length_limit    as many bytes of UTF-8 are taken; the metric's name counts as a value
==========================  ======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import evolve, frozen

from oneshotd.core.events import labels_of, metric_of
from oneshotd.errors import Refused

#: Parameters of ``/metrics``. ``limit`` is the older name of ``sample_limit``.
PARAMETERS = (
    "limit",
    "sample_limit",
    "body_size_limit",
    "max_scrape_size",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "extra_labels",
)

#: The limits that may be the reason of a loss.
LIMIT_NAMES = frozenset(PARAMETERS) - {"limit", "sample_limit", "extra_labels"}

#: Labels that every series has in the scraper beside those of the response.
RESERVED = ("__name__", "job", "instance")

#: Put before a label of the response that the scraper's target has as well (honor_labels: false).
EXPORTED = "exported_"

#: Bytes that a body may have at least: a sample with its HELP and TYPE has some 200.
LEAST_BODY = 256

_SHOWN = 80
_COUNT = re.compile(r"[0-9]{1,9}")
# As github.com/alecthomas/units reads it for Prometheus: several parts may follow each other, and
# KB is KiB. A number without a unit is taken as bytes, which Prometheus would refuse.
_SIZE = re.compile(r"(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[KMGTPE]I?)?B)+|[0-9]+", re.IGNORECASE)
_PART = re.compile(r"([0-9.]+)(?:([KMGTPE])(I?))?B?", re.IGNORECASE)


@frozen(kw_only=True)
class ScrapeLimits:
    """The limits of one response; None: no limit.

    :param samples: lines of samples.
    :param body: bytes, uncompressed, the largest size that is still taken.
    :param body_name: the limit from which `body` comes.
    :param labels: labels of a series in the scraper, `RESERVED` and `extra_labels` among them.
    :param name_length: bytes of a label's name.
    :param value_length: bytes of a label's value.
    :param extra_labels: labels that the scraper adds beyond `RESERVED`.
    """

    samples: int | None = None
    body: int | None = None
    body_name: str = "body_size_limit"
    labels: int | None = None
    name_length: int | None = None
    value_length: int | None = None
    extra_labels: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the limits that are set."""
        given = {
            "sample_limit": self.samples,
            self.body_name: self.body,
            "label_limit": self.labels,
            "label_name_length_limit": self.name_length,
            "label_value_length_limit": self.value_length,
        }
        return tuple(name for name, limit in given.items() if limit is not None)

    def less(self, samples: int, body: int) -> ScrapeLimits:
        """Return the limits less so many samples and bytes."""
        if self is NO_LIMITS:
            return self
        return evolve(
            self,
            samples=None if self.samples is None else max(0, self.samples - samples),
            body=None if self.body is None else max(0, self.body - body),
        )

    def half(self) -> ScrapeLimits:
        """Return the limits of half a response."""
        if self is NO_LIMITS:
            return self
        return evolve(
            self,
            samples=None if self.samples is None else self.samples // 2,
            body=None if self.body is None else self.body // 2,
        )

    def label_fault(self, name: str, labels: Mapping[str, str]) -> str | None:
        """Return the limit that a series' labels exceed, None if they are within all.

        :param name: of the metric.
        """
        if self.labels is not None and len(labels) + len(RESERVED) + self.extra_labels > self.labels:
            return "label_limit"
        length = self.name_length
        if length is not None and any(len(_renamed(label, labels)) > length for label in labels):
            return "label_name_length_limit"
        length = self.value_length
        if length is not None and any(len(text.encode()) > length for text in (name, *labels.values())):
            return "label_value_length_limit"
        return None

    def series_fault(self, series: str) -> str | None:
        """Return `label_fault` of a series text, without parsing a text that is short enough."""
        size = len(series) if series.isascii() else len(series.encode())
        # '="' stands before each value; elsewhere only at the end of a value that ends in '='.
        most_labels = series.count('="') + len(RESERVED) + self.extra_labels
        if (
            most_labels <= _unless(self.labels, most_labels)
            and size + len(EXPORTED) <= _unless(self.name_length, size + len(EXPORTED))
            and size <= _unless(self.value_length, size)
        ):
            return None
        return self.label_fault(metric_of(series), labels_of(series))


#: The limits of a scrape request without parameters.
NO_LIMITS = ScrapeLimits()


def scrape_limits(asked: Mapping[str, str]) -> ScrapeLimits:
    """Parse the limits in a scrape's parameters; of two for the same quantity the smaller one counts.

    As in the scrape configuration, 0 stands for no limit.

    :param asked: the parameters, decoded; others than `PARAMETERS` are ignored.
    :raises Refused: a parameter is no number, or no series could be within the limit. The scrape
        fails with a reason instead of losing every event.
    """
    body, body_name = _body(asked)
    limits = ScrapeLimits(
        samples=_least(_count(asked, "sample_limit"), _count(asked, "limit")),
        body=body,
        body_name=body_name,
        labels=_count(asked, "label_limit"),
        name_length=_count(asked, "label_name_length_limit"),
        value_length=_count(asked, "label_value_length_limit"),
        extra_labels=_count(asked, "extra_labels") or 0,
    )
    if not limits.names:
        return NO_LIMITS
    reserved = len(RESERVED) + limits.extra_labels
    if limits.labels is not None and limits.labels < reserved:
        whose = "__name__, job and instance" + (" and the extra_labels" if limits.extra_labels else "")
        raise _refused("label_limit", f"at least {reserved}, for {whose}", asked["label_limit"])
    longest = max(map(len, RESERVED))
    if limits.name_length is not None and limits.name_length < longest:
        why = f"at least {longest}, for __name__ and instance"
        raise _refused("label_name_length_limit", why, asked["label_name_length_limit"])
    return limits


def _renamed(label: str, labels: Mapping[str, str]) -> str:
    """Return a label's name in the scraper, which adds its own job and instance."""
    if label not in RESERVED:
        return label
    renamed = EXPORTED + label
    while renamed in labels:
        renamed = EXPORTED + renamed
    return renamed


def _body(asked: Mapping[str, str]) -> tuple[int | None, str]:
    smaller = _size(asked, "body_size_limit", 1024)
    most = None if smaller is None else smaller - 1
    other = _size(asked, "max_scrape_size", 1000)
    if other is not None and (most is None or other < most):
        return other, "max_scrape_size"
    return most, "body_size_limit"


def _count(asked: Mapping[str, str], name: str) -> int | None:
    text = asked.get(name)
    if text is None:
        return None
    if not _COUNT.fullmatch(text):
        raise _refused(name, "a whole number from 0 to 999999999", text)
    return int(text) or None


def _size(asked: Mapping[str, str], name: str, kilo: int) -> int | None:
    """Bytes; None for 0 or no text.

    :param kilo: bytes of a KB; a KiB has always 1024.
    """
    text = asked.get(name)
    if text is None:
        return None
    if len(text) > _SHOWN or not _SIZE.fullmatch(text):
        raise _refused(name, "a size such as 512KB, 10MB or 1.5GiB", text)
    size = 0.0
    for number, unit, binary in _PART.findall(text):
        power = 1 + "KMGTPE".index(unit.upper()) if unit else 0
        size += float(number) * (1024 if binary else kilo) ** power
    if 0 < size < LEAST_BODY:
        raise _refused(name, f"at least {LEAST_BODY} bytes, for one sample with its HELP and TYPE", text)
    return int(size) or None


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _unless(limit: int | None, otherwise: int) -> int:
    return otherwise if limit is None else limit


def _refused(name: str, expected: str, got: str) -> Refused:
    return Refused(f"{name}: expected {expected}, got {got[:_SHOWN]!a}", reason="query")

"""Responses read as strictly as a scraper might: prometheus_client's parsers, and promtool."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from oneshotd.core.negotiate import Format

#: The daemon's own families.
OWN = ("oneshotd_", "process_")

_FAMILY = re.compile(r"^# TYPE (\S+) ", re.MULTILINE)
_NAME = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)[{ ]")


def parsed(content_type: str, body: bytes) -> list[Sample]:
    """All samples of a response.

    :raises ValueError: the parser of its format does not take it.
    :raises AssertionError: it is in no format that we offer, or breaks a rule that the parsers
        do not look at.
    """
    text = body.decode()
    if content_type == Format.OPENMETRICS.content_type:
        families = list(openmetrics.text_string_to_metric_families(text))
    else:
        assert content_type == Format.TEXT.content_type
        families = list(text_string_to_metric_families(text))
    assert text.endswith("\n")
    _check_families(text)
    samples = [sample for family in families for sample in family.samples]
    assert samples, "a response is never empty"
    return samples


def events_in(samples: Iterable[Sample]) -> list[Sample]:
    """Those that are not the daemon's own."""
    return [sample for sample in samples if not sample.name.startswith(OWN)]


def promtool_complaint(promtool: Path, body: bytes) -> str:
    """What ``promtool check metrics`` has against a response in the text format; empty: nothing."""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=body, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    return done.stdout.decode() or (f"status {done.returncode}" if done.returncode else "")


def _check_families(text: str) -> None:
    """Each family stands once and together, its TYPE before its samples."""
    families = _FAMILY.findall(text)
    assert len(families) == len(set(families)), "a family is interleaved with another"
    seen: set[str] = set()
    for line in text.splitlines():
        if type_ := _FAMILY.match(line):
            seen.add(type_[1])
        elif name := _NAME.match(line):
            assert any(name[1].startswith(family) for family in (seen if name[1] not in seen else [name[1]])), line

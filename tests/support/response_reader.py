"""A strict scraper: reads responses with prometheus_client's parsers and promtool."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.request import Request

from attrs import frozen
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.daemon import BROWSER, Daemon

from oneshotd.core.negotiation import Format

#: The beginning of a line with a sample of an event.
EVENT = re.compile(rb"^(?!oneshotd_|process_)[a-zA-Z_:]", re.MULTILINE)

_FAMILY = re.compile(r"^# TYPE (\S+) ", re.MULTILINE)


@frozen
class Response:
    """A response of the daemon, its body decompressed."""

    content_type: str
    body: bytes
    zipped: bool

    @property
    def is_text(self) -> bool:
        """Whether it is in the text format; else in OpenMetrics."""
        return self.content_type == Format.TEXT.content_type

    @property
    def has_events(self) -> bool:
        """Whether it has samples that are not the daemon's own metrics."""
        return EVENT.search(self.body) is not None

    def samples(self) -> list[Sample]:
        """Return its samples.

        :raises ValueError: the parser of its format refuses it.
        :raises AssertionError: it is in neither format, or breaks a rule that the parser of the text
            format does not check.
        """
        text = self.body.decode()
        names = _FAMILY.findall(text)
        assert len(names) == len(set(names)), "a family occurs twice"
        if self.is_text:
            families = text_string_to_metric_families(text)
        else:
            assert self.content_type == Format.OPENMETRICS.content_type
            families = openmetrics.text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        assert samples, "a response is never empty"
        return samples

    def events(self) -> list[Sample]:
        """Return its samples that are not the daemon's own metrics."""
        return [sample for sample in self.samples() if not sample.name.startswith(("oneshotd_", "process_"))]


class Reader:
    """Scrapes under a name, as a Prometheus that accepts several samples of a series.

    :param mode: the value of ``?timestamps=``.
    :ivar responses: all responses so far.
    """

    def __init__(self, daemon: Daemon, name: str, format: Format, mode: str) -> None:
        self.responses: list[Response] = []
        self._url = f"{daemon.url}/metrics?scraper={name}&timestamps={mode}"
        self._headers = {
            "Accept": format.content_type.partition("; charset")[0],
            "Accept-Encoding": "gzip",
            "User-Agent": "Prometheus/3.5.3+ds1",
        }

    def read(self) -> list[Sample]:
        """Scrape once; return the events."""
        with BROWSER.open(Request(self._url, headers=self._headers), timeout=30) as answer:
            zipped = answer.headers.get("Content-Encoding") == "gzip"
            body = answer.read()
            kind = answer.headers["Content-Type"]
        response = Response(kind, gzip.decompress(body) if zipped else body, zipped)
        self.responses.append(response)
        return response.events()

    def drain(self) -> list[Sample]:
        """Scrape until no events are left; return all events."""
        found: list[Sample] = []
        while events := self.read():
            found += events
        return found


def complaints(promtool: Path, responses: Iterable[Response]) -> list[str]:
    """Return the errors of ``promtool check metrics``; it reads the text format only."""
    found = []
    for response in responses:
        done = subprocess.run(
            [promtool, "check", "metrics"],
            input=response.body,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        found += done.stdout.decode().splitlines() or [f"status {done.returncode}"] * (done.returncode != 0)
    return found

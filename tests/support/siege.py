"""What holds while somebody besieges the daemon: it serves those whom it knows, in bounded memory."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define
from support.clients import SCRAPE_TIMEOUT, Scraper, memory, post
from support.daemon import Daemon
from support.disks import skip_or_fail
from support.processes import until

#: Numbers of the events that are reported meanwhile: none that a test would use itself.
FIRST = 10_000_000


@define
class Siege:
    """What was measured; times in seconds, memory in MiB.

    :ivar events: reported meanwhile, each of which came once.
    :ivar worst_scrape: from the request to the end of the response.
    :ivar worst_report: from the request to its answer.
    :ivar growth: from before to the peak.
    """

    events: int = 0
    worst_scrape: float = 0.0
    worst_report: float = 0.0
    growth: float = 0.0


@contextmanager
def besieged(daemon: Daemon, *, growth: float, interval: float = 0.2) -> Iterator[Siege]:
    """Scrape and report all the time, as a known scraper and an honest client.

    :param growth: of the daemon's memory at most, MiB.
    :raises AssertionError: at the end: a scrape or a report was not answered within the scraper's
        timeout, an event did not come or came twice, memory grew beyond the bound, or the log has
        an error.
    """
    siege = Siege()
    over = threading.Event()
    refused: list[str] = []

    def report() -> None:
        while not over.wait(interval) and not refused:
            began = time.monotonic()
            answer = post(daemon, f"type=honest&n={FIRST + siege.events}", timeout=SCRAPE_TIMEOUT)
            siege.worst_report = max(siege.worst_report, time.monotonic() - began)
            if answer.status != 200:
                refused.append(f"{answer.status} {answer.text}")
                return
            siege.events += 1

    scraper = Scraper(daemon, "known")
    scraper.scrape()
    before = memory(daemon, "VmRSS")
    with suppress(OSError):  # from here on the peak is that of the siege (proc_pid_clear_refs(5))
        Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        with scraper.at_work(interval):
            yield siege
            over.set()
            reporter.join(2 * SCRAPE_TIMEOUT)
        siege.growth = memory(daemon, "VmHWM") - before
        siege.worst_scrape = scraper.worst
        assert not refused, f"report {siege.events}: {refused[0]}"
        assert siege.events > 0, "nothing was reported: the test shows nothing"
        honest = dict.fromkeys(range(FIRST, FIRST + siege.events), 1)

        def came() -> bool:
            scraper.scrape()
            return len([n for n in scraper.numbers if n >= FIRST]) >= len(honest)

        until(came, 20, lambda: f"{siege.events} reports: {len(scraper.numbers)} came")
        assert {n: times for n, times in scraper.numbers.items() if n >= FIRST} == honest
        assert siege.growth < growth, f"memory grew by {siege.growth:.0f} MiB: {siege}"
        assert daemon.errors() == []
    finally:
        over.set()
        scraper.close()


def need_descriptors(number: int) -> None:
    """Let this process have so many, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        if hard < number:
            skip_or_fail(f"this process may have {hard} file descriptors only")
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))

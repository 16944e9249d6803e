"""Take the picture of Prometheus' graph of the demo, after the minutes that it shows.

    PYTHONPATH=.:tests python -m tools.graph_screenshot docs/img/prometheus-graph.png

Part of `make screenshots`.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.chromium import Chromium, Page
from support.processes import until

#: Size of the page, CSS pixels.
WIDTH, HEIGHT = 1100, 880

#: That many points of a graph are drawn at least: paths and circles of the graph's picture.
DRAWN = "document.querySelectorAll('svg path').length"

#: Without the form's suggestions and notices, which are above the graph.
WITHOUT_NOTICES = "document.querySelectorAll('.alert').forEach((notice) => notice.remove())"


def picture(url: str, folder: Path) -> bytes:
    """Return a PNG of the graph at `url`."""
    with Chromium(folder) as browser:
        page = browser.page(width=WIDTH, height=HEIGHT)
        page.goto(url)
        until(lambda: page.evaluate(DRAWN) >= 3, 60, "a graph with three series")
        settle(page)
        page.evaluate(WITHOUT_NOTICES)
        return page.screenshot(height=HEIGHT)


def settle(page: Page) -> None:
    """Wait until two looks at the page are the same: its graph moves while it is drawn."""
    seen = [b"", page.screenshot(height=HEIGHT)]

    def still() -> bool:
        seen.append(page.screenshot(height=HEIGHT))
        return seen[-1] == seen[-2]

    until(still, 30, "a page that stands still")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--minutes", type=float, default=5, help="how long the demo runs before")
    chosen = parser.parse_args(arguments)
    command = [sys.executable, "-m", "tools.demo", "--port=0", "--prometheus-port=0", "--seed=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as demo:
        try:
            assert demo.stdout is not None
            url = graph_url(demo.stdout)
            time.sleep(60 * chosen.minutes)  # what is shown has to happen first
            assert demo.poll() is None, "the demo has ended"
            with tempfile.TemporaryDirectory() as folder:
                shown = urllib.parse.quote(f"{chosen.minutes:g}m")
                url = re.sub(r"(g0\.range_input=)[^&]*", rf"\g<1>{shown}", url)
                chosen.target.write_bytes(picture(url, Path(folder)))
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    return 0


def graph_url(lines: Iterable[str]) -> str:
    """The address of the graph among the lines that the demo prints.

    :raises AssertionError: it ended before.
    """
    for line in lines:
        if found := re.match(r"Prometheus\s+(http\S+)", line):
            return found[1]
    raise AssertionError("the demo has printed no link to a graph")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

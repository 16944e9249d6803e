"""``make bench``: measures oneshotd against references in one run, and prints one table."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from bench import access_measures, measures, postgresql_measures, receiver_measures, store_measures
from bench.rig import Measure, median

MEASURES: dict[str, Callable[[int], Iterable[Measure]]] = {
    "post": lambda rounds: [measures.post_event(rounds)],
    "close": lambda rounds: [measures.post_event(rounds, close=True)],
    "token": lambda rounds: [access_measures.with_token(rounds)],
    "tls": lambda rounds: [access_measures.over_tls(rounds)],
    "bulk": lambda rounds: [measures.post_events(rounds)],
    "udp": lambda rounds: [measures.datagrams(rounds, 1)],
    "udp20": lambda rounds: [measures.datagrams(rounds, 20)],
    "scrape": lambda rounds: [measures.big_scrape(rounds)],
    "longlog": lambda rounds: [store_measures.long_log(rounds)],
    "trickled": store_measures.trickled,
    "held": measures.held,
    "pg": lambda rounds: list(postgresql_measures.posts(rounds)),
    "pgtwo": lambda rounds: [postgresql_measures.two_daemons(rounds)],
    "pgbulk": lambda rounds: [postgresql_measures.bodies(rounds)],
    "pgscrape": lambda rounds: list(postgresql_measures.scrapes(rounds)),
    "pglatency": lambda rounds: [postgresql_measures.latency(rounds)],
    "push": receiver_measures.throughput,
    "pushlatency": receiver_measures.latency,
    "pushdoors": lambda rounds: [receiver_measures.doors(rounds)],
}


def row(measure: Measure) -> str:
    """A line of the table."""
    ours = median([pair.ours for pair in measure.rounds])
    theirs = median([pair.reference for pair in measure.rounds])
    beside = f"{ours:,.4g} / {theirs:,.4g} {measure.unit}" if theirs != 1.0 else f"{ours:,.4g} {measure.unit}"
    verdict = "yes" if measure.met(measure.rounds) else "**no**"
    return (
        f"| {measure.name} | {beside} | {measure.shown(measure.rounds)} | {measure.reach} | {measure.aim}"
        f" | {verdict} |"
    )


def main() -> int:
    """Run the measures that are named, or all."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("measure", nargs="*", choices=[*MEASURES, []], help="which ones (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="write the table into this file, too")
    options = parser.parse_args()
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}; Python"
        f" {platform.python_version()}, Twisted {version('twisted')}, Klein {version('klein')}, SQLite"
        f" {sqlite3.sqlite_version}; {options.rounds} rounds, medians (spread)",
        "",
        "| measure | ours / reference | result | at least | aim | reached |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.measure or MEASURES:
        for measure in MEASURES[name](options.rounds):
            lines.append(row(measure))
            print(lines[-1], flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

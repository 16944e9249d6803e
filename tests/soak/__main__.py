"""``make soak``: the crash campaign; exit status 1 if anything was not as promised."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from soak.campaign import ALL_SENDERS, Campaign, Settings
from soak.receiver_program import receiver_program
from soak.report import report
from soak.result import Report, complete, conclude

#: Seconds for one round, its restart included.
ROUND = 3.0


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its table; the exit status."""
    asked = _options().parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    rounds = max(1, round(asked.seconds / ROUND)) if asked.rounds is None else asked.rounds
    settings = Settings(
        seconds=asked.seconds,
        rounds=rounds,
        seed=seed,
        senders=tuple(filter(None, asked.senders.split(","))),
        clock=asked.clock,
        tls=asked.tls,
        receiver=None if asked.clock or asked.no_receiver else receiver_program(),
    )
    print(f"crash campaign: {rounds} kills in about {asked.seconds:g} s, --seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-soak-"))
    found = run(settings, folder)
    left = "the daemon's store and log"
    return conclude(found, folder, left, markdown=asked.markdown, keep=asked.keep)


def run(settings: Settings, folder: Path) -> Report:
    """Run a campaign and look at its books."""
    campaign = Campaign(settings, folder)
    complete(campaign.run, campaign.books)
    return report(campaign)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="about how long (default: %(default)g)")
    parser.add_argument("--rounds", type=int, help=f"kills (default: one for every {ROUND:g} s)")
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument(
        "--senders",
        default=",".join(ALL_SENDERS),
        metavar="NAMES",
        help="only these ways in (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the daemon's store and log in any case")
    parser.add_argument(
        "--clock", action="store_true", help="set the daemon's wall clock now and then (libfaketime)"
    )
    parser.add_argument(
        "--no-receiver", action="store_true", help="no Prometheus that is pushed to; --clock has none, either"
    )
    parser.add_argument("--tls", action="store_true", help="the scrapers use TLS, and end as Go's clients do")
    return parser


if __name__ == "__main__":
    sys.exit(main())

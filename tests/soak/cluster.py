"""``make soak-cluster``: the crash campaign over a cluster; exit status 1 if anything was not as promised."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from soak.cluster_campaign import ClusterCampaign, Settings
from soak.cluster_report import report
from soak.receiver_program import receiver_program
from soak.result import Report, complete, conclude


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign and print its table; the exit status."""
    asked = _options().parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    settings = Settings(
        seconds=asked.seconds,
        seed=seed,
        faults=asked.faults,
        promotions=asked.promotions,
        pauses=asked.pauses,
        clock=asked.clock,
        receiver=None if asked.clock or asked.no_receiver else receiver_program(),
    )
    print(
        f"cluster campaign: {settings.faults} faults in about {asked.seconds:g} s, --seed {seed}", flush=True
    )
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-cluster-"))
    folder.chmod(0o711)  # PostgreSQL does not run as root
    found = run(settings, folder)
    left = "the daemons' logs and the database"
    return conclude(found, folder, left, markdown=asked.markdown, keep=asked.keep)


def run(settings: Settings, folder: Path) -> Report:
    """Run a campaign and look at its books."""
    campaign = ClusterCampaign(settings, folder)
    complete(campaign.run, campaign.books)
    return report(campaign)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200.0, help="about how long (default: %(default)g)")
    parser.add_argument("--faults", type=int, default=200, help="how many, at least (default: %(default)s)")
    parser.add_argument(
        "--promotions", type=int, default=5, help="of them, of the standby, at least (default: %(default)s)"
    )
    parser.add_argument(
        "--pauses", type=int, default=8, help="of them, beyond a lease, at least (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument(
        "--clock",
        action="store_true",
        help="servers whose clocks are wrong by up to two hours, each in another way (libfaketime)",
    )
    parser.add_argument(
        "--no-receiver", action="store_true", help="no Prometheus that is pushed to; --clock has none, either"
    )
    parser.add_argument("--keep", action="store_true", help="keep logs and database in any case")
    return parser


if __name__ == "__main__":
    sys.exit(main())

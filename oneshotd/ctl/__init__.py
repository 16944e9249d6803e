"""The operator's command ``oneshotctl``; one module for each subcommand."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command ``oneshotctl``; return its exit status."""
    from oneshotd.ctl.command import run

    return run(sys.argv[1:], os.environ)

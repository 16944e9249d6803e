"""The checks of the daemon: the file of ``--pings``, read at the start and again when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from oneshotd.access.reload import ReloadedFile
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config import Config
from oneshotd.daemon.reloading import reloaded_file
from oneshotd.ingest.dialects.pings import Checks
from oneshotd.metrics.registry import Telemetry

#: Names of checks in a log line.
_SHOWN = 10


class PingParts:
    """The checks in force.

    :param now: returns Unix seconds.
    :ivar checks: none without ``--pings``.
    """

    def __init__(
        self, reactor: Any, config: Config, telemetry: Telemetry, now: Callable[[], float] = time.time
    ) -> None:
        self._reactor = reactor
        self._path = None if config.pings is None else Path(config.pings)
        self._telemetry = telemetry
        self._now = now
        self._limits: Rules | None = None
        self._file: ReloadedFile[Checks] | None = None
        self.checks = Checks()

    def read(self, limits: Rules) -> None:
        """Read the file for the start.

        :param limits: of events, which the labels of checks have to meet, too.
        :raises ConfigError: file, check, key and reason.
        """
        self._limits = limits
        if self._path is None:
            return
        self._file = reloaded_file(
            "pings",
            self._path,
            self._load,
            self._take,
            reactor=self._reactor,
            telemetry=self._telemetry,
            now=self._now,
        )
        self.checks = self._file.first()

    def start(self) -> None:
        """Begin to look for changes."""
        if self._file is not None:
            self._file.start()

    def reload(self) -> None:
        """Read the file again now."""
        if self._file is not None:
            self._file.ask()

    def warnings(self) -> Sequence[str]:
        """Return what is wrong with the file; every client may read it."""
        if self._file is None or self._file.problem is None:
            return []
        return ["the file of --pings has changed and is not used; the log has the reason"]

    def stop(self) -> None:
        """Look for no more changes."""
        if self._file is not None:
            self._file.stop()

    def _load(self) -> tuple[Checks, Iterable[Path]]:
        from oneshotd.ingest.hooks.checks_file import read_checks_file  # only with --pings

        assert self._path is not None
        return read_checks_file(self._path, self._limits), [self._path]

    def _take(self, checks: Checks) -> str:
        changes = []
        for verb, names in (
            ("added", set(checks.names) - set(self.checks.names)),
            ("removed", set(self.checks.names) - set(checks.names)),
        ):
            if names:
                shown = ", ".join(sorted(names)[:_SHOWN])
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                changes.append(f"{shown}{more} {verb}")
        if not changes and checks != self.checks:
            changes.append("URLs, labels or times of checks")
        self.checks = checks
        return "; ".join(changes)

"""The hooks of the daemon: presets, the folder of ``--hooks``, and the process that reads large bodies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config import Config
from oneshotd.daemon.reloading import thread_runner
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.ingest.hooks.large_bodies import LargeBodies
from oneshotd.metrics.registry import Telemetry

if TYPE_CHECKING:
    # Only a daemon with --hooks imports it.
    from oneshotd.ingest.hooks.folder import HookFolder


class HookParts:
    """The hooks, and what they need to be read and run.

    :ivar hooks: for the routes.
    """

    def __init__(self, reactor: Any, config: Config, telemetry: Telemetry) -> None:
        self._reactor = reactor
        self._config = config
        self._telemetry = telemetry
        self._large = LargeBodies(reactor)
        self._folder: HookFolder | None = None
        self._in_thread = thread_runner(reactor)
        self.hooks = Hooks(large=self._large, in_thread=self._in_thread)

    def read(self, limits: Rules) -> None:
        """Read the folder for the start.

        :raises ConfigError: it cannot be read.
        """
        if self._config.hooks is None:
            return
        from oneshotd.ingest.hooks.folder import HookFolder

        self._folder = HookFolder(
            Path(self._config.hooks),
            self.hooks,
            clock=self._reactor,
            in_thread=self._in_thread,
            limits=limits,
        )
        self._folder.read()
        folder = self._folder
        self._telemetry.reloads.watch("hooks", lambda: folder.state)

    def start(self) -> None:
        """Begin to look for changes."""
        if self._folder is not None:
            self._folder.start()

    def reload(self) -> None:
        """Read the folder again now."""
        if self._folder is not None:
            self._folder.reload()

    def warnings(self) -> list[str]:
        """Return what is wrong with the files; every client may read it."""
        return [] if self._folder is None else self._folder.warnings()

    def stop(self) -> None:
        """Look for no more changes, and end the process."""
        if self._folder is not None:
            self._folder.stop()
        self._large.stop()

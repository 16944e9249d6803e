"""The receivers of the daemon: the file of ``--receivers``, and a state machine for each of them.

A receiver whose settings, address or secrets have changed is stopped, and started again when its request in
flight has ended. One that is not in the file any more is stopped; its scraper stays in the store for the
hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from oneshotd.access.reload import ReloadedFile
from oneshotd.daemon.config import Config
from oneshotd.daemon.reloading import reloaded_file
from oneshotd.errors import ConfigError
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.receivers import ReceiverUse
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import IStore

if TYPE_CHECKING:  # imported only where there are receivers
    from oneshotd.delivery.remote_write.destination import ConfiguredReceiver
    from oneshotd.delivery.remote_write.receiver import Receiver
    from oneshotd.delivery.remote_write.sender import Sender

#: Seconds that a request in flight may take at the stop before its connection is closed, and until its end is
#: on disk.
STOP_SECONDS, STOP_TIMEOUT = 4.0, 6.0

#: Seconds without an accepted request after which /readyz warns.
WARN_SECONDS = 60.0


class ReceiverParts:
    """The receivers in force.

    :param now: returns Unix seconds.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, config: Config, telemetry: Telemetry, now: Callable[[], float] = time.time
    ) -> None:
        self._reactor = reactor
        self._path = None if config.receivers is None else Path(config.receivers)
        self._telemetry = telemetry
        self._now = now
        self._store: IStore | None = None
        self._file: ReloadedFile[Sequence[ConfiguredReceiver]] | None = None
        self._wanted: Sequence[ConfiguredReceiver] = ()
        self._running: dict[str, _Running] = {}
        #: Receivers that finish their last request.
        self._ending: dict[str, _Running] = {}
        self._stopping = False

    def read(self) -> None:
        """Read the file for the start.

        :raises ConfigError: file, receiver, key and reason.
        """
        if self._path is None:
            return
        self._file = reloaded_file(
            "receivers",
            self._path,
            self._load,
            self._take,
            reactor=self._reactor,
            telemetry=self._telemetry,
            now=self._now,
        )
        self._wanted = self._file.first()

    def start(self, store: IStore, ingest: Ingest) -> None:
        """Begin to send, and to look for changes of the file."""
        if self._file is None:
            return
        self._store = store
        self._telemetry.receivers.report = self.report
        ingest.on_stored = self._wake
        self._apply()
        self._file.start()

    def reload(self) -> None:
        """Read the file again now."""
        if self._file is not None:
            self._file.ask()

    def warnings(self) -> Sequence[str]:
        """Return what is wrong with the file and with receivers; every client may read it: no answers."""
        found = []
        if self._file is not None and self._file.problem is not None:
            found.append("the file of --receivers has changed and is not used; the log has the reason")
        for use in self.report():
            if use.misconfigured:
                found.append(
                    f"receiver {use.name} takes no events until its configuration or ours is changed; the log"
                    " has its answer"
                )
            elif use.failing is not None and use.failing > WARN_SECONDS:
                found.append(f"receiver {use.name} has taken no events for {use.failing:.0f} s")
        return found

    def report(self) -> Sequence[ReceiverUse]:
        """Return what is known of each receiver."""
        return [each.use(self._reactor.seconds()) for each in self._running.values()]

    def stop(self) -> Deferred[Any]:
        """Look for no more changes, and send no more; fires when the last requests have ended."""
        self._stopping = True
        if self._file is not None:
            self._file.stop()
        for name in list(self._running):
            self._end(name)
        return DeferredList([each.ended for each in self._ending.values()])

    def _wake(self) -> None:
        for each in self._running.values():
            each.receiver.wake()

    # -- the file

    def _load(self) -> tuple[Sequence[ConfiguredReceiver], Iterable[Path]]:
        from oneshotd.delivery.remote_write.receivers_file import read_receivers_file

        assert self._path is not None
        return read_receivers_file(self._path)

    def _take(self, wanted: Sequence[ConfiguredReceiver]) -> str:
        before = {each.name: each for each in self._wanted}
        after = {each.name: each for each in wanted}
        changes = []
        for verb, names in (
            ("added", after.keys() - before.keys()),
            ("removed", before.keys() - after.keys()),
            ("changed", {name for name in before.keys() & after.keys() if before[name] != after[name]}),
        ):
            if names:
                changes.append(f"{', '.join(sorted(names))} {verb}")
        self._wanted = wanted
        self._apply()
        return "; ".join(changes)

    def _apply(self) -> None:
        """Make the receivers that run those of the file."""
        if self._stopping:
            return
        wanted = {each.name: each for each in self._wanted}
        for name, running in list(self._running.items()):
            if wanted.get(name) != running.configured:
                self._end(name)
        for name, configured in wanted.items():
            if name not in self._running and name not in self._ending:
                self._begin(configured)

    def _begin(self, configured: ConfiguredReceiver) -> None:
        from oneshotd.delivery.remote_write.receiver import Receiver
        from oneshotd.delivery.remote_write.sender import Sender

        assert self._store is not None
        try:
            sender = Sender(self._reactor, configured.destination)
        except ConfigError as error:  # the files were good when they were read
            self._log.error("receiver {receiver}: {error}", receiver=configured.name, error=str(error))
            return
        receiver = Receiver(
            configured.settings,
            self._store,
            sender,
            self._telemetry,
            self._reactor,
            shared=self._telemetry.is_shared,
        )
        self._running[configured.name] = _Running(configured, receiver, sender)
        receiver.start()

    def _end(self, name: str) -> None:
        running = self._ending[name] = self._running.pop(name)
        abort = self._reactor.callLater(STOP_SECONDS, running.receiver.abort)

        def ended(_: object) -> None:
            if abort.active():
                abort.cancel()
            running.sender.close()
            del self._ending[name]
            running.ended.callback(None)
            self._apply()

        running.receiver.stop().addBoth(ended)


class _Running:
    """A receiver that runs, or finishes its last request.

    :ivar ended: fires when it has ended.
    """

    def __init__(self, configured: ConfiguredReceiver, receiver: Receiver, sender: Sender) -> None:
        self.configured = configured
        self.receiver = receiver
        self.sender = sender
        self.ended: Deferred[None] = Deferred()

    def use(self, now: float) -> ReceiverUse:
        """Return what is known of it.

        :param now: reactor seconds.
        """
        figures = self.receiver.figures
        parts = urlsplit(self.configured.destination.url)
        state = figures.state.value
        return ReceiverUse(
            name=self.configured.name,
            address=f"{parts.scheme}://{parts.netloc}{parts.path}",
            state=state,
            trouble=figures.trouble,
            host=self.sender.host,
            failing=None if figures.failing_since is None else now - figures.failing_since,
            misconfigured=state == "misconfigured",
            standing_by=state == "standing by",
            requests=dict(figures.requests),
            markers=dict(figures.markers),
            replayed=figures.replayed,
        )

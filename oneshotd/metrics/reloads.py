"""Metrics of the files that are read again while the daemon runs.

Each family has samples only if the daemon has such a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

#: The files, and how the help texts call them.
FILES = {
    "web_config": "web configuration",
    "access": "access file",
    "hooks": "folder of hooks",
    "pings": "file of checks",
    "receivers": "file of receivers",
}


@frozen
class ReloadState:
    """The state of one file.

    :param successful: whether the last reading was put in force.
    :param succeeded_at: Unix seconds of the last reading that was.
    """

    successful: bool
    succeeded_at: float


class ReloadMetrics:
    """Shows whether the files in force are the newest, and when the certificate ends.

    :ivar certificate_end: returns the end of the certificate in Unix seconds; None: there is none.
    """

    def __init__(self) -> None:
        self._states: dict[str, Callable[[], ReloadState]] = {}
        self.certificate_end: Callable[[], float | None] = lambda: None

    def watch(self, file: str, state: Callable[[], ReloadState]) -> None:
        """Show the state of a file of `FILES`.

        :raises KeyError: it is none of these.
        """
        FILES[file]
        self._states[file] = state

    def collect(self) -> Iterator[Metric]:
        """Yield all families, also those without samples."""
        for file, called in FILES.items():
            state = self._states[file]() if file in self._states else None
            yield GaugeMetricFamily(
                f"oneshotd_{file}_last_reload_successful",
                f"1 if the {called} in force is the newest, 0 if a newer one was refused.",
                value=None if state is None else int(state.successful),
            )
            yield GaugeMetricFamily(
                f"oneshotd_{file}_last_reload_success_timestamp_seconds",
                f"Unix time at which the {called} in force was read.",
                value=None if state is None else state.succeeded_at,
            )
        yield GaugeMetricFamily(
            "oneshotd_web_config_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate of the web configuration ends.",
            value=self.certificate_end(),
        )

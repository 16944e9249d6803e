"""A count of refusals, and the metrics of a daemon that has counted nothing."""

from __future__ import annotations

from attrs import define, field

from oneshotd.core.negotiation import Format
from oneshotd.errors import REASONS, Refused
from oneshotd.metrics.doors import Doors
from oneshotd.metrics.own_metrics import OwnMetrics
from oneshotd.metrics.registry import Telemetry


@define
class FakeTelemetry:
    refusals: dict[str, int] = field(factory=dict)
    doors: Doors = field(factory=lambda: Doors(lambda: 1_700_000_000.0))

    def refused(self, reason: str, n: int = 1) -> None:
        assert reason in REASONS
        self.refusals[reason] = self.refusals.get(reason, 0) + n

    def refused_request(self, refused: Refused, path: bytes) -> None:
        self.refused(refused.reason)
        self.doors.refuse_path(path, refused.text)

    def daemon_metrics(self, format: Format) -> OwnMetrics:
        return Telemetry().daemon_metrics(format)

"""A count of refusals, and the metrics of a daemon that has counted nothing."""

from __future__ import annotations

from attrs import define, field

from oneshotd.core.negotiation import Format
from oneshotd.errors import REASONS
from oneshotd.metrics.own_metrics import OwnMetrics
from oneshotd.metrics.registry import Telemetry


@define
class FakeTelemetry:
    refusals: dict[str, int] = field(factory=dict)

    def refused(self, reason: str, n: int = 1) -> None:
        assert reason in REASONS
        self.refusals[reason] = self.refusals.get(reason, 0) + n

    def daemon_metrics(self, format: Format) -> OwnMetrics:
        return Telemetry().daemon_metrics(format)

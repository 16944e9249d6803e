"""Keep what one receiver has sent: the series that need a marker, and the samples that may go again.

All of it is in memory. After a start, or where another daemon sent meanwhile, it is made again from the log.
"""

from __future__ import annotations

from oneshotd.delivery.remote_write.batching import Batch
from oneshotd.delivery.remote_write.encoding import Encoder
from oneshotd.delivery.remote_write.figures import Figures
from oneshotd.delivery.remote_write.marker_requests import MarkerRequests
from oneshotd.delivery.remote_write.markers import Markers
from oneshotd.delivery.remote_write.recovery import recover
from oneshotd.delivery.remote_write.replay import Replay, Sample
from oneshotd.delivery.remote_write.replay_requests import ReplayRequests
from oneshotd.delivery.remote_write.settings import ReceiverSettings
from oneshotd.store.interface import IStore, Reservation


class Memory:
    """The markers and the accepted samples of one receiver.

    :ivar is_made: False: the log has to be read before the next request.
    """

    def __init__(self, settings: ReceiverSettings, store: IStore, encoder: Encoder, figures: Figures) -> None:
        self.markers = Markers(int(settings.visible * 1000))
        self.marker_requests = MarkerRequests(self.markers, figures)
        self.replay = Replay(settings.replay)
        self.replay_requests = ReplayRequests(self.replay, encoder, figures)
        self.is_made = False
        self._settings = settings
        self._store = store
        self._encoder = encoder
        self._figures = figures

    async def make(self, reservation: Reservation, now: float) -> None:
        """Read the log for what was delivered lately; such samples may have to go again.

        :param now: steady seconds.
        :raises StoreUnavailable: the log cannot be read.
        """
        self.markers.clear()
        self.replay.clear()
        visible, replay = self._settings.visible, self._settings.replay
        found = await recover(self._store, reservation, visible, replay, self._was_sent)
        latest = found.latest.values()
        self.markers.delivered([event.series for event in latest], [event.at for event in latest])
        self.replay.accepted([Sample(event.series, event.value, event.at) for event in found.replay], now)
        self.replay.was_away()
        self.is_made = True

    def _was_sent(self, series: str) -> bool:
        return self._encoder.fault(series) is None

    def delivered(self, batch: Batch, now: float) -> None:
        """Note a batch that the receiver has accepted.

        :param now: steady seconds.
        """
        self.markers.delivered(batch.series, batch.ats)
        self._figures.markers["dropped"] = self.markers.dropped
        if self._settings.replay:
            self.replay.accepted(list(map(Sample, batch.series, batch.values, batch.ats)), now)

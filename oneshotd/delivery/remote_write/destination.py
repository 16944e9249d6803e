"""Where the requests of a receiver go, and what they carry beside the samples."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from oneshotd.access.tls_settings import PEM
from oneshotd.delivery.remote_write.settings import ReceiverSettings


@frozen(kw_only=True)
class Destination:
    """The address of a receiver, headers, credentials and TLS.

    Files are inline: another content of a file makes another destination.

    :param url: http or https, without credentials.
    :param headers: further headers of each request.
    :param authorization: the value of Authorization; None: no such header.
    :param ca: the authorities that are trusted; None: those of the system.
    :param cert: the client's certificate, and intermediate ones.
    :param key: its key.
    """

    url: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    authorization: str | None = field(default=None, repr=False)
    ca: PEM | None = None
    cert: PEM | None = None
    key: PEM | None = None


@frozen(kw_only=True)
class ConfiguredReceiver:
    """A receiver as the file of receivers has it."""

    settings: ReceiverSettings
    destination: Destination

    @property
    def name(self) -> str:
        """Its name, as that of a scraper."""
        return self.settings.name

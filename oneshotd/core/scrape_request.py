"""Read a scrape request once: query and headers -> the record that all later steps use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from oneshotd.core import scrape_limits
from oneshotd.core.identity import Visit, identify, product, scrape_deadline
from oneshotd.core.look import Header, LookReason, look_reason
from oneshotd.core.negotiation import Format, choose_format
from oneshotd.core.origin import Origin, host_of
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits
from oneshotd.core.scraper_features import Timestamps, takes_several, timestamps_mode
from oneshotd.errors import Refused

#: The query parameters of ``/metrics``; all others are ignored.
PARAMETERS = ("scraper", "timestamps", "look", "events", *scrape_limits.PARAMETERS)

_TIMEOUT = b"X-Prometheus-Scrape-Timeout-Seconds"
_SHOWN = 80


@frozen(kw_only=True)
class Wanted:
    """The response that a scraper asks for and accepts.

    :param limits: the scraper's limits of one response.
    :param timestamps: the mode (``?timestamps=``); None: the daemon's default.
    :param several: the scraper stores several samples of a series (`scraper_features.takes_several`).
    """

    limits: ScrapeLimits = NO_LIMITS
    format: Format = Format.TEXT
    timestamps: Timestamps | None = None
    several: bool = False


@frozen(kw_only=True)
class ScrapeRequest:
    """One read of ``/metrics``.

    :param visit: the scraper's identity.
    :param wanted: what the response may hold, and in which form.
    :param deadline: seconds from the request's arrival until the client gives up.
    :param origin: where it came from.
    :param look: why the request is a look; None: it is a scrape.
    :param own_only: it asks for the daemon's own metrics alone (``events=0``), and is no scrape either.
    """

    visit: Visit
    wanted: Wanted
    deadline: float
    origin: Origin
    look: LookReason | None = None
    own_only: bool = False


def read_scrape_request(
    *,
    method: bytes,
    parameters: Mapping[str, str],
    header: Header,
    address: str,
    local: str = "",
    timeout_expected: Callable[[str], bool],
) -> ScrapeRequest:
    """Return the record of a GET or HEAD of ``/metrics``.

    :param parameters: the query's parameters of the names in `PARAMETERS`.
    :param address: the client's, normalised (`client_address`), without port.
    :param local: the address of our end of the connection, without port; empty: a UNIX socket.
    :param timeout_expected: whether the scrapes of an identity carry the timeout header as a rule.
    :raises Refused: a parameter is not what it should be.
    """
    timeout = header(_TIMEOUT)
    agent = header(b"User-Agent")
    user_agent = None if agent is None else agent.encode("latin-1")
    visit = identify(
        scraper=parameters.get("scraper"),
        user_agent=user_agent,
        address=address,
        timed=timeout is not None,
    )
    wanted = Wanted(
        limits=scrape_limits.scrape_limits(parameters),
        format=choose_format(header(b"Accept")),
        timestamps=timestamps_mode(parameters.get("timestamps")),
        several=takes_several(user_agent),
    )
    look = look_reason(
        method=method,
        look_parameter=_look_parameter(parameters.get("look")),
        header=header,
        timeout_expected=not visit.timed and timeout_expected(visit.name),
    )
    return ScrapeRequest(
        visit=visit,
        wanted=wanted,
        deadline=scrape_deadline(None if timeout is None else timeout.encode("latin-1")),
        origin=Origin(host=host_of(address, local), product=product(user_agent)),
        look=look,
        own_only=_own_only(parameters.get("events")),
    )


def _own_only(text: str | None) -> bool:
    if text not in (None, "0", "1"):
        raise Refused(f"events: expected 0 or 1, got {text[:_SHOWN]!a}", reason="query")
    return text == "0"


def _look_parameter(text: str | None) -> bool:
    if text not in (None, "", "1"):
        raise Refused(f"look: expected no value or 1, got {text[:_SHOWN]!a}", reason="query")
    return text is not None

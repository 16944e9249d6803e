"""Tell looks from scrapes: a look at ``/metrics`` shows the pending events and delivers none.

Prometheus' targets page links the full scrape URL, query included, so people open it. A request
of a browser, a page's script or a person's curl must not consume a scraper's events; a request of
an HTTP library must, although some libraries send single headers that browsers send, too.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from oneshotd.core.negotiation import names_type

#: The value of a request header by its name, several lines of it joined by commas; None if absent.
Header = Callable[[bytes], str | None]


class LookReason(Enum):
    """Why a request is a look; the value is a metric's label value."""

    HEAD = "head"
    PARAMETER = "parameter"
    PAGE = "page"
    BROWSER = "browser"
    NO_TIMEOUT = "no_timeout_header"

    @property
    def text(self) -> str:
        """The reason in words, to follow "its requests …"."""
        return _TEXTS[self]


_TEXTS = {
    LookReason.HEAD: "have the method HEAD",
    LookReason.PARAMETER: "have the parameter look",
    LookReason.PAGE: "carry Origin, Sec-Fetch-Site or Sec-Fetch-Mode: navigate, as those of a web page do",
    LookReason.BROWSER: (
        "carry Upgrade-Insecure-Requests, accept application/xhtml+xml, or name Mozilla/ and a language, as a"
        " browser's do"
    ),
    LookReason.NO_TIMEOUT: (
        "lack X-Prometheus-Scrape-Timeout-Seconds, which another scraper under this name sends"
    ),
}


def look_reason(
    *, method: bytes, look_parameter: bool, header: Header, timeout_expected: bool
) -> LookReason | None:
    """Return why a read of ``/metrics`` is a look, or None if it is a scrape.

    =====================================  ====================================================
    sent by                                headers
    =====================================  ====================================================
    browser, HTTPS or localhost            ``Sec-Fetch-Site`` and ``Sec-Fetch-Mode``, always
                                           (https://www.w3.org/TR/fetch-metadata/)
    browser, plain HTTP elsewhere          no ``Sec-Fetch-*``; a navigation has
                                           ``Upgrade-Insecure-Requests`` and an ``Accept`` with
                                           ``application/xhtml+xml``, another site's script ``Origin``;
                                           its ``<img>`` and ``<script>`` only ``User-Agent: Mozilla/…``
                                           and ``Accept-Language``
    Node's ``fetch``                       ``Sec-Fetch-Mode: cors`` and no ``Sec-Fetch-Site``
    Java's ``URLConnection`` before 20     ``Accept: text/html, image/gif, image/jpeg, …``
    =====================================  ====================================================

    :param look_parameter: the query has ``look``.
    :param timeout_expected: this identity's scrapes carry X-Prometheus-Scrape-Timeout-Seconds as a
        rule, and this request does not.
    """
    if method == b"HEAD":
        return LookReason.HEAD
    if look_parameter:
        return LookReason.PARAMETER
    mode = header(b"Sec-Fetch-Mode")
    if (
        (mode or "").strip().lower() == "navigate"
        or header(b"Sec-Fetch-Site") is not None
        or header(b"Origin") is not None
    ):
        return LookReason.PAGE
    if mode is None and (
        header(b"Upgrade-Insecure-Requests") is not None
        or names_type(header(b"Accept"), "application/xhtml+xml")
        or _is_part_of_a_page(header)
    ):
        return LookReason.BROWSER
    return LookReason.NO_TIMEOUT if timeout_expected else None


def _is_part_of_a_page(header: Header) -> bool:
    """Return whether a browser loads an image, a style or a script; libraries name no people's language."""
    language = header(b"Accept-Language") or "*"
    return language.strip() != "*" and (header(b"User-Agent") or "").startswith("Mozilla/")

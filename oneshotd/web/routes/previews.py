"""Tell requests that nobody meant: a browser's or a messenger's preview of a link.

Somebody pastes a URL into a chat, and the chat's server fetches it for a preview; a browser fetches what
its user may click next. A GET that stores an event must not be such a request.
"""

from __future__ import annotations

import re

from oneshotd.web.transport.request import OneshotRequest

#: User agents of previews and crawlers.
_AGENTS = re.compile(
    r"slackbot|slack-imgproxy|facebookexternalhit|facebot|meta-externalagent|twitterbot|linkedinbot|discordbot"
    r"|telegrambot|whatsapp|skypeuripreview|microsoftpreview|mattermost-bot|zulipurlpreview|rocket\.chat"
    r"|synapse|viber|vkshare|pinterest|redditbot|embedly|iframely|bitlybot|applebot|googlebot|google-safety"
    r"|google-read-aloud|bingbot|bingpreview|yandexbot|duckduckbot|baiduspider|petalbot|ahrefsbot|semrushbot"
    r"|\burl ?preview|\blink ?preview|\bcrawler\b|\bspider\b|\(bot;",
    re.IGNORECASE,
)

#: Headers by which browsers say that they only prefetch.
_PURPOSES = (b"Sec-Purpose", b"Purpose", b"X-Purpose", b"X-Moz")


def is_preview(request: OneshotRequest) -> bool:
    """Return whether this request is a preview of a link, or a browser's prefetch."""
    purposes = " ".join(request.header(name) or "" for name in _PURPOSES).lower()
    if "prefetch" in purposes or "preview" in purposes or "prerender" in purposes:
        return True
    return _AGENTS.search(request.header(b"User-Agent") or "") is not None

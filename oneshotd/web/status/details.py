"""The texts beside an event on the status page: closed until a reader opens them, links only to HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from twisted.web.template import Tag, tags

from oneshotd.core.text import escape_unprintable
from oneshotd.web.status.wording import count, shown

#: Details of an event that are shown, characters of a name, and of all texts of one event.
MAX_DETAILS, MAX_NAME, MAX_TEXT = 12, 48, 1500

#: An address without blanks, quotes, angle brackets and backslashes, in ASCII as RFC 3986 has it.
_LINK = re.compile(r"https?://[!#$%&()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+", re.IGNORECASE)
#: Characters of an address; a longer one is shown and is no link.
_MAX_LINK = 1000


def details_list(details: Mapping[str, str]) -> Tag:
    """Render the details of an event; what is too long is cut."""
    parts: list[Tag] = []
    room = MAX_TEXT
    for name, text in list(details.items())[:MAX_DETAILS]:
        if room <= 0:
            break
        content = _text(text, room)
        room -= len(text)
        parts += [tags.dt(tags.bdi(shown(name, MAX_NAME))), tags.dd(content)]
    more = len(details) - len(parts) // 2
    return tags.details(
        tags.summary(count(len(details), "detail")),
        tags.dl(parts),
        tags.p(f"and {count(more, 'detail')} more", class_="note") if more else "",
        class_="beside",
    )


def _text(text: str, most: int) -> Tag:
    if is_link(text) and len(text) <= most:
        return tags.a(text, href=text, rel="noopener noreferrer", target="_blank")
    lines = text[: most + 1].split("\n")
    visible = "\n".join(map(escape_unprintable, lines))
    return tags.bdi(visible if len(visible) <= most else visible[: most - 1] + "…")


def is_link(text: str) -> bool:
    """Return whether this is the address of a page, http or https, and nothing else."""
    if len(text) > _MAX_LINK or not _LINK.fullmatch(text):
        return False
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False

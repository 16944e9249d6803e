"""Details: pairs named ``detail.NAME``, texts beside an event that are no labels."""

from __future__ import annotations

from oneshotd.core.events import detail_text
from oneshotd.core.text import quoted
from oneshotd.errors import Refused

#: The names of all details begin so, and no label's does.
PREFIX = "detail."
#: Details of an event, empty ones included.
MAX_DETAILS = 64
#: Bytes of an event's details in UTF-8, with their names, as the JSON object that is stored.
MAX_DETAIL_BYTES = 4096


class Details:
    """The details of one event, while its pairs are read."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._size = 0

    def take(self, name: str, text: str) -> None:
        """Take a detail; an empty text is the same as none.

        :param name: as the client wrote it, with `PREFIX`; its characters are those of a label's name.
        :raises Refused: the name is empty, or given twice, or there are too many details.
        """
        own = name.removeprefix(PREFIX)
        if not own:
            raise Refused(f"{PREFIX} has no name after it, expected one such as {PREFIX}text", reason="label")
        if own in self._texts:
            raise Refused(f"{quoted(name)} is given twice", reason="label")
        if len(self._texts) == MAX_DETAILS:
            raise Refused(f"there are more than {MAX_DETAILS} details", reason="limit")
        self._size += len(own) + len(text)
        if self._size > MAX_DETAIL_BYTES:
            raise _too_long()
        self._texts[own] = text

    def text(self) -> str:
        """Return them as `NewEvent.detail`.

        :raises Refused: they are too long, or not Unicode.
        """
        detail = detail_text({name: text for name, text in self._texts.items() if text})
        try:
            size = len(detail.encode())
        except UnicodeEncodeError:
            raise Refused("a detail has half of a surrogate pair in it", reason="encoding") from None
        if size > MAX_DETAIL_BYTES:
            raise _too_long()
        return detail


def _too_long() -> Refused:
    return Refused(f"the details are longer than {MAX_DETAIL_BYTES} bytes as JSON", reason="limit")

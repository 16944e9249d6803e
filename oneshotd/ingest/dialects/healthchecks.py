"""Read the pings of Healthchecks (``/ping/…``).

| path behind ``/ping/`` | |
|---|---|
| ``UUID``, ``KEY/SLUG`` | success |
| … ``/start``, ``/fail``, ``/log`` | the state |
| … ``/0`` to ``/255`` | an exit status: success, or fail unless it is 0 |

A UUID with a state looks like a key and a slug; it is a UUID, as Healthchecks reads it.
"""

from __future__ import annotations

import re

from oneshotd.core.parsing.formats import query_pairs
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.pings import FAIL, LOG, START, SUCCESS, Ping, Place, body_text, malformed
from oneshotd.ingest.dialects.translation import Message

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_EXIT_STATUS = re.compile(r"[0-9]{1,10}", re.ASCII)
_STATES = {"start": START, "fail": FAIL, "log": LOG}


def read_ping(message: Message) -> Ping:
    """Read a ping.

    :param message: its path is what is behind ``/ping/``.
    :raises Refused: 400 in the words of Healthchecks, or 404 for a path of another form.
    """
    place, action = _split(message.path)
    exit_code = ""
    if _EXIT_STATUS.fullmatch(action):
        if int(action) > 255:
            raise malformed()
        exit_code = str(int(action))
        state = FAIL if int(action) else SUCCESS
    else:
        state = _STATES[action] if action else SUCCESS
    return Ping(
        place=place,
        state=state,
        exit_code=exit_code,
        run=_run(message.query),
        details={"text": body_text(message.body)},
    )


def is_uuid(text: str) -> bool:
    """Return whether this is a UUID in lower case."""
    return _UUID.fullmatch(text) is not None


def is_slug(text: str) -> bool:
    """Return whether this can be a slug, or a key."""
    return _NAME.fullmatch(text) is not None


def _split(path: str) -> tuple[Place, str]:
    """Return the place of a check, and what follows it: a state, an exit status, or nothing."""
    parts = path.removesuffix("/").split("/")
    if is_uuid(parts[0].lower()) and (len(parts) == 1 or (len(parts) == 2 and _is_action(parts[1]))):
        return (parts[0].lower(),), "".join(parts[1:])
    known = len(parts) == 2 or (len(parts) == 3 and _is_action(parts[2]))
    if not known or not all(map(is_slug, parts[:2])):
        raise Refused("not found, expected a UUID, or a key and a slug", reason="name", status=404)
    if parts[1] != parts[1].lower():
        raise malformed()
    return (parts[0], parts[1]), "".join(parts[2:])


def _is_action(text: str) -> bool:
    return text in _STATES or _EXIT_STATUS.fullmatch(text) is not None


def _run(query: bytes) -> str:
    """Return the run id of a query; other parameters are ignored (``create``)."""
    for pair in query.split(b"&"):
        if pair.partition(b"=")[0] != b"rid":
            continue
        (_, text), *_rest = query_pairs(pair)
        if not is_uuid((text or "").lower()):
            raise Refused(f"rid: invalid uuid format, got {quoted(text or '')}", reason="query")
        return (text or "").lower()
    return ""

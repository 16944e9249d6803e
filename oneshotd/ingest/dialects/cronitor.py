"""Read the telemetry of Cronitor (``/p/API_KEY/MONITOR?state=…``).

| parameter | becomes |
|---|---|
| ``state``: run, complete, fail, ok; none: a heartbeat | the label `state`: start, success, fail, ok, tick |
| ``status_code`` | the label `exit_code`; beyond 255, as Windows has them, `detail.exit_code` |
| ``series`` | the run id |
| ``message``, else the body | `detail.text` |
| ``env``, ``host`` | `detail.env`, `detail.host`; without ``series`` they also tell runs apart |
| ``metric=duration:…``, ``duration`` | the value, where no start is known |
| ``metric`` | `detail.metrics`, all of them |
| ``stamp`` | `detail.time` |

Old clients have the state behind the monitor, ``/p/API_KEY/MONITOR/run``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from oneshotd.core.parsing.grammar import quoted
from oneshotd.core.parsing.numbers import canonical
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.pings import FAIL, RESET, START, SUCCESS, TICK, Ping, body_text
from oneshotd.ingest.dialects.times import rfc3339_of_ms, unix_ms
from oneshotd.ingest.dialects.translation import Message

#: Cronitor's states; ``tick`` is that of its command.
_STATES: Mapping[str, str] = {
    "run": START,
    "complete": SUCCESS,
    "fail": FAIL,
    "ok": RESET,
    "tick": TICK,
    "": TICK,
}

_EXIT_CODE = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_DURATION = "duration:"

#: Parameters that are read, at most this often.
_MOST = 64


def read_telemetry(message: Message) -> Ping:
    """Read a telemetry event.

    :param message: its path is what is behind ``/p/``.
    :raises Refused: a parameter is malformed; 404 for a path of another form.
    """
    parts = message.path.removesuffix("/").split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise Refused("not found, expected a key and a monitor", reason="name", status=404)
    given = _parameters(message.query)
    wanted = _first(given, "state") or "".join(parts[2:])
    state = _STATES.get(wanted)
    if state is None:
        raise Refused(f"state: expected run, complete, fail or ok, got {quoted(wanted)}", reason="query")
    exit_code = _first(given, "status_code")
    if exit_code and not _EXIT_CODE.fullmatch(exit_code):
        raise Refused(f"status_code: expected a number, got {quoted(exit_code)}", reason="query")
    few = not exit_code or 0 <= int(exit_code) <= 255  # each value is a series
    stamp, metrics = _first(given, "stamp"), given.get("metric", ())
    return Ping(
        place=(parts[0], parts[1]),
        state=state,
        exit_code=str(int(exit_code)) if exit_code and few else "",
        run=_first(given, "series"),
        series=(_first(given, "env"), _first(given, "host")),
        value=_duration(_first(given, "duration"), metrics),
        details={
            "text": _first(given, "message") or body_text(message.body),
            "env": _first(given, "env"),
            "host": _first(given, "host"),
            "metrics": " ".join(metrics),
            "exit_code": "" if few else exit_code,
            "time": rfc3339_of_ms(unix_ms("stamp", stamp, 1000)) if stamp else "",
        },
    )


def _parameters(query: bytes) -> Mapping[str, Sequence[str]]:
    """Return name -> values of a query, however it is written: Cronitor refuses none."""
    found: dict[str, list[str]] = {}
    for pair in query.split(b"&")[:_MOST]:
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        found.setdefault(_plain(name), []).append(_plain(value))
    return found


def _plain(quoted: bytes) -> str:
    return unquote_to_bytes(quoted).decode("utf-8", "replace")


def _first(given: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(given.get(name, ())), "")


def _duration(sent: str, metrics: Sequence[str]) -> str:
    """Return the seconds that the sender has measured; empty if it has not, or if that is no number."""
    for text in (
        sent,
        *(metric.removeprefix(_DURATION) for metric in metrics if metric.startswith(_DURATION)),
    ):
        try:
            seconds = canonical(text)
        except ValueError:
            continue
        if seconds[0].isdigit():  # no sign, and no NaN or infinity
            return seconds
    return ""

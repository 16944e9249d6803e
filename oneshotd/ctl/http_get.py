"""GET requests of a subcommand to one server: JSON answers or plain ones, over a persistent connection."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from oneshotd import __version__
from oneshotd.core.text import escape_unprintable, quoted
from oneshotd.ctl.results import NOT_ALLOWED, PROTOCOL, UNAVAILABLE, USAGE, Failed
from oneshotd.emit.answers import EmitError, EmitUnavailable
from oneshotd.emit.credentials import authorization, hidden, sent_with
from oneshotd.emit.settings import Credentials, SettingsError, Target
from oneshotd.emit.tls import client_context, tls_failure

#: Bytes of an answer: 100 000 series of a query have some 30 MB.
MAX_ANSWER_BYTES = 512 * 1024 * 1024

_PIECE = 65536
#: Statuses of a server, or of a proxy before it, that a later attempt may not get.
_LATER = (408, 425, 429)


class Server:
    """One server. Its methods raise `Failed`, with a line that names the server.

    :param what: the kind of server, as "Prometheus".
    :param timeout: seconds for each request.
    :param any_certificate: do not verify the server's certificate.
    :ivar date: Unix seconds of the header Date of the last answer, or None.
    """

    def __init__(
        self,
        what: str,
        target: Target,
        credentials: Credentials,
        timeout: float,
        *,
        any_certificate: bool = False,
    ) -> None:
        self.name = f"{what} at {target}"
        self.date: float | None = None
        self._what = what
        self._target = target
        self._credentials = credentials
        self._timeout = timeout
        self._line: http.client.HTTPConnection | None = None
        try:
            self._authorization: Callable[[], str | None] = authorization(target, credentials)
            self._context = client_context(credentials) if target.scheme == "https" else None
        except SettingsError as error:
            raise Failed(f"{self.name}: {error}", USAGE) from None
        if any_certificate and self._context is not None:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
        self._line = None

    def get(self, path: str, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the JSON object of an answer.

        :raises Failed: there is no answer in time, or it is not a JSON object with the status 200.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        return self._read(*self._asked(f"{path}{query}", "application/json"))

    def plain(self, path: str) -> tuple[int, str]:
        """Return the status and the text of an answer that is 200 or 503.

        :raises Failed: there is no answer in time, or it has another status.
        """
        status, body = self._asked(path, "text/plain")
        if status == 503:
            return status, escape_unprintable(_line(_parsed(body), body)) or "without a reason"
        if status != 200:
            raise self._refused(status, _said(_parsed(body), body))
        return status, body.decode(errors="replace")

    def _asked(self, path: str, media: str) -> tuple[int, bytes]:
        """Return the status and the body of an answer.

        :param media: the type that is preferred.
        """
        header = self._authorization()
        headers = {"User-Agent": f"oneshotctl/{__version__}", "Accept": media}
        if header is not None:
            headers["Authorization"] = header
        reused = self._line is not None
        try:
            status, body = self._exchange(f"{self._target.path}{path}", headers)
        except _Stale:
            if not reused:
                raise self._away("the server closed the connection before it answered") from None
            # The server closed the idle connection.
            return self._asked(path, media)
        return status, hidden(body, header)

    def _exchange(self, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        ends = time.monotonic() + self._timeout
        try:
            line = self._line = self._line or self._opened()
            _let(line, ends)
            line.request("GET", path, headers=dict(headers))
            answer = line.getresponse()
            pieces, size = [], 0
            while True:
                _let(line, ends)
                piece = answer.read1(_PIECE)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER_BYTES:
                    raise Failed(f"{self.name}: the answer is longer than {MAX_ANSWER_BYTES} bytes", PROTOCOL)
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
            answer.close()  # or the connection takes no further request
            self.date = _date(answer.headers.get("Date"))
            if answer.will_close:
                self.close()
            return answer.status, b"".join(pieces)
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise self._away(f"no answer within {self._timeout:g} s") from None
            if isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)):
                raise _Stale from None
            if isinstance(error, http.client.IncompleteRead):
                raise self._away("the connection was closed before the end of the answer") from None
            if isinstance(error, http.client.HTTPException):
                raise Failed(f"{self.name}: the answer is not HTTP", PROTOCOL) from None
            if isinstance(error, OSError):
                raise self._failure(error) from None
            raise

    def _opened(self) -> http.client.HTTPConnection:
        host, port = self._target.host, self._target.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)

    def _failure(self, error: OSError) -> Failed:
        meant: EmitError = EmitUnavailable(error.strerror or str(error))
        if self._target.scheme == "https":
            meant = tls_failure(error, self._credentials)
        status = UNAVAILABLE if isinstance(meant, EmitUnavailable) else PROTOCOL
        return Failed(f"{self.name}: {meant}", status)

    def _away(self, why: str) -> Failed:
        return Failed(f"{self.name}: {why}", UNAVAILABLE)

    def _read(self, status: int, body: bytes) -> Mapping[str, Any]:
        found = _parsed(body)
        if status != 200:
            raise self._refused(status, _said(found, body))
        if not isinstance(found, dict):
            raise Failed(f"{self.name}: this is not {self._what}, its answer: {_said(None, body)}", PROTOCOL)
        return found

    def _refused(self, status: int, said: str) -> Failed:
        text = f"{self.name}: refused ({status}): {said}"
        if status in (401, 403):
            used = sent_with(self._target, self._credentials)
            return Failed(f"{text}; {used}", NOT_ALLOWED)
        if status >= 500 or status in _LATER:
            return Failed(text, UNAVAILABLE)
        if 300 <= status < 400:
            return Failed(f"{text}; redirects are not followed, give the URL that they name", PROTOCOL)
        return Failed(text, PROTOCOL)


class _Stale(Exception):
    """The server closed the connection without an answer."""


def _let(line: http.client.HTTPConnection, ends: float) -> None:
    """Give the connection the time that is left for the request."""
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    line.timeout = left
    if line.sock is not None:
        line.sock.settimeout(left)


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _parsed(body: bytes) -> Any:
    """Return the value of a JSON text; None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _line(found: Any, body: bytes) -> str:
    """Return what an error of the daemon, of Prometheus or of another server says, in one line."""
    text = found.get("error") if isinstance(found, dict) else None
    return " ".join(str(text or body[:2000].decode(errors="replace")).split())[:300]


def _said(found: Any, body: bytes) -> str:
    """Return the same in quotes, as a text of somebody else."""
    line = _line(found, body)
    return quoted(line) if line else "without a reason"

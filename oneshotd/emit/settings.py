"""The emitter's settings: URL, timeout, retry; command line over environment over file.

# /etc/oneshotd/emit.toml
url = "http://oneshotd.example.net:8090"
timeout = "5s"
retry = "1m"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from oneshotd.core.parsing.numbers import duration

FILE = "/etc/oneshotd/emit.toml"
VARIABLE = "ONESHOTD_URL"
#: The daemon's port where a UDP address does not say one.
PORT = 8090
URL = f"http://localhost:{PORT}"
#: Seconds for one attempt.
TIMEOUT = 5.0

_PORTS = {"http": 80, "https": 443, "udp": PORT}
_KEYS = ("url", "timeout", "retry")


class SettingsError(Exception):
    """A setting of the environment, the file or the program is wrong; one line says which."""


class Target(NamedTuple):
    """The address of a daemon.

    :param scheme: "http", "https" or "udp".
    :param host: a zone is written ``fe80::1%eth0``.
    :param path: before the paths of the HTTP API, as ``/oneshotd`` behind a proxy; "" for none.
    :param login: "user:password", or None.
    """

    scheme: str
    host: str
    port: int
    path: str
    login: str | None

    @property
    def address(self) -> str:
        """``HOST:PORT``, as the header Host has it: without a zone, which names an interface of this host
        (RFC 6874 section 4)."""
        return self._at(self.name)

    def _at(self, host: str) -> str:
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """The host as a certificate has it: without a zone."""
        return self.host.partition("%")[0]

    @property
    def authorization(self) -> str | None:
        """The header of that name (RFC 7617)."""
        if self.login is None:
            return None
        from base64 import b64encode  # here: only a login needs it

        return f"Basic {b64encode(self.login.encode()).decode()}"

    @property
    def local_url(self) -> str:
        """The URL without the password, its zone written as the system's resolver takes it."""
        return f"{self.scheme}://{self._at(self.host)}{self.path}"

    def __str__(self) -> str:
        """The URL without the password."""
        return f"{self.scheme}://{self._at(self.host.replace('%', '%25'))}{self.path}"


class Settings(NamedTuple):
    """The settings of a sender.

    :param timeout: seconds for one attempt.
    :param retry: seconds in which an attempt that failed is made again; 0: never.
    """

    target: Target
    timeout: float
    retry: float


def target(url: str) -> Target:
    """Parse the URL of a daemon.

    :raises ValueError: "expected …", without the URL if it holds a password.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
        parts = urlsplit("")
    strange = parts.query or parts.fragment or (scheme == "udp" and (parts.path.strip("/") or parts.username))
    # What is not printable ASCII would break out of the request's head.
    plain = re.fullmatch(r"[!-~]+", url)
    if scheme not in _PORTS or not host or port == 0 or strange or not plain:
        got = "something else" if "@" in url else repr(url)
        raise ValueError(f"expected http://HOST:PORT, https://HOST or udp://HOST:PORT, got {got}")
    address, percent, zone = host.partition("%")
    if zone.startswith("25") and zone != "25":  # as RFC 6874 has it; curl takes both as well
        host = f"{address}{percent}{zone[2:]}"
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return Target(scheme, host, port or _PORTS[scheme], parts.path.rstrip("/"), login)


def settings(
    environ: Mapping[str, str],
    *,
    url: str | None = None,
    timeout: float | None = None,
    retry: float | None = None,
    file: str | None = None,
    usual_timeout: float = TIMEOUT,
) -> Settings:
    """Return the settings; an argument that is None is read from the environment or the file.

    :param timeout: in seconds, as `retry`.
    :param file: None: `FILE`, if it is there.
    :param usual_timeout: seconds, if no source sets a timeout.
    :raises SettingsError: one line that names the source and what is wrong.
    """
    given = _read(FILE if file is None else file, must_exist=file is not None)
    name = file or FILE
    if url is not None:
        source = "url"
    elif environ.get(VARIABLE):
        source, url = f"${VARIABLE}", environ[VARIABLE]
    else:
        source, url = f"{name}: url", given.get("url", URL)
    try:
        where = target(url)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None
    if timeout is None:
        timeout = _duration(name, given, "timeout", usual_timeout)
    if not timeout > 0:
        raise SettingsError(f"timeout: expected seconds above 0, got {timeout!r}")
    if retry is None:
        # A datagram has no answer, so a failure is not noticed.
        retry = 0.0 if where.scheme == "udp" else _duration(name, given, "retry", 0.0)
    elif not retry >= 0:
        raise SettingsError(f"retry: expected seconds from 0, got {retry!r}")
    elif retry and where.scheme == "udp":
        raise SettingsError(f"retry: {where} never answers, so there is nothing to retry; use http://")
    return Settings(where, timeout, retry)


def _read(name: str, *, must_exist: bool) -> dict[str, str]:
    try:
        with open(name, "rb") as file:
            text = file.read()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return {}
        raise SettingsError(f"{name}: {error.strerror}") from None
    import tomllib  # here: most machines have no such file

    try:
        table = tomllib.loads(text.decode())
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise SettingsError(f"{name}: {error}") from None
    for key, value in table.items():
        if key not in _KEYS:
            raise SettingsError(f"{name}: there is no {key!r}, expected one of {', '.join(_KEYS)}")
        if not isinstance(value, str):
            raise SettingsError(f"{name}: {key}: expected a text in quotes, got {value!r}")
    return table


def _duration(name: str, given: Mapping[str, str], key: str, default: float) -> float:
    if key not in given:
        return default
    try:
        return duration(given[key], zero=key == "retry")
    except ValueError as error:
        raise SettingsError(f"{name}: {key}: {error}") from None

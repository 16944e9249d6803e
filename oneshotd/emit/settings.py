"""The emitter's settings: URL, timeout, retry, credentials; command line over environment over file.

# /etc/oneshotd/emit.toml
url = "https://oneshotd.example.net:8090"
timeout = "5s"
retry = "1m"
token-file = "token"
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from oneshotd.core.parsing.numbers import duration

FILE = "/etc/oneshotd/emit.toml"
#: The daemon's port where a UDP address does not say one.
PORT = 8090
URL = f"http://localhost:{PORT}"
#: Seconds for one attempt.
TIMEOUT = 5.0

_PORTS = {"http": 80, "https": 443, "udp": PORT}
#: The options that name a file, as on the command line and in the file.
FILES = ("token-file", "ca-file", "cert", "key")
_KEYS = ("url", "timeout", "retry", *FILES)


class SettingsError(Exception):
    """A setting of the environment, the file or the program is wrong; one line says which."""


class Target(NamedTuple):
    """The address of a daemon.

    :param scheme: "http", "https" or "udp".
    :param host: a zone is written ``fe80::1%eth0``.
    :param path: before the paths of the HTTP API, as ``/oneshotd`` behind a proxy; "" for none.
    :param login: "user:password", or None; not in `repr`.
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

    def __repr__(self) -> str:
        return f"Target({self})"


class Credentials(NamedTuple):
    """Paths of the files that authenticate the client and the daemon; "" for none.

    :param token_file: the first line is a bearer token.
    :param ca_file: PEM; the authorities that are trusted, instead of the system's.
    :param cert: PEM; the client's certificate and its chain.
    :param key: PEM; its key. "": it is in `cert`.
    :param unused: why a source of credentials does not apply to this daemon.
    """

    token_file: str = ""
    ca_file: str = ""
    cert: str = ""
    key: str = ""
    unused: str = ""


NO_CREDENTIALS = Credentials()


class Settings(NamedTuple):
    """The settings of a sender.

    :param timeout: seconds for one attempt, at all addresses together.
    :param retry: seconds in which an attempt that failed is made again; 0: never.
    :param further: the other daemons over the same store, in the order in which they are tried.
    """

    target: Target
    timeout: float
    retry: float
    credentials: Credentials = NO_CREDENTIALS
    further: tuple[Target, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        """All addresses."""
        return (self.target, *self.further)

    def located(self, error: Exception) -> str:
        """Return the text of an error with the address; with several, the text has it already."""
        return str(error) if self.further else f"{self.target}: {error}"


def targets(urls: Sequence[str]) -> list[Target]:
    """Parse the URLs of daemons over one store.

    :raises ValueError: "expected …"; also for no URL, one that is given twice, and UDP with others.
    """
    found = [target(url) for url in urls]
    if not found:
        raise ValueError("expected a URL")
    for place, each in enumerate(found):
        if each[:4] in [other[:4] for other in found[:place]]:
            raise ValueError(f"{each} is given twice")
        if each.scheme == "udp" and len(found) > 1:
            raise ValueError(f"{each} never answers, so no other address would be tried; expected http://")
    return found


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


class _Source(NamedTuple):
    """One of the places where settings come from.

    :param name: what an error calls an option of this source.
    :param texts: the files, by option.
    :param folder: where a relative path begins; "" for the working directory.
    :param urls: of the daemons; None if the source names none.
    """

    name: Callable[[str], str]
    texts: Mapping[str, str]
    folder: str = ""
    urls: Sequence[str] | None = None

    def has(self, where: Sequence[Target]) -> bool:
        """Return whether the source names no daemons, or all of these, by the same way."""
        if self.urls is None:
            return True
        try:
            own = [each[:3] for each in targets(self.urls)]
        except ValueError:
            return False
        return all(each[:3] in own for each in where)


def settings(
    environ: Mapping[str, str],
    *,
    url: str | Sequence[str] | None = None,
    timeout: float | None = None,
    retry: float | None = None,
    files: Mapping[str, str] | None = None,
    file: str | None = None,
    usual_timeout: float = TIMEOUT,
) -> Settings:
    """Return the settings; an argument that is None is read from the environment or the file.

    :param url: one, or those of several daemons over one store.
    :param timeout: in seconds, as `retry`.
    :param files: paths by the option's name, one of `FILES`; "" for none, whatever the others say.
    :param file: None: `FILE`, if it is there.
    :param usual_timeout: seconds, if no source sets a timeout.
    :raises SettingsError: one line that names the source and what is wrong.
    """
    name = file or FILE
    table = _read(name, must_exist=file is not None)
    given = {key: text for key, text in table.items() if isinstance(text, str)}
    sources = (
        _Source(str, files or {}, urls=[url] if isinstance(url, str) else url),
        _Source(
            lambda option: f"${_variable(option)}",
            _from_environment(environ),
            urls=environ.get(_variable("url"), "").split() or None,
        ),
        _Source(lambda option: f"{name}: {option}", given, os.path.dirname(name), _urls(name, table)),
    )
    rank = next((rank for rank, source in enumerate(sources) if source.urls is not None), len(sources) - 1)
    try:
        where = targets([URL] if (urls := sources[rank].urls) is None else urls)
    except ValueError as error:
        raise SettingsError(f"{sources[rank].name('url')}: {error}") from None
    if timeout is None:
        timeout = _duration(name, given, "timeout", usual_timeout)
    if not timeout > 0:
        raise SettingsError(f"timeout: expected seconds above 0, got {timeout!r}")
    if retry is None:
        # A datagram has no answer, so a failure is not noticed.
        retry = 0.0 if where[0].scheme == "udp" else _duration(name, given, "retry", 0.0)
    elif not retry >= 0:
        raise SettingsError(f"retry: expected seconds from 0, got {retry!r}")
    elif retry and where[0].scheme == "udp":
        raise SettingsError(f"retry: {where[0]} never answers, so there is nothing to retry; use http://")
    return Settings(where[0], timeout, retry, _credentials(sources, rank, where), tuple(where[1:]))


def _variable(option: str) -> str:
    """Return the name of the environment's variable for an option: ``ONESHOTD_TOKEN_FILE``."""
    return f"ONESHOTD_{option.upper().replace('-', '_')}"


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the files that the environment names; an empty variable names none."""
    found = {option: environ.get(_variable(option), "") for option in FILES}
    return {option: text for option, text in found.items() if text}


def _credentials(sources: Sequence[_Source], rank: int, where: Sequence[Target]) -> Credentials:
    """Return the files that apply to these daemons, each from the first source that names it.

    A credential is not told to a daemon that it was not meant for: a source with URLs of its own is
    left out if another source's URL, of a daemon that is not among them, comes first.

    :param rank: the source of the URL. A file that does not go with the URL is an error if its
        source is this one or comes first, and else is not used.
    :raises SettingsError: a file does not go with the URL, or a key has no certificate.
    """
    found: dict[str, str] = {}
    unused = ""
    for group in (("token-file",), ("ca-file",), ("cert", "key")):
        for at, source in enumerate(sources):
            named = [option for option in group if option in source.texts]
            if not named:
                continue
            if at > rank and not source.has(where):
                unused = f"{source.name(named[0])} is for another url"
                continue
            paths = {option: _path(source, option) for option in named}
            why = next(filter(None, (_misfit(group[0], each) for each in where)), "")
            if why and any(paths.values()) and at <= rank:
                raise SettingsError(f"{source.name(named[0])}: {why}")
            if paths.get("key") and not paths.get("cert"):
                raise SettingsError(f"{source.name('key')}: expected cert as well, the key's certificate")
            if not why:
                found |= paths
            break
    token_file, ca_file, cert, key = (found.get(option, "") for option in FILES)
    return Credentials(token_file, ca_file, cert, key, unused)


def _path(source: _Source, option: str) -> str:
    text = source.texts[option]
    if not text.isprintable():  # such as the whole PEM text
        raise SettingsError(f"{source.name(option)}: expected the name of a file")
    return os.path.join(source.folder, text) if text else ""


def _misfit(option: str, where: Target) -> str:
    """Return why a file cannot be used with this URL; "" if it can."""
    if option != "token-file":
        return "" if where.scheme == "https" else f"{where} is not encrypted; expected https://"
    if where.scheme == "udp":
        return f"{where} takes no token, UDP knows the sender's address only; expected http:// or https://"
    return "the url has a user and a password already; expected one of both" if where.login else ""


def _urls(name: str, table: Mapping[str, object]) -> list[str] | None:
    """Return the file's URLs, which are a text or an array of texts."""
    found = table.get("url")
    if found is None or isinstance(found, str):
        return None if found is None else [found]
    if isinstance(found, list) and all(isinstance(url, str) for url in found):
        return found
    raise SettingsError(f"{name}: url: expected a text in quotes, or an array of them, got {found!r}")


def _read(name: str, *, must_exist: bool) -> dict[str, object]:
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
        if key != "url" and not isinstance(value, str):
            raise SettingsError(f"{name}: {key}: expected a text in quotes, got {value!r}")
    return table


def _duration(name: str, given: Mapping[str, str], key: str, default: float) -> float:
    if key not in given:
        return default
    try:
        return duration(given[key], zero=key == "retry")
    except ValueError as error:
        raise SettingsError(f"{name}: {key}: {error}") from None

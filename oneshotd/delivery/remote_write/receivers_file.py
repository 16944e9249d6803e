"""Read the file of --receivers: a TOML file of ``[[receiver]]`` tables (docs/receivers.md).

Reading is strict: what is not understood is an error that names the file, the receiver and the key. No error
repeats a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oneshotd.access.small_files import read_small
from oneshotd.access.tls_settings import PEM
from oneshotd.core.identity import identify
from oneshotd.core.parsing.numbers import duration
from oneshotd.core.toml_values import parse_toml, shown, unknown_key
from oneshotd.delivery.remote_write.destination import ConfiguredReceiver, Destination
from oneshotd.delivery.remote_write.secret_files import basic, bearer, checked_value, header_value
from oneshotd.delivery.remote_write.settings import REQUEST_TIMEOUT, VISIBLE, ReceiverSettings
from oneshotd.errors import ConfigError, Refused

#: Bounds of the file: bytes, receivers, and headers of one.
MAX_FILE_BYTES, MAX_RECEIVERS, MAX_HEADERS = 256 * 1024, 50, 50

#: The longest `visible`, and how an error calls it: a receiver itself ends a series after five minutes.
MAX_VISIBLE, MAX_VISIBLE_TEXT = 300.0, "5m"
#: The longest `replay`, and the shortest and longest `timeout`, in seconds.
MAX_REPLAY, MIN_TIMEOUT, MAX_TIMEOUT = 3600.0, 1.0, 300.0
#: Bytes of `job`, `instance` and `user`.
MAX_TEXT = 256

#: The keys of a receiver.
KEYS = (
    "name",
    "url",
    "job",
    "instance",
    "visible",
    "max-labels",
    "max-label-value",
    "replay",
    "timeout",
    "headers",
    "header-files",
    "user",
    "password-file",
    "token-file",
    "ca-file",
    "cert",
    "key",
)

#: Headers that the sender sets, or that change how a request is framed.
_RESERVED = frozenset(
    (
        *("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect"),
        *("host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"),
        "x-prometheus-remote-write-version",
    )
)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_URL = re.compile(r"[!-~]+")


def read_receivers_file(path: Path) -> tuple[Sequence[ConfiguredReceiver], Sequence[Path]]:
    """Read the receivers of a file, and the files that it names.

    :returns: the receivers in their order, and all files, for a look whether one has changed.
    :raises ConfigError: one line, "FILE: receiver 3: key: what is wrong".
    """
    data = read_small(path, where=str(path), limit=MAX_FILE_BYTES)
    files = [path]
    try:
        return _receivers(parse_toml(data), path.parent, files), files
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _receivers(table: Mapping[str, Any], folder: Path, files: list[Path]) -> Sequence[ConfiguredReceiver]:
    for name in table:
        if name != "receiver":
            raise ValueError(unknown_key(name, ["receiver"]))
    found = table.get("receiver", [])
    if not isinstance(found, list) or not all(isinstance(member, dict) for member in found):
        raise ValueError("receiver: expected tables, [[receiver]]")
    if len(found) > MAX_RECEIVERS:
        raise ValueError(f"there are {len(found)} receivers, more than {MAX_RECEIVERS}")
    receivers: list[ConfiguredReceiver] = []
    for number, keys in enumerate(found, 1):
        try:
            receiver = _receiver(_Keys(keys, folder, files))
            _check_apart(receiver, receivers)
        except (ValueError, ConfigError) as error:
            raise ValueError(f"receiver {number}: {error}") from None
        receivers.append(receiver)
    return receivers


def _check_apart(receiver: ConfiguredReceiver, others: Iterable[ConfiguredReceiver]) -> None:
    """Check that no other receiver has this name, or makes the same series at the same address."""
    for number, other in enumerate(others, 1):
        if other.name == receiver.name:
            raise ValueError(f"name: receiver {number} has this name")
        if _series(receiver) == _series(other):
            raise ValueError(
                f"url, job and instance are those of receiver {number}; each event would be refused"
            )


def _series(receiver: ConfiguredReceiver) -> object:
    return (
        receiver.destination.url,
        receiver.destination.headers,
        receiver.settings.job,
        receiver.settings.instance,
    )


class _Keys:
    """The keys of one receiver, with errors that name the key."""

    def __init__(self, table: Mapping[str, Any], folder: Path, files: list[Path]) -> None:
        for name in table:
            if name not in KEYS:
                raise ValueError(unknown_key(name, KEYS))
        self._table = table
        self._folder = folder
        self._files = files

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def text(self, key: str, default: str | None = None, limit: int = MAX_TEXT) -> str:
        """Return a printable text."""
        value = self._table.get(key, default)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError(f"{key}: expected a text, got {_given(value)}")
        if len(value.encode()) > limit:
            raise ValueError(f"{key}: expected at most {limit} bytes, got more")
        return value

    def seconds(self, key: str, default: float, least: float, most: float, example: str) -> float:
        """Return a duration."""
        value = self._table.get(key)
        if value is None:
            return default
        try:
            seconds = duration(value, zero=True) if isinstance(value, str) else -1.0
        except ValueError:
            seconds = -1.0
        if not least <= seconds <= most:
            raise ValueError(f"{key}: expected {example}, got {shown(value)}")
        return seconds

    def number(self, key: str) -> int:
        """Return a whole number from 1; 0 where the key is missing."""
        value = self._table.get(key)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise ValueError(f"{key}: expected a whole number from 1, got {shown(value)}")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        """Return a table of headers; its names can be those of headers."""
        value = self._table.get(key, {})
        if not isinstance(value, dict) or len(value) > MAX_HEADERS:
            raise ValueError(
                f'{key}: expected a table such as {{ X-Scope-OrgID = "a" }} of at most {MAX_HEADERS} headers,'
                f" got {shown(value)}"
            )
        for name, text in value.items():
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{key}: expected the name of a header, got {name[:80]!a}")
            if name.lower() in _RESERVED:
                raise ValueError(f"{key}: {name} is set by the daemon")
            if name.lower() == "authorization":
                raise ValueError(f"{key}: {name}: use user and password-file, or token-file")
            if not isinstance(text, str):
                raise ValueError(f"{key}: {name}: expected a text, got {shown(text)}")
        return value

    def file(self, key: str) -> Path:
        """Return the path of a file, which is relative to the folder of the file of receivers."""
        return self.named(key, self._table.get(key))

    def named(self, key: str, value: object) -> Path:
        """Return a path, and note it as one of the files."""
        if not isinstance(value, str) or not value:
            raise ValueError(f"{key}: expected the name of a file, got {_given(value)}")
        path = self._folder / value
        self._files.append(path)
        return path

    def pem(self, key: str) -> PEM | None:
        """Return the content of a PEM file; None where the key is missing."""
        if key not in self._table:
            return None
        pem = PEM(where=key, path=self.file(key))
        return PEM(where=pem.place, inline=pem.read().decode("latin-1"))


def _receiver(keys: _Keys) -> ConfiguredReceiver:
    settings = ReceiverSettings(
        name=_name(keys),
        job=keys.text("job", "oneshotd"),
        instance=keys.text("instance"),
        visible=keys.seconds(
            "visible", VISIBLE, 0.0, MAX_VISIBLE, f"0s, or a time such as 15s, at most {MAX_VISIBLE_TEXT}"
        ),
        max_labels=keys.number("max-labels"),
        max_label_value=keys.number("max-label-value"),
        replay=keys.seconds("replay", 0.0, 0.0, MAX_REPLAY, "0s, or a time such as 20s, at most 1h"),
        timeout=keys.seconds(
            "timeout", REQUEST_TIMEOUT, MIN_TIMEOUT, MAX_TIMEOUT, "a time such as 30s, from 1s to 5m"
        ),
    )
    destination = _destination(keys)
    if urlsplit(destination.url).scheme == "https":
        from oneshotd.delivery.remote_write.tls import connection_creator  # needs pyOpenSSL

        connection_creator(str(urlsplit(destination.url).hostname), destination)
    return ConfiguredReceiver(settings=settings, destination=destination)


def _name(keys: _Keys) -> str:
    name = keys.text("name")
    try:
        identify(scraper=name, user_agent=None, address="", timed=False)
    except Refused as refused:
        raise ValueError(f"name: {refused.text.removeprefix('scraper: ')}") from None
    return name


def _destination(keys: _Keys) -> Destination:
    url = _url(keys)
    headers = {name: checked_value(text, f"headers: {name}") for name, text in keys.table("headers").items()}
    for name, file in keys.table("header-files").items():
        if name.lower() in map(str.lower, headers):
            raise ValueError(f"header-files: {name} is in headers, too")
        headers[name] = _read("header-files", header_value, keys.named(f"header-files: {name}", file))
    is_tls = url.startswith("https:")
    for key in ("ca-file", "cert", "key"):
        if key in keys and not is_tls:
            raise ValueError(f"{key}: expected an https:// URL with it")
    if "key" in keys and "cert" not in keys:
        raise ValueError("key: expected cert as well, the key's certificate")
    return Destination(
        url=url,
        headers=headers,
        authorization=_authorization(keys),
        ca=keys.pem("ca-file"),
        cert=keys.pem("cert"),
        key=keys.pem("key"),
    )


def _authorization(keys: _Keys) -> str | None:
    if "token-file" in keys:
        if "user" in keys or "password-file" in keys:
            raise ValueError("token-file: expected either token-file, or user and password-file, got both")
        return _read("token-file", bearer, keys.file("token-file"))
    if "user" not in keys and "password-file" not in keys:
        return None
    user = keys.text("user")
    if ":" in user:
        raise ValueError("user: expected a name without a colon (RFC 7617)")
    return _read("password-file", lambda path: basic(user, path), keys.file("password-file"))


def _read(key: str, read: Any, path: Path) -> str:
    try:
        return str(read(path))
    except ConfigError as error:
        raise ValueError(f"{key}: {error}") from None


def _url(keys: _Keys) -> str:
    url = keys.text("url", limit=2000)
    expected = "expected http://HOST:PORT/PATH or https://HOST/PATH"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"url: {expected}, got {shown(url)}") from None
    if "@" in parts.netloc:
        raise ValueError("url: expected one without a user; use user and password-file")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not _URL.fullmatch(url):
        raise ValueError(f"url: {expected}, got {shown(url)}")
    if parts.path in ("", "/"):
        raise ValueError(
            f"url: expected the path of remote write, too, such as {parts.scheme}://{parts.netloc}/api/v1/write"
        )
    if parts.fragment:
        raise ValueError("url: expected one without a fragment (#)")
    return url


def _given(value: object) -> str:
    return "none" if value is None else shown(value)

"""Parsers of the values of options, and the two kinds of addresses.

Each raises `ValueError` "expected …, got …".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_address

from attrs import frozen

from oneshotd.core.networks import plain_zone
from oneshotd.core.parsing.formats import MAX_HOOK_BODY_BYTES, Rules
from oneshotd.core.scraper_features import Timestamps

#: As the host of an address: both loopback addresses, independent of /etc/hosts.
LOCALHOST = "localhost"

#: Bytes of the path of a UNIX socket; the kernel keeps a zero behind it (unix(7)).
MAX_SOCKET_PATH = 107

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")

_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"(\d{1,15})([KMG]?)", re.ASCII)
_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_SOCKET_NAME = re.compile(r"[!-9;-~]{1,255}")
_PASSWORD = re.compile(r"password\s*=", re.IGNORECASE)
_URI_PASSWORD = re.compile(r"^//[^/?#@]*:[^/?#]*@|[?&][^&=]*(?:password|%)[^&=]*=", re.IGNORECASE)


def size(text: str) -> int:
    """Parse ``1048576``, ``512K``, ``64M`` or ``1G`` (K is 1024) to bytes.

    :raises ValueError: "expected …, got …", also for zero.
    """
    found = _SIZE.fullmatch(text)
    number = int(found[1]) * _BYTES[found[2]] if found else 0
    if not number:
        raise ValueError(f"expected a size such as 512K, 64M or 1G, got {text!r}")
    return number


def body_size(text: str) -> int:
    """Parse a size up to that of the largest webhook to bytes.

    :raises ValueError: "expected …, got …".
    """
    number = size(text)
    if number > MAX_HOOK_BODY_BYTES:
        raise ValueError(f"expected a size up to {MAX_HOOK_BODY_BYTES // _BYTES['M']}M, got {text!r}")
    return number


def count(text: str) -> int:
    """Parse a whole number from 1.

    :raises ValueError: "expected …, got …".
    """
    number = int(text) if _COUNT.fullmatch(text) else 0
    if not number:
        raise ValueError(f"expected a whole number from 1, got {text!r}")
    return number


def bounded(most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from 1 to `most`; it raises ValueError "expected …, got …"."""

    def parse(text: str) -> int:
        number = int(text) if _COUNT.fullmatch(text) else 0
        if not 1 <= number <= most:
            raise ValueError(f"expected a whole number from 1 to {most}, got {text!r}")
        return number

    return parse


def port(text: str) -> int:
    """Parse a port number; 0 stands for a free one.

    :raises ValueError: "expected …, got …".
    """
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError(f"expected a port number up to 65535, got {text!r}")
    return int(text)


@frozen(kw_only=True)
class UdpAddress:
    """An address at which the daemon receives datagrams.

    :param host: an IP address, "localhost" for the loopback addresses of both families, or None
        for every address of both.
    """

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> UdpAddress:
        """Parse ``8090``, ``localhost:8090``, ``192.0.2.7:8090`` or ``[2001:db8::7]:8090``.

        :raises ValueError: "expected …, got …".
        """
        host, colon, number = text.rpartition(":")
        if not colon:
            return cls(host=None, port=port(text))
        if host == LOCALHOST:
            return cls(host=host, port=port(number))
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            address = ip_address(plain_zone(host[1:-1] if bracketed else host))
        except ValueError:
            address = None
        if address is None or bracketed != (address.version == 6):
            raise ValueError(f"expected PORT, ADDRESS:PORT, [IPV6]:PORT or unix:PATH, got {text!r}")
        return cls(host=str(address), port=port(number))


@frozen(kw_only=True)
class UnixAddress:
    """A UNIX socket at which the daemon receives datagrams.

    :param path: a relative one is in the daemon's working directory.
    :param mode: permissions of its file; who may write to it may send.
    """

    path: str
    mode: int = 0o666

    @classmethod
    def parse(cls, text: str) -> UnixAddress:
        """Parse ``PATH`` or ``PATH:mode=660``, as in Twisted's endpoint strings.

        :raises ValueError: "expected …, got …".
        """
        path, colon, mode = text.rpartition(":mode=")
        if colon and not _MODE.fullmatch(mode):
            raise ValueError(f"expected permissions such as mode=660, got {f'mode={mode}'!r}")
        path = path if colon else text
        size = len(os.fsencode(path))
        if not path or "\0" in path or size > MAX_SOCKET_PATH:
            raise ValueError(
                f"expected the path of a socket, of 1 to {MAX_SOCKET_PATH} bytes, got {size} bytes"
            )
        return cls(path=path, mode=int(mode, 8)) if colon else cls(path=path)

    def __str__(self) -> str:
        return f"unix:{self.path}"


@frozen(kw_only=True)
class SystemdSocket:
    """A datagram socket that systemd has opened: one ``ListenDatagram=`` of a socket unit.

    :param name: ``FileDescriptorName=`` of the unit, by default the name of the unit.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> SystemdSocket:
        """Parse the name.

        :raises ValueError: "expected …, got …".
        """
        if not _SOCKET_NAME.fullmatch(text):
            raise ValueError(f"expected the name of a socket, such as systemd:oneshotd.socket, got {text!r}")
        return cls(name=text)

    def __str__(self) -> str:
        return f"systemd:{self.name}"


#: Where the daemon receives datagrams.
DatagramAddress = UdpAddress | UnixAddress | SystemdSocket


def datagram_address(text: str) -> DatagramAddress:
    """Parse an address of UDP, ``unix:PATH`` or ``systemd:NAME``.

    :raises ValueError: "expected …, got …".
    """
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return UnixAddress.parse(rest)
    if kind == "systemd":
        return SystemdSocket.parse(rest)
    return UdpAddress.parse(text)


@frozen(kw_only=True)
class StoreAddress:
    """The back end of the store, and its address.

    :param kind: "sqlite" or "postgresql".
    :param path: a file, a relative one in the daemon's working directory; or a URI or connection string of
        libpq, without a password.
    """

    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """Parse ``sqlite:PATH``, ``postgresql://…`` or ``postgresql:KEYWORD=VALUE …``.

        :raises ValueError: "expected …, got …"; without the text if it has a password.
        """
        kind, _, path = text.partition(":")
        if kind == "sqlite" and path:
            return cls(kind=kind, path=path)
        is_uri = path.startswith("//")
        if kind != "postgresql" or not (is_uri or "=" in path):
            raise ValueError(
                f"expected sqlite:PATH, postgresql://… or postgresql:KEYWORD=VALUE …, got {text!r}"
            )
        if (_URI_PASSWORD if is_uri else _PASSWORD).search(path):
            raise ValueError(
                "expected an address without a password, which others may read (libpq has passfiles and"
                " service files for it), got one with it"
            )
        return cls(kind=kind, path=text if is_uri else path)


def endpoint(text: str) -> str:
    """Parse an HTTP address: a port, ``localhost:PORT`` or a Twisted endpoint string.

    The endpoint string is not checked here; it fails when the port is opened.

    :raises ValueError: "expected …, got …".
    """
    host, colon, number = text.partition(":")
    if host == LOCALHOST:
        return f"{host}:{port(number)}"
    if colon:
        return text
    try:
        return str(port(text))
    except ValueError:
        raise ValueError(
            f"expected a port or an endpoint such as tcp:8090:interface=127.0.0.1, got {text!r}"
        ) from None


def metric_name(text: str) -> str:
    """Parse a metric name that events may have.

    :raises ValueError: "expected …, got …".
    """
    if fault := Rules().fault(text):
        raise ValueError(f"expected a metric name that is free, got {text!r}, which {fault}")
    return text


def mode(text: str) -> Timestamps:
    """Parse the timestamp mode.

    :raises ValueError: "expected …, got …".
    """
    try:
        return Timestamps(text)
    except ValueError:
        raise ValueError(f"expected scrape or event, got {text!r}") from None


def on_or_off(text: str) -> bool:
    """Return whether something is on.

    :raises ValueError: "expected …, got …".
    """
    if text not in ("on", "off"):
        raise ValueError(f"expected on or off, got {text!r}")
    return text == "on"


def short_text(text: str) -> str:
    """Parse a text of printable characters; an empty one stands for the default.

    :raises ValueError: "expected …, got …".
    """
    if len(text) > 200 or not text.isprintable():
        raise ValueError(f"expected at most 200 printable characters, got {text[:200]!r}")
    return text


def path_or_none(text: str) -> str | None:
    """Parse a path; an empty text means that the option is off."""
    return text or None


def level_name(text: str) -> str:
    """Parse one of `LOG_LEVELS`, in upper or lower case; "warning" is "warn".

    :raises ValueError: "expected …, got …".
    """
    level = {"warning": "warn"}.get(text.lower(), text.lower())
    if level not in LOG_LEVELS:
        raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}, got {text!r}")
    return level

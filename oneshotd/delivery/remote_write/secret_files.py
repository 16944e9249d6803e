"""Read the files with passwords and tokens of receivers."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

from oneshotd.access.small_files import read_private
from oneshotd.errors import ConfigError

#: Bytes of a secret; receivers take a few KiB of header lines in all.
MAX_SECRET = 4096

# RFC 9110 section 5.5, without bytes beyond ASCII.
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# RFC 6750 section 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def basic(user: str, path: Path) -> str:
    """Return the value of Authorization for a user whose password is in a file (RFC 7617).

    :raises ConfigError: the file cannot be used.
    """
    return f"Basic {b64encode(f'{user}:{_secret(path)}'.encode()).decode()}"


def bearer(path: Path) -> str:
    """Return the value of Authorization for the token in a file.

    :raises ConfigError: the file cannot be used, or has no token.
    """
    token = _secret(path)
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{path}: expected a token alone, of letters, digits and -._~+/=")
    return f"Bearer {token}"


def header_value(path: Path) -> str:
    """Return the value of a header that is in a file.

    :raises ConfigError: the file cannot be used, or its text cannot be in a header.
    """
    return checked_value(_secret(path), str(path))


def checked_value(text: str, where: str) -> str:
    """Return a text that can be the value of a header.

    :param where: in front of the error, which does not repeat the text.
    :raises ConfigError: it cannot.
    """
    if not _VALUE.fullmatch(text) or len(text) > MAX_SECRET:
        raise ConfigError(f"{where}: expected a line of ASCII that can be in a header")
    return text


def _secret(path: Path) -> str:
    data = read_private(path, limit=2 * MAX_SECRET)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected UTF-8, got another byte") from None
    if not text or len(data) > MAX_SECRET or not text.isprintable():
        raise ConfigError(f"{path}: expected a secret in one line of at most {MAX_SECRET} bytes")
    return text

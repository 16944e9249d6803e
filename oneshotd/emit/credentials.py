"""Read the bearer token; say what a request was sent with, and hide it in texts.

Secrets are in files, never in options: every user of a machine can read the arguments of a process.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import Generic, TypeVar

from oneshotd.emit.settings import Credentials, Settings, SettingsError, Target

#: Bytes of a file with a token; the daemon takes 16 KiB of header lines in all.
MAX_TOKEN_BYTES = 8192
#: Shorter secrets are not hidden in an answer: they are parts of ordinary words.
_SHORTEST_HIDDEN = 6

T = TypeVar("T")


class Reloaded(Generic[T]):
    """Calls `load` each time, so that a file that is replaced counts at once.

    A file is missing or incomplete for a moment while it is replaced: if `load` fails, the last
    result stays in force.

    :raises SettingsError: there is no earlier result.
    """

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._last: T | None = None

    def __call__(self) -> T:
        try:
            self._last = self._load()
        except SettingsError:
            if self._last is None:
                raise
        return self._last


def authorization(target: Target, credentials: Credentials) -> Callable[[], str | None]:
    """Return a function that gives the header Authorization of the next request.

    :raises SettingsError: the file with the token cannot be used.
    """
    file, login = credentials.token_file, target.authorization
    if not file:
        return lambda: login
    token = Reloaded(lambda: read_token(file))
    token()
    return lambda: f"Bearer {token()}"  # RFC 6750 section 2.1


def read_token(file: str) -> str:
    """Return the token in the first line of a file.

    :raises SettingsError: the text does not have what is in the file.
    """
    try:
        data = read(file, MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"token-file: {_place(file)}: {error.strerror}") from None
    if len(data) > MAX_TOKEN_BYTES:
        raise SettingsError(f"token-file: {file}: longer than {MAX_TOKEN_BYTES} bytes, expected a token")
    line = data.partition(b"\n")[0].strip()
    if not line:
        raise SettingsError(f"token-file: {file}: the first line is empty, expected a token")
    # RFC 6750 section 2.1: a line of another file is not sent.
    if not re.fullmatch(rb"[A-Za-z0-9._~+/-]+=*", line):
        raise SettingsError(
            f"token-file: {file}: expected a token alone in the first line, of letters, digits and -._~+/="
        )
    return line.decode("ascii")


def read(file: str, count: int) -> bytes:
    """Return the first bytes of a file.

    :raises OSError: the file cannot be read.
    """
    # A FIFO that nobody writes to would be waited for; opened so, it is empty.
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as opened:
        os.set_blocking(opened.fileno(), True)
        return opened.read(count)


def _place(file: str) -> str:
    """Return what an error may show: the name of a file that does not exist could be the token itself."""
    if os.path.lexists(file):
        return file
    folder = os.path.dirname(file)
    return f"a file in {folder}" if os.path.isdir(folder) else "the file that it names"


def sent_with(target: Target, credentials: Credentials) -> str:
    """Return which credentials a request had, or which options give one."""
    had = []
    if credentials.token_file:
        had.append(f"the token of {credentials.token_file} (token-file)")
    if target.login is not None:
        had.append(f"the user {target.login.partition(':')[0]!r} of the url")
    if credentials.cert:
        had.append(f"the certificate of {credentials.cert} (cert)")
    if had:
        return f"sent with {' and '.join(had)}"
    unused = f"; {credentials.unused}" if credentials.unused else ""
    return f"sent without a credential, see the options token-file and cert{unused}"


def hidden(body: bytes, header: str | None) -> bytes:
    """Return an answer without the credential of its request, which a server may show in an error.

    :param header: the request's Authorization.
    """
    scheme, _, credential = (header or "").partition(" ")
    secrets = [credential.encode()]
    if scheme == "Basic":
        from base64 import b64decode  # here: only a login needs it

        secrets.append(b64decode(credential).partition(b":")[2])
    for secret in secrets:
        if len(secret) >= _SHORTEST_HIDDEN:
            body = body.replace(secret, b"[hidden]")
    return body


def unencrypted(settings: Settings) -> str | None:
    """Return a warning if the credential can be read on the network."""
    token = bool(settings.credentials.token_file)
    for target in settings.targets:
        if target.scheme != "http" or _is_loopback(target.name):
            continue
        if token or target.login is not None:
            what = "token" if token else "password"
            return f"{target} is not encrypted: everybody on the way can read the {what}; expected https://"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    return host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def readable_by_others(credentials: Credentials) -> str | None:
    """Return a warning if every user of the machine can read the token or the key."""
    key = credentials.key or credentials.cert
    for option, file in (("token-file", credentials.token_file), ("key", key)):
        try:
            mode = os.stat(file).st_mode if file else 0
        except OSError:
            continue  # who reads it will say so
        if stat.S_ISREG(mode) and mode & stat.S_IROTH:
            return f"{option}: every user of this machine can read {file}; chmod o-r makes it private"
    return None

"""Check files with certificates and keys before a TLS library reads them.

OpenSSL's errors for such files name neither the file nor the fault, and for an encrypted key it asks
for a password on the terminal.
"""

from __future__ import annotations

from oneshotd.emit.credentials import read
from oneshotd.emit.settings import Credentials, SettingsError

#: Bytes of a file; all authorities of a system have some 250 KB.
MAX_BYTES = 8 * 1024 * 1024

_CERTIFICATE = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----")
_KEY = (b"PRIVATE KEY-----",)


def check(credentials: Credentials) -> None:
    """Check that each file has what its option says.

    :raises SettingsError: one line with the option, the file and what is wrong.
    """
    if credentials.ca_file:
        _checked("ca-file", credentials.ca_file, _CERTIFICATE, "certificate")
    if credentials.cert:
        _checked("cert", credentials.cert, _CERTIFICATE, "certificate")
        option = "key" if credentials.key else "cert"
        text = _checked(option, credentials.key or credentials.cert, _KEY, "key")
        if b"BEGIN ENCRYPTED PRIVATE KEY" in text or b"Proc-Type: 4,ENCRYPTED" in text:
            raise SettingsError(
                f"{option}: {credentials.key or credentials.cert}: the key is encrypted; expected one without"
                " a password"
            )


def _checked(option: str, file: str, expected: tuple[bytes, ...], kind: str) -> bytes:
    """Return the file's content, in which one of the expected lines is.

    :param kind: what an error calls it.
    :raises SettingsError: the file cannot be read, is too long or has no such line.
    """
    try:
        data = read(file, MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{option}: {file}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{option}: {file}: longer than {MAX_BYTES} bytes")
    if not any(line in data for line in expected):
        raise SettingsError(f"{option}: {file}: there is no {kind} in PEM form in it")
    return data

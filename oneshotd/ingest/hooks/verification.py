"""Verification of the senders of a hook: a signature over the body, or a token in a header.

`Verification` is the table `[verify]` of a file, `Verifier` has read the secrets. Without it the access rules
alone decide who may send.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from oneshotd.access.small_files import read_private
from oneshotd.core.toml_values import shown, unknown_key
from oneshotd.errors import ConfigError, Refused
from oneshotd.ingest.dialects.translation import Message

#: Bounds of a secret in bytes. A shorter one can be found by trying, from one signature.
LEAST_SECRET, MOST_SECRET = 16, 4096

#: Secrets of a hook.
MAX_SECRETS = 10

_HMAC, _TOKEN = "hmac-sha256", "token"
_ENCODINGS = ("hex", "base64")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")

#: Preset -> how its sender signs, by its own documentation; the file needs to name secrets only.
DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "github": {"by": _HMAC, "header": "X-Hub-Signature-256", "prefix": "sha256="},
    "gitlab": {"by": _TOKEN, "header": "X-Gitlab-Token"},
    "flux": {"by": _HMAC, "header": "X-Signature", "prefix": "sha256="},
}

_KEYS = ("by", "header", "prefix", "encoding", "secret_files")


@frozen(kw_only=True)
class Verification:
    """The table `[verify]`.

    :param by: ``hmac-sha256``, over the body as it was sent; or ``token``.
    :param header: in lower case.
    :param prefix: what stands before the signature or token in the header.
    :param encoding: of the signature: ``hex`` or ``base64``.
    :param secret_files: one secret each; several while a sender changes from one to another.
    """

    by: str
    header: str
    prefix: str = ""
    encoding: str = "hex"
    secret_files: Sequence[str]

    @classmethod
    def parse(cls, table: object, preset: str | None = None) -> Verification:
        """Parse the table.

        :raises ValueError: "KEY: expected …, got …".
        """
        if not isinstance(table, dict):
            raise ValueError(f"expected a table, [verify], got {shown(table)}")
        for name in table:
            if name not in _KEYS:
                raise ValueError(unknown_key(name, _KEYS))
        given: dict[str, Any] = {**DEFAULTS.get(preset or "", {}), **table}
        by = given.get("by")
        if by not in (_HMAC, _TOKEN):
            raise ValueError(f'by: expected "{_HMAC}" or "{_TOKEN}", got {_shown(by)}')
        header = given.get("header")
        if not isinstance(header, str) or not _HEADER.fullmatch(header):
            raise ValueError(f"header: expected the name of a header, got {_shown(header)}")
        prefix = given.get("prefix", "")
        if not isinstance(prefix, str) or not prefix.isascii() or len(prefix) > 100:
            raise ValueError(f"prefix: expected a text in ASCII, got {_shown(prefix)}")
        encoding = given.get("encoding", "hex")
        if encoding not in _ENCODINGS:
            raise ValueError(f"encoding: expected one of {', '.join(_ENCODINGS)}, got {_shown(encoding)}")
        if by == _TOKEN and "encoding" in table:
            raise ValueError(f"encoding: belongs to {_HMAC}, not to {_TOKEN}")
        files = given.get("secret_files")
        names = [files] if isinstance(files, str) else files
        if not isinstance(names, list) or not 0 < len(names) <= MAX_SECRETS:
            raise ValueError(f"secret_files: expected 1 to {MAX_SECRETS} names of files, got {_shown(files)}")
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"secret_files: expected the name of a file, got {_shown(name)}")
        return cls(by=by, header=header.lower(), prefix=prefix, encoding=encoding, secret_files=names)

    def paths(self, folder: Path) -> Sequence[Path]:
        """Return the files of the secrets; relative names start at the folder."""
        return [folder / name for name in self.secret_files]

    def read(self, folder: Path) -> Verifier:
        """Read the secrets.

        :raises ConfigError: a file cannot be read, others can read it, or it has no secret.
        """
        return Verifier(verification=self, secrets=[_secret(path) for path in self.paths(folder)])


@frozen(kw_only=True)
class Verifier:
    """Verifies messages; comparisons take the same time wherever texts differ."""

    verification: Verification
    secrets: Sequence[bytes] = field(repr=False)

    def __call__(self, message: Message) -> None:
        """Verify a message.

        :raises Refused: 401: it has no signature or token, or another one.
        """
        how = self.verification
        sent = message.headers.get(how.header)
        if sent is None:
            raise _refused(f"expected a {self._what} in the header {how.header}, got no such header")
        if not sent.startswith(how.prefix):
            raise _refused(f"header {how.header}: expected {how.prefix!r} in front of the {self._what}")
        text = sent[len(how.prefix) :].strip()
        if how.by == _TOKEN:
            given = text.encode("utf-8", "surrogateescape")
            wanted: Sequence[bytes] = self.secrets
        else:
            given = _signature(text, how)
            wanted = [hmac.digest(secret, message.raw, "sha256") for secret in self.secrets]
        # All are compared: the time does not tell which one fits.
        if not sum(hmac.compare_digest(given, each) for each in wanted):
            raise _refused(f"header {how.header}: the {self._what} is not that of the secret")

    @property
    def _what(self) -> str:
        return "token" if self.verification.by == _TOKEN else "signature"


def _signature(text: str, how: Verification) -> bytes:
    try:
        if how.encoding == "hex" and _HEX.fullmatch(text):
            return bytes.fromhex(text)
        if how.encoding == "base64":
            return b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        pass
    raise _refused(f"header {how.header}: expected a SHA-256 signature in {how.encoding}")


def _refused(text: str) -> Refused:
    return Refused(text, reason="unauthorized", status=401)


def _secret(path: Path) -> bytes:
    secret = read_private(path, limit=2 * MOST_SECRET)
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET:
        raise ConfigError(
            f"{path}: expected a secret of {LEAST_SECRET} to {MOST_SECRET} bytes, got {len(secret)}"
        )
    return secret


def _shown(value: object) -> str:
    return "none" if value is None else shown(value)

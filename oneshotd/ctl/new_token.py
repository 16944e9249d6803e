"""``oneshotctl new-token``: make a bearer token, or hash one that exists."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Mapping

from oneshotd.access.rules import Role
from oneshotd.ctl.results import OK, USAGE, Failed

HELP = "make a bearer token and its block of the access file"

DESCRIPTION = """\
Makes a random token of 256 bits, and prints it with its SHA-256 and a block for the access file. The
daemon knows the hash only; the token is for the client.

With --out FILE the token is in that file alone, which is new and readable for its owner, and all that is
printed can be appended to the access file:

    oneshotctl new-token --out ci.token --role emit >> /etc/oneshotd/access.toml

With --from FILE no token is made: the one in the file is hashed, as `openssl rand -hex 32` makes it."""

STATUSES = {
    0: "the token is made or hashed",
    1: "the file cannot be read or written, exists, or has no token",
    2: "the command line is wrong",
}

#: What a token begins with, so that people and scanners for leaked secrets recognize it.
PREFIX = "oneshot_"

_RANDOM_BYTES = 32

#: Least characters of a token from elsewhere: 128 bits in hexadecimal. The hash of a shorter one can be
#: reversed by trying.
LEAST_CHARACTERS = 32

#: Most bytes that are read of a file with a token.
_MOST_BYTES = 4096

#: The b64token of RFC 6750, section 2.1: what a client can send after ``Bearer``.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--out", metavar="FILE", help="write the token to this new file, with mode 0600; do not print it"
    )
    one.add_argument("--from", metavar="FILE", dest="source", help="hash the token in this file; -: stdin")
    parser.add_argument(
        "--role",
        choices=[role.value for role in Role],
        default=Role.EMIT.value,
        help="role of the printed block (default: emit)",
    )


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Make or read the token, print the rest.

    :raises Failed: a file cannot be read or written, or has no token.
    """
    if arguments.source is not None:
        digest = hashed(_read(arguments.source))
    else:
        token = PREFIX + secrets.token_hex(_RANDOM_BYTES)
        digest = hashed(token.encode())
        if arguments.out is not None:
            _write(arguments.out, token)
        else:
            print(f"token:   {token}\nSHA-256: {digest}\n\n# for the access file:")
    print(block(arguments.role, digest), end="")
    return OK


def hashed(token: bytes) -> str:
    """Return the SHA-256 of a token, in hexadecimal, as ``token_sha256`` has it."""
    return hashlib.sha256(token).hexdigest()


def block(role: str, digest: str) -> str:
    """Return a rule for the access file; it begins with an empty line, so that it can be appended."""
    return f'\n[[allow]]\nrole = "{role}"\ntoken_sha256 = "{digest}"\n'


def _read(source: str) -> bytes:
    """Return the token in a file, without the space around it, which clients do not send either."""
    name = "standard input" if source == "-" else source
    try:
        if source == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(source, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}") from None
    token = data.strip()
    # The texts below do not repeat what was read: it may be a secret.
    if not token:
        raise Failed(f"{name}: there is no token in it")
    if len(data) > _MOST_BYTES or not _TOKEN.fullmatch(token):
        raise Failed(
            f"{name}: expected one token of letters, digits and -._~+/ (RFC 6750), got something else"
        )
    if len(token) < LEAST_CHARACTERS:
        raise Failed(
            f"{name}: expected a token of at least {LEAST_CHARACTERS} characters, got {len(token)}:"
            " a short one can be found from its hash"
        )
    return token


def _write(path: str, token: str) -> None:
    """Write the token to a new file; remove the file if that fails.

    :raises Failed: the file exists, or cannot be written.
    """
    if path == "-":
        raise Failed("--out: expected a file; without --out the token is printed", USAGE)
    try:
        # O_EXCL: neither overwrites a file nor follows a link.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failed(f"{path}: it exists, and is not overwritten") from None
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away
            file.write(f"{token}\n")
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        os.unlink(path)
        raise Failed(f"{path}: {error.strerror}") from None

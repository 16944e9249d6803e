"""Read small regular files (a configuration, a certificate, a key) with bounded memory and time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from oneshotd.errors import ConfigError

#: Bytes of a certificate chain, a key or the certificates of authorities. All authorities of a
#: distribution together (ca-certificates) have 230 KB.
MAX_PEM_BYTES = 1024 * 1024


def read_private(path: Path, *, limit: int) -> bytes:
    """Return the content of a file with a secret, without blanks and line ends around it.

    :param limit: in bytes.
    :raises ConfigError: as from `read_small`, or other users may read the file.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'no such file'}") from None
    if mode & 0o007:
        raise ConfigError(
            f"{path}: expected a file that others may not read, got mode {mode:04o} (chmod 640)"
        )
    return read_small(path, where=str(path), limit=limit).strip()


def read_small(path: Path, *, where: str, limit: int = MAX_PEM_BYTES) -> bytes:
    """Return the content of a regular file.

    A folder, a FIFO or a device is refused: reading one could block, or never end.

    :param where: put in front of an error: the file itself, or the file, line and key that name it.
    :param limit: in bytes.
    :raises ConfigError: the file cannot be read, is not a regular file, or is longer than the limit.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{where}: the path contains a NUL character") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise ConfigError(f"{where}: expected a file, got {kind}")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise ConfigError(f"{where}: expected at most {limit // 1024} KiB, got more")
    return content

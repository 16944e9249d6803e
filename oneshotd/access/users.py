"""The users of the web configuration, and a memory of credentials that have been checked.

The memory has a keyed hash of each credential, with the lengths of user and password. (The cache of
exporter-toolkit joined them without a separator: CVE-2022-46146.)
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b

from oneshotd.access.credentials import Password, Token
from oneshotd.access.packages import require

#: Right and wrong credentials that are remembered.
MAX_RIGHT, MAX_WRONG = 1024, 4096

#: Bytes of a password that bcrypt looks at. Go's comparison, and so each exporter of that toolkit, ignores
#: the rest; so does the package bcrypt before version 5, which raises an error.
BCRYPT_BYTES = 72


class Users:
    """Names and bcrypt hashes of users, and which credentials were right or wrong.

    :param users: names to hashes.
    :raises ConfigError: there are users, and the package bcrypt is missing.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._secret = secrets.token_bytes(32)
        self._hashes: dict[str, bytes] = {}
        self._decoys: tuple[bytes, ...] = ()
        self._right: OrderedDict[bytes, str] = OrderedDict()  # key -> user
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self.replace(users)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __contains__(self, user: str) -> bool:
        return user in self._hashes

    def replace(self, users: Mapping[str, bytes]) -> None:
        """Replace the users; what was remembered of a user whose hash has changed is forgotten.

        :raises ConfigError: there are users, and the package bcrypt is missing; nothing was replaced.
        """
        if users == self._hashes:
            return
        if users:
            require("bcrypt")
        kept = {user for user, hashed in users.items() if self._hashes.get(user) == hashed}
        self._hashes = dict(users)
        self._decoys = tuple(self._hashes.values())
        self._right = OrderedDict((key, user) for key, user in self._right.items() if user in kept)
        self._wrong.clear()

    def key(self, credential: Password | Token) -> bytes:
        """Return a keyed hash of a credential."""
        if isinstance(credential, Token):
            return self._keyed(b"token", credential.sha256.encode("ascii"))
        return self._keyed(b"password", credential.user.encode("utf-8"), credential.password)

    def remembered(self, key: bytes) -> bool | None:
        """Return whether a credential was right; None: it was not checked, or is forgotten."""
        if key in self._right:
            self._right.move_to_end(key)
            return True
        if key in self._wrong:
            self._wrong.move_to_end(key)
            return False
        return None

    def hash_for(self, user: str) -> bytes | None:
        """Return the hash to compare a password with; None: there are no users at all.

        For an unknown user it is the hash of a known one, always of the same one: the comparison takes as
        long as for a known user, whatever costs the hashes have.
        """
        if user in self._hashes or not self._decoys:
            return self._hashes.get(user)
        digest = self._keyed(b"decoy", user.encode("utf-8"))
        return self._decoys[int.from_bytes(digest[:8], "big") % len(self._decoys)]

    def remember_right(self, key: bytes, user: str) -> None:
        """Remember that this credential is the one of a user."""
        self._right[key] = user
        if len(self._right) > MAX_RIGHT:
            self._right.popitem(last=False)

    def remember_wrong(self, key: bytes) -> None:
        """Remember that this credential is wrong."""
        self._wrong[key] = None
        if len(self._wrong) > MAX_WRONG:
            self._wrong.popitem(last=False)

    def _keyed(self, *parts: bytes) -> bytes:
        digest = blake2b(key=self._secret, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()


def matches(password: bytes, hashed: bytes) -> bool:
    """Return whether this is the password of a bcrypt hash; takes tens of milliseconds of CPU.

    ``$2y$`` and ``$2b$`` are two names of one algorithm. Of a long password the first 72 bytes count.
    """
    import bcrypt

    if hashed.startswith(b"$2y$"):
        hashed = b"$2b$" + hashed[4:]
    return bcrypt.checkpw(password[:BCRYPT_BYTES], hashed)

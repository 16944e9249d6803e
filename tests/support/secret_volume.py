"""A folder as the kubelet of Kubernetes makes it of a Secret: links that are turned to new files at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


class SecretVolume:
    """The folder, where a Secret is mounted.

    Each key is a link to a file in `..data`, which is a link to a folder that is never changed. A change of
    the Secret makes another such folder and turns `..data` to it; then links of new keys come, and those of
    keys that are gone go (kubelet, `AtomicWriter`).

    :param mode: `defaultMode`, after `fsGroup` has added the group.
    """

    def __init__(self, folder: Path, keys: Mapping[str, str | bytes], mode: int = 0o440) -> None:
        self.folder = folder
        self._mode = mode
        self._version = 0
        folder.mkdir()
        self.change(keys)

    def path(self, key: str) -> Path:
        return self.folder / key

    def change(self, keys: Mapping[str, str | bytes]) -> None:
        """Give the Secret these keys, and no others."""
        data = self.folder / "..data"
        before = Path(os.readlink(data)) if data.is_symlink() else None
        self._version += 1
        now = Path(f"..2026_12_01_00_00_{self._version:02}.123456789")
        (self.folder / now).mkdir()
        for key, content in keys.items():
            file = self.folder / now / key
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
            file.chmod(self._mode)
        turned = self.folder / "..data_tmp"
        turned.symlink_to(now)
        turned.rename(data)
        for key in keys:
            if not self.path(key).is_symlink():
                self.path(key).symlink_to(Path("..data") / key)
        for link in self.folder.iterdir():
            if link.is_symlink() and link != data and link.name not in keys:
                link.unlink()
        if before is not None:
            shutil.rmtree(self.folder / before)

"""Layers of an image: tar archives that are the same whenever they are made of the same files."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field, frozen


@frozen(kw_only=True)
class Entry:
    """A file, folder or link of a layer.

    :param data: the content, or the target of a link; None for a folder.
    :param mtime: Unix seconds.
    """

    mode: int
    data: bytes | None
    mtime: int
    link: bool = False
    uid: int = 0
    gid: int = 0


@define
class Layer:
    """The entries of a layer, by their paths without a leading slash.

    :param epoch: Unix seconds; no entry is later.
    """

    epoch: int
    entries: dict[str, Entry] = field(factory=dict)

    def add(self, path: str, source: Path) -> None:
        """Add what is at a place of this machine, with its mode, and without its owner.

        :raises ValueError: it is neither file nor folder nor link.
        """
        found = source.lstat()
        mode, mtime = stat.S_IMODE(found.st_mode), min(int(found.st_mtime), self.epoch)
        if stat.S_ISLNK(found.st_mode):
            self._put(path, Entry(mode=0o777, data=os.readlink(source).encode(), mtime=mtime, link=True))
        elif stat.S_ISREG(found.st_mode):
            self._put(path, Entry(mode=mode, data=source.read_bytes(), mtime=mtime))
        elif stat.S_ISDIR(found.st_mode):
            self.folder(path, mode)
        else:
            raise ValueError(f"{source}: expected a file, a folder or a link")

    def folder(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Add a folder; its time is that of the layer, as its content is."""
        self._put(path, Entry(mode=mode, data=None, mtime=self.epoch, uid=uid, gid=gid))

    def file(self, path: str, data: bytes, *, later: int = 0) -> None:
        """Add a file that is made here.

        :param later: seconds that it is newer than every other entry.
        """
        self._put(path, Entry(mode=0o644, data=data, mtime=self.epoch + later))

    def _put(self, path: str, entry: Entry) -> None:
        name = path.strip("/")
        for parent in list(Path(name).parents)[:-1]:
            if str(parent) not in self.entries:
                self.entries[str(parent)] = Entry(mode=0o755, data=None, mtime=self.epoch)
        self.entries[name] = entry

    def without(self, other: Layer) -> Layer:
        """Return the layer without the entries that a layer below it has already."""
        rest = {path: entry for path, entry in self.entries.items() if other.entries.get(path) != entry}
        return Layer(self.epoch, rest)

    def size(self) -> int:
        """Return the bytes of its files."""
        return sum(len(entry.data or b"") for entry in self.entries.values())

    def packed(self) -> bytes:
        """Return the archive."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, entry in sorted(self.entries.items()):
                archive.addfile(_info(path, entry), io.BytesIO(b"" if entry.link else entry.data or b""))
        return packed.getvalue()


def _info(path: str, entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime, info.uid, info.gid = entry.mode, entry.mtime, entry.uid, entry.gid
    if entry.data is None:
        info.type = tarfile.DIRTYPE
    elif entry.link:
        info.type, info.linkname = tarfile.SYMTYPE, entry.data.decode()
    else:
        info.size = len(entry.data)
    return info


def rooms(entries: Mapping[str, Entry], owners: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return how many bytes each owner has, most first.

    :param owners: path -> owner; files of nobody are "made here".
    """
    sizes: dict[str, int] = {}
    for path, entry in entries.items():
        owner = owners.get(path, "made here")
        sizes[owner] = sizes.get(owner, 0) + (0 if entry.link else len(entry.data or b""))
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))

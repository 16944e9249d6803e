"""The packages of a tree, as dpkg has them, and those that some of them need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import frozen


class Missing(Exception):
    """A package is not in the tree; the text says which, and what needs it."""


@frozen(kw_only=True)
class Package:
    """One installed package.

    :param stanza: its paragraph of dpkg's status.
    :param files: its paths, folders among them.
    :param md5sums: the file of that name, empty where the package has none.
    """

    name: str
    version: str
    architecture: str
    stanza: str
    fields: Mapping[str, str]
    files: tuple[str, ...]
    md5sums: str

    @property
    def source(self) -> str:
        """The source package."""
        return self.fields.get("Source", self.name).partition(" ")[0]

    @property
    def source_version(self) -> str:
        """Its version, which a rebuilt binary package has differently."""
        found = re.search(r"\((.+)\)", self.fields.get("Source", ""))
        return found[1] if found else self.version


def installed(root: Path) -> dict[str, Package]:
    """Return the packages of a tree by their names."""
    info = root / "var/lib/dpkg/info"
    found = {}
    text = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for stanza in filter(None, re.split(r"\n\n+", text)):
        fields = dict(re.findall(r"(?m)^([A-Za-z-]+): *(.*(?:\n[ \t].*)*)", stanza))
        name, architecture = fields["Package"], fields["Architecture"]
        if fields["Status"] != "install ok installed":
            continue
        # A package that can be installed for several architectures has its own in the names of its files.
        stem = next(each for each in (name, f"{name}:{architecture}") if (info / f"{each}.list").exists())
        sums = info / f"{stem}.md5sums"
        found[name] = Package(
            name=name,
            version=fields["Version"],
            architecture=architecture,
            stanza=stanza.strip("\n") + "\n",
            fields=fields,
            files=tuple((info / f"{stem}.list").read_text(encoding="utf-8").splitlines()),
            md5sums=sums.read_text(encoding="utf-8") if sums.exists() else "",
        )
    return found


def needed(packages: Mapping[str, Package], roots: Iterable[str], left_out: Iterable[str]) -> list[Package]:
    """Return the roots and all that they depend on, in the order of their names.

    :param left_out: names that are not followed.
    :raises Missing: a dependency is not installed.
    """
    refused = set(left_out)
    provided: dict[str, str] = {}
    for package in packages.values():
        for virtual in _names(package.fields.get("Provides", "")):
            provided.setdefault(virtual[0], package.name)
    taken: dict[str, Package] = {}
    wanted = [(root, "the image") for root in roots]
    while wanted:
        name, reason = wanted.pop()
        if name in taken:
            continue
        if name not in packages:
            raise Missing(f"{reason} needs {name}, which is not installed")
        taken[name] = packages[name]
        fields = taken[name].fields
        for field in ("Pre-Depends", "Depends"):
            for choices in _names(fields.get(field, "")):
                if refused.intersection(choices):
                    continue
                real = [each if each in packages else provided.get(each) for each in choices]
                found = next(filter(None, real), None)
                if found is None:
                    raise Missing(f"{name} needs {' or '.join(choices)}, which is not installed")
                if found not in refused:
                    wanted.append((found, name))
    return [taken[name] for name in sorted(taken)]


def _names(field: str) -> Iterator[list[str]]:
    """Yield the alternatives of each relation, without versions and architectures."""
    for relation in filter(None, re.split(r",\s*", field.strip())):
        yield [re.split(r"[ (:\[]", choice.strip())[0] for choice in relation.split("|")]

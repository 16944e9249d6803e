"""The files of the status page (templates, style, script and icon), read once.

A browser may cache style, script and icon for ever: their addresses change with their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from attrs import frozen
from twisted.python.filepath import FilePath
from twisted.web.template import XMLFile

_FOLDER = Path(__file__).parent

#: Cache-Control of an asset that was requested with its version.
CACHE_FOREVER = b"public, max-age=31536000, immutable"


@frozen(kw_only=True)
class Asset:
    """One file that a browser fetches.

    :param version: a hash of its content; the query of its address.
    """

    name: str
    content_type: bytes
    body: bytes
    version: str

    @property
    def address(self) -> str:
        """The relative address in the page: a proxy may serve the page below a path."""
        return f"assets/{self.name}?{self.version}"


def _asset(name: str, content_type: bytes) -> Asset:
    body = (_FOLDER / name).read_bytes()
    version = blake2b(body, digest_size=6).hexdigest()
    return Asset(name=name, content_type=content_type, body=body, version=version)


ASSETS: Mapping[str, Asset] = {
    name: _asset(name, content_type)
    for name, content_type in (
        ("page.css", b"text/css; charset=utf-8"),
        ("page.js", b"text/javascript; charset=utf-8"),
        ("mark.svg", b"image/svg+xml; charset=utf-8"),
    )
}


def template(name: str) -> XMLFile:
    """Load a template of `twisted.web.template`."""
    return XMLFile(FilePath(str(_FOLDER / name)))

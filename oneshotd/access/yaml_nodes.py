"""Read a YAML document strictly: every error names the file, the line and the key.

PyYAML's safe loader parses the document to its tree of nodes; no node is made to a Python object. `Value`
gives access to one node and knows its place. A key that the reader does not know is an error, and so are
repeated keys, tags and merge keys. An alias stands for the node of its anchor, and nothing expands it: a
document with many aliases of aliases takes no more memory than its text.

Errors quote keys and values that are no secrets. PyYAML's own messages quote the lines around an error, which
may hold a private key or a hash: only the name of the problem and its line are used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from oneshotd.access.packages import require
from oneshotd.access.small_files import read_small
from oneshotd.core.text import escape_unprintable
from oneshotd.errors import ConfigError

if TYPE_CHECKING:
    from yaml.nodes import Node

#: PyYAML takes some 0.3 s for so many bytes. 3,000 users with their hashes fit in.
MAX_BYTES = 256 * 1024
#: Values of a document. Each takes about 1 KB while it is read.
MAX_VALUES = 20_000
#: Levels of lists and mappings in each other. The formats that are read have three.
MAX_DEPTH = 20

_TAG = "tag:yaml.org,2002:"
#: Plain scalars resolve to these types; a reader that asks for a text gets the characters of the file.
_TEXTS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "timestamp", "value", "merge"))
_NULL = _TAG + "null"
_MERGE = _TAG + "merge"
_KINDS = {"scalar": "a text", "sequence": "a list", "mapping": "a mapping of keys"}

# YAML 1.1, as Go's yaml.v2 reads it.
_TRUE = frozenset(("y", "yes", "true", "on"))
_FALSE = frozenset(("n", "no", "false", "off"))
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
#: Texts that PyYAML quotes in its messages, but for the names of its tokens (``<scalar>``).
_QUOTED = re.compile(r""" (['"])(?!<)(?:(?!\1).){3,}\1""")


def brief(text: str) -> str:
    """Return a text of the file for an error: quoted, on one line, at most 60 characters of it.

    Of what looks like a bcrypt hash or a private key in the wrong place, 16 characters.
    """
    most = 16 if text.startswith("$2") or "-----BEGIN" in text else 60
    return "'" + escape_unprintable(text if len(text) <= most else text[: most - 3] + "...") + "'"


@frozen(kw_only=True, eq=False)
class Value:
    """One value of a document, and its place.

    :param file: name of the file, for errors.
    :param line: number of the line, from 1: that of the key, if the value has one.
    :param key: path of keys, with dots; empty for the whole document.
    :param node: PyYAML's scalar, sequence or mapping.
    """

    file: str
    line: int
    key: str
    node: Any = field(repr=False)

    @property
    def where(self) -> str:
        """Name file, line and key: ``web.yml:12: tls_server_config.cert_file``."""
        return f"{self.file}:{self.line}" + (f": {self.key}" if self.key else "")

    def error(self, text: str) -> ConfigError:
        """Return an error that names the place of this value."""
        return ConfigError(f"{self.where}: {text}")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written after the key, or ``null`` or ``~``."""
        return bool(self.node.id == "scalar" and self.node.tag == _NULL)

    def _need(self, kind: str) -> Any:
        node = self.node
        if node.id != kind:
            raise self.error(f"expected {_KINDS[kind]}, got {_KINDS[node.id]}")
        expected = _TEXTS if kind == "scalar" else {_TAG + {"sequence": "seq", "mapping": "map"}[kind]}
        if node.tag not in expected:
            raise self.error(f"expected {_KINDS[kind]} without a tag")
        return node.value

    def entries(self) -> Mapping[str, Value]:
        """Return the values of a mapping by their keys; none if the value is empty.

        :raises ConfigError: this is no mapping, a key is repeated or is no text.
        """
        if self.is_empty:
            return {}
        found: dict[str, Value] = {}
        for key_node, node in self._need("mapping"):
            at = evolve(self, line=_line(key_node), node=key_node)
            if key_node.tag == _MERGE and key_node.style is None:
                raise at.error("merge keys (<<) are not supported: repeat the keys")
            if key_node.id != "scalar" or key_node.tag not in _TEXTS:
                raise at.error("expected a text as a key")
            name = str(key_node.value)
            value = evolve(at, key=f"{self.key}.{shown(name)}" if self.key else shown(name), node=node)
            if name in found:
                raise value.error(f"repeated key, first in line {found[name].line}")
            found[name] = value
        return found

    def fields(self, known: Collection[str]) -> Mapping[str, Value]:
        """Return the values of a mapping whose keys are known.

        :raises ConfigError: as `entries`; or a key is unknown: the error names the nearest that is known.
        """
        entries = self.entries()
        for name, value in entries.items():
            if name not in known:
                near = get_close_matches(name, known, n=1) or get_close_matches(name.lower(), known, n=1)
                raise value.error("unknown key" + "".join(f" ({key}?)" for key in near))
        return entries

    def items(self) -> Sequence[Value]:
        """Return the values of a list; none if the value is empty.

        :raises ConfigError: this is no list.
        """
        if self.is_empty:
            return ()
        nodes = self._need("sequence")
        return [
            Value(file=self.file, line=_line(node), key=f"{self.key}[{index}]", node=node)
            for index, node in enumerate(nodes)
        ]

    def text(self) -> str:
        """Return the characters of a scalar; none if the value is empty.

        Numbers and ``yes`` are texts, too, as in Go's yaml.v2: ``X-XSS-Protection: 1``.

        :raises ConfigError: this is a list or a mapping.
        """
        return "" if self.is_empty else str(self._need("scalar"))

    def flag(self, default: bool) -> bool:
        """Return a boolean, also in the words of YAML 1.1 (``yes``, ``off``).

        :raises ConfigError: this is no boolean, or a quoted one.
        """
        if self.is_empty:
            return default
        text = self.text()
        if self.node.style is None and text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise self.error(f"expected true or false, got {brief(text)}")

    def whole_number(self) -> int:
        """Return a decimal number from 0 to 999,999,999.

        :raises ConfigError: this is none, or a quoted one.
        """
        text = self.text()
        if self.node.style is None and _WHOLE.fullmatch(text):
            return int(text)
        raise self.error(f"expected a whole number, got {brief(text)}")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def shown(name: str) -> str:
    """Return a key for errors: as it is, or quoted if it could be misread.

    Of a long one only the start is shown.
    """
    if len(name) > 40:
        name = name[:13] + "..."
    return name if re.fullmatch(r"[\w.@+-]+", name) else brief(name)


def read_yaml(path: Path) -> Value | None:
    """Return the document of a file; None: it is empty, or has comments only.

    :raises ConfigError: the file cannot be read, is too large, is not UTF-8, is not YAML, or has
        several documents.
    """
    file = str(path)
    content = read_small(path, where=file, limit=MAX_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: expected UTF-8, got other bytes") from None
    node = _compose(file, text)
    return None if node is None else Value(file=file, line=_line(node), key="", node=node)


def _compose(file: str, text: str) -> Node | None:
    require("yaml")
    import yaml
    from yaml.reader import ReaderError

    class Loader(yaml.SafeLoader):
        """Makes a bounded number of nodes."""

        depth = 0
        values = 0

        def compose_node(self, parent: Node | None, index: Any) -> Node | None:
            self.depth += 1
            self.values += 1
            if self.depth > MAX_DEPTH or self.values > MAX_VALUES:
                many = f"{MAX_DEPTH} levels" if self.depth > MAX_DEPTH else f"{MAX_VALUES} values"
                raise ConfigError(f"{file}:{self.line + 1}: expected at most {many}, got more")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    try:
        loader = Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{file}:{line}: expected printable characters, got U+{error.character:04X}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise ConfigError(f"{file}:{line}: not valid YAML: {_problem(error)}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file}: not valid YAML") from None


def _problem(error: Any) -> str:
    """Name a syntax error without quoting the file."""
    if error.problem == "but found another document":
        return "expected one document, got several"
    return _QUOTED.sub("", error.problem or "syntax error")

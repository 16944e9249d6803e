"""The rooms of the house: who may import whom, and how large a file may be.

The rules are functions over source text, so each is also shown something that breaks it.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "oneshotd"

#: Module -> source text.
Sources = Mapping[str, str]

# What would give the core a clock, a socket, a file, a thread or chance.
CLOCKS = ("asyncio", "datetime", "time", "threading", "signal", "sched")
SOCKETS = ("socket", "ssl", "select", "selectors", "http", "urllib.request")
SYSTEM = ("io", "logging", "multiprocessing", "os", "pathlib", "shutil", "subprocess", "sys", "tempfile")
CHANCE = ("random", "secrets", "uuid")


def sources() -> Sources:
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(module: str, source: str, modules: Sources) -> Iterator[str]:
    """Every module, or name in one, that this one imports, wherever the statement stands."""
    is_package = any(other.startswith(f"{module}.") for other in modules)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if is_package else module.split(".")[:-1]
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def under(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def core_is_pure(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if under(module, "oneshotd.core"):
            for name in imports(module, source, modules):
                foreign = under(name, PACKAGE) and not under(name, "oneshotd.core", "oneshotd.errors")
                installed = not under(name, PACKAGE, "attrs", *sys.stdlib_module_names)
                if foreign or installed or under(name, *CLOCKS, *SOCKETS, *SYSTEM, *CHANCE):
                    yield f"{module} imports {name}"


def errors_are_a_leaf(modules: Sources) -> Iterator[str]:
    for name in imports("oneshotd.errors", modules.get("oneshotd.errors", ""), modules):
        if under(name, PACKAGE):
            yield f"oneshotd.errors imports {name}"


def store_knows_the_core_only(modules: Sources) -> Iterator[str]:
    allowed = ("oneshotd.core", "oneshotd.errors", "oneshotd.store")
    for module, source in modules.items():
        if under(module, "oneshotd.store"):
            for name in imports(module, source, modules):
                if under(name, PACKAGE) and not under(name, *allowed):
                    yield f"{module} imports {name}"


def only_the_assembly_knows_a_concrete_store(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if not under(module, "oneshotd.store", "oneshotd.service"):
            for name in imports(module, source, modules):
                plain = name == "oneshotd.store" or under(name, "oneshotd.store.interface")
                if under(name, "oneshotd.store") and not plain:
                    yield f"{module} imports {name}"


def only_the_factory_knows_the_back_ends(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if module not in ("oneshotd.store.factory", "oneshotd.store.sqlite"):
            for name in imports(module, source, modules):
                if under(name, "oneshotd.store.sqlite"):
                    yield f"{module} imports {name}"


def only_tap_takes_the_global_reactor(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if module != "oneshotd.tap":
            for name in imports(module, source, modules):
                if under(name, "twisted.internet.reactor"):
                    yield f"{module} imports {name}"


def only_tap_reads_the_environment(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if module == "oneshotd.tap" or module.startswith("oneshotd.emit"):  # a program of its own
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                yield f"{module} line {node.lineno}: {node.attr}"


def nothing_goes_in_a_circle(modules: Sources) -> Iterator[str]:
    ways = {
        module: {
            other
            for name in imports(module, source, modules)
            for other in (name, name.rpartition(".")[0])[: 1 if name in modules else 2]
            if other in modules and other != module and other != PACKAGE
        }
        for module, source in modules.items()
    }
    while leaves := {module for module, others in ways.items() if not others & ways.keys()}:
        for leaf in leaves:
            del ways[leaf]
    if ways:
        yield "each of these needs another of them first: " + ", ".join(sorted(ways))


Rule = Callable[[Sources], Iterator[str]]
RULES: dict[Rule, Sources] = {
    # rule -> a house that breaks it
    core_is_pure: {"oneshotd.core.x": "def f():\n    from time import monotonic"},
    errors_are_a_leaf: {"oneshotd.errors": "from oneshotd.core import event"},
    store_knows_the_core_only: {"oneshotd.store.x": "import oneshotd.telemetry"},
    only_the_assembly_knows_a_concrete_store: {"oneshotd.web.x": "from oneshotd.store.sqlite import Store"},
    only_the_factory_knows_the_back_ends: {"oneshotd.service": "from oneshotd.store.sqlite import Store"},
    only_tap_takes_the_global_reactor: {"oneshotd.udp": "from twisted.internet import reactor"},
    only_tap_reads_the_environment: {"oneshotd.config": "import os\nos.environ['X']"},
    nothing_goes_in_a_circle: {
        "oneshotd.a": "from oneshotd import b",
        "oneshotd.b": "from .c import y",
        "oneshotd.c": "if x:\n    import oneshotd.a",
        "oneshotd.d": "",
    },
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    """A part could no longer be tested, replaced or understood by itself."""
    assert list(rule(sources())) == []


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_sees_what_breaks_it(rule: Rule) -> None:
    """The rule above would hold for any house."""
    assert len(list(rule(RULES[rule]))) == 1


@pytest.mark.parametrize(
    ("module", "source", "names"),
    [
        ("oneshotd.web", "from . import page", ["oneshotd.web.page"]),
        ("oneshotd.web.page", "from .problems import JSON", ["oneshotd.web.problems.JSON"]),
        ("oneshotd.web.page", "from ..core.wire import Rules", ["oneshotd.core.wire.Rules"]),
        ("oneshotd.web.page", "import os.path, json", ["os.path", "json"]),
    ],
)
def test_imports_are_found_however_written(module: str, source: str, names: list[str]) -> None:
    """A forbidden import could hide behind dots."""
    assert list(imports(module, source, {"oneshotd.web": "", "oneshotd.web.page": ""})) == names


def test_no_file_is_too_long() -> None:
    """A file that nobody reads to its end holds what nobody knows."""
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("oneshotd", "tests", "twisted")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_the_code_refers_to_what_a_reader_has() -> None:
    """A comment that says "see the design" helps nobody who has only the repository."""
    texts = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in ("oneshotd", "twisted", "etc")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".sql", ".toml", ".service", ".socket", ".conf")
    }
    assert [name for name, text in texts.items() if re.search(r"\bDESIGN\b|\bHOUSE\b|\bSTYLE\b", text)] == []
    pages = {page for text in texts.values() for page in re.findall(r"\bdocs/[a-z_-]+\.md", text)}
    assert "docs/emitting.md" in pages
    assert [page for page in sorted(pages) if not (ROOT / page).exists()] == []


def test_the_plugin_folder_has_no_init() -> None:
    """An __init__.py there would hide Twisted's own package, for all programs on the machine."""
    assert [path.name for path in (ROOT / "twisted").rglob("*.py")] == ["oneshot_plugin.py"]

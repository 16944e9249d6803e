"""Import rules: which room of the package may import which, and how long a file may be.

`ROOMS` is the table of docs/architecture.md. A failure names the import and the rooms that the
importing module may use instead. Every rule is also applied to a small source tree that breaks it.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "oneshotd"

#: Module -> source text.
Sources = Mapping[str, str]

PURE = "the standard library, attrs"
STORE_SHARED = "the store's shared modules"
SQLITE = "store.sqlite"
POSTGRESQL = "store.postgresql"
ANSWERS = "the answer modules of web"

#: Room -> its modules (prefixes below the package), and the rooms that it may import.
#: `errors` and the package's version may be imported by all rooms.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "core": (("core",), ()),
    "logs": (("logs",), ("core",)),
    STORE_SHARED: (
        (
            "store.interface",
            "store.abilities",
            "store.clock",
            "store.leases",
            "store.planning",
            "store.segment_columns",
            "store.reading_plan",
            "store.log_page",
            "store.retention_rules",
            "store.limits",
            "store.soundness",
            "store.transfer",
            "store.transfer_records",
        ),
        ("core",),
    ),
    SQLITE: (("store.sqlite",), ("core", "logs", STORE_SHARED)),
    POSTGRESQL: (("store.postgresql",), ("core", "logs", STORE_SHARED)),
    "store.factory": (
        ("store.factory", "store.transfer_factory"),
        ("core", STORE_SHARED, SQLITE, POSTGRESQL),
    ),
    "metrics": (("metrics",), ("core", "logs", STORE_SHARED)),
    "admission": (("admission",), ("core", "logs", STORE_SHARED)),
    "ingest.hooks": (
        ("ingest.hooks",),
        ("core", "logs", STORE_SHARED, "metrics", "admission", "ingest", "access"),
    ),
    "ingest": (("ingest",), ("core", "logs", STORE_SHARED, "metrics", "admission")),
    "delivery.remote_write": (
        ("delivery.remote_write",),
        ("core", "logs", STORE_SHARED, "metrics", "admission", "access"),
    ),
    "delivery": (("delivery",), ("core", "logs", STORE_SHARED, "metrics", "admission")),
    "query": (("query",), ("core", "logs", STORE_SHARED, "metrics", "admission")),
    "backups": (("backups",), ("core", "logs", STORE_SHARED, "metrics", "admission")),
    "access": (("access",), ("core", "logs", "metrics")),
    "udp": (("udp",), ("core", "logs", "metrics", "ingest", "access")),
    ANSWERS: (("web.error_responses", "web.timestamps", "web.compression"), ("core", "logs")),
    "web.transport": (("web.transport",), ("core", "logs", "metrics", "access", ANSWERS)),
    "web.status": (("web.status",), ("core", "logs", STORE_SHARED, "metrics", "query", "access", ANSWERS)),
    "web.routes": (
        ("web.routes",),
        (
            *("core", "logs", STORE_SHARED, "metrics", "admission", "ingest", "delivery", "query", "backups"),
            *("access", ANSWERS, "web.transport", "web.status", "ingest.hooks"),
        ),
    ),
    "web.app": (
        ("web.app",),
        (
            *("core", "logs", STORE_SHARED, "metrics", "admission", "ingest", "delivery", "query", "backups"),
            *("access", ANSWERS, "web.transport", "web.status", "web.routes", "ingest.hooks"),
        ),
    ),
    "web.fastpath": (
        ("web.fastpath",),
        ("core", "logs", "metrics", "ingest", "access", ANSWERS, "web.transport"),
    ),
    "emit": (("emit",), ("core.parsing.numbers", "core.parsing.names")),
    "ctl": (
        ("ctl",),
        (
            *("core", STORE_SHARED, "store.factory", "query", "access", "emit", "ingest", "ingest.hooks"),
            "delivery.remote_write",
            *("daemon.config", "daemon.config_sources", "daemon.option_values", "daemon.sockets"),
        ),
    ),
    "daemon": (
        ("daemon",),
        (
            *("core", "logs", STORE_SHARED, "store.factory", "metrics", "admission", "ingest", "delivery"),
            *("query", "backups", "udp", ANSWERS, "web.transport", "web.routes", "web.app", "web.fastpath"),
            *("web.status", "access", "ingest.hooks", "delivery.remote_write"),
        ),
    ),
}

# Modules that would give the core a clock, a socket, a file, a thread or chance.
CLOCKS = ("asyncio", "datetime", "time", "threading", "signal", "sched")
SOCKETS = ("socket", "ssl", "select", "selectors", "http", "urllib.request")
SYSTEM = ("io", "logging", "multiprocessing", "os", "pathlib", "shutil", "subprocess", "sys", "tempfile")
CHANCE = ("random", "secrets", "uuid")
IMPURE = (*CLOCKS, *SOCKETS, *SYSTEM, *CHANCE)

PURE_ROOMS = (
    "core",
    "ingest.batching",
    "ingest.dialects",
    "ingest.parts",
    "store.planning",
    "store.segment_columns",
    "store.reading_plan",
    "store.log_page",
    "store.retention_rules",
    "store.soundness",
    "ctl.audit_comparison",
)
READS_ENVIRONMENT = ("daemon.tap", "emit", "ctl")


@cache
def sources(folder: str = PACKAGE) -> Sources:
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


@cache
def nodes(source: str) -> Sequence[ast.AST]:
    """Return the nodes of a source text that a rule asks for; each rule asks about the whole package."""
    kinds = (ast.Import, ast.ImportFrom, ast.Attribute)
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))


def imports(module: str, source: str, modules: Sources) -> Iterator[str]:
    """Every module, or name in one, that this module imports, wherever the statement stands."""
    is_package = any(other.startswith(f"{module}.") for other in modules)
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if is_package else module.split(".")[:-1]
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def under(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def below(name: str) -> str:
    """The name without the package's own."""
    return name.removeprefix(f"{PACKAGE}.")


def room_of(module: str) -> str | None:
    """The room of a module or of a name in it; None for the package, `errors` and folders of rooms."""
    return next((room for room, (prefixes, _) in ROOMS.items() if under(below(module), *prefixes)), None)


def rooms_import_downward(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        room = room_of(module)
        if room is None:
            continue
        allowed = ROOMS[room][1]
        for name in imports(module, source, modules):
            other = room_of(name)
            if not under(name, PACKAGE) or other in (room, None) or other in allowed:
                continue
            if not under(below(name), *(rule for rule in allowed if "." in rule)):
                yield (
                    f"{module} imports {name}. "
                    f"The room {room} may import: {', '.join(allowed) or 'nothing'}. "
                    "Move what both need into one of these, or pass it in as an argument."
                )


def every_module_has_a_room(modules: Sources) -> Iterator[str]:
    folders = (PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.store", f"{PACKAGE}.web")
    for module in modules:
        if room_of(module) is None and module not in folders:
            yield f"{module} is in no room. Add it to ROOMS here and to the table of docs/architecture.md."


def errors_are_a_leaf(modules: Sources) -> Iterator[str]:
    for name in imports(f"{PACKAGE}.errors", modules.get(f"{PACKAGE}.errors", ""), modules):
        if under(name, PACKAGE):
            yield f"{PACKAGE}.errors imports {name}. It is imported by all rooms, so it may import none."


def pure_modules_stay_pure(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if under(below(module), *PURE_ROOMS):
            for name in imports(module, source, modules):
                installed = not under(name, PACKAGE, "attrs", *sys.stdlib_module_names)
                if installed or (under(name, *IMPURE) and name != "sys.byteorder"):
                    yield f"{module} imports {name}. Pure rules take time, files and sockets as arguments."


def only_the_factory_imports_a_back_end(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if under(below(module), SQLITE, POSTGRESQL, *ROOMS["store.factory"][0]):
            continue
        for name in imports(module, source, modules):
            if under(below(name), SQLITE, POSTGRESQL):
                yield f"{module} imports {name}. Use store.factory.open_store, or the store's interface."


def only_tap_takes_the_global_reactor(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if below(module) != "daemon.tap":
            for name in imports(module, source, modules):
                if under(name, "twisted.internet.reactor"):
                    yield f"{module} imports {name}. Take the reactor as an argument."


def only_entry_points_read_the_environment(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if under(below(module), *READS_ENVIRONMENT):
            continue
        for node in nodes(source):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                yield f"{module} line {node.lineno}: {node.attr}. Read it in daemon/tap.py and pass it on."


def imports_make_no_circle(modules: Sources) -> Iterator[str]:
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
        yield "each of these modules needs another of them first: " + ", ".join(sorted(ways))


#: The statements that the next rule asks about name a test's module; to parse all tests takes seconds.
_NAMES_A_TEST = re.compile(r"^[ \t]*(?:from|import)\s[^#\n]*\btest_", re.MULTILINE)


def no_test_imports_from_a_test(modules: Sources) -> Iterator[str]:
    for module, source in modules.items():
        if not _NAMES_A_TEST.search(source):
            continue
        for name in imports(module, source, modules):
            if any(part.startswith("test_") for part in name.split(".")[:-1]) and not under(name, "testing"):
                yield f"{module} imports {name}. Put what both need into tests/support/."


Rule = Callable[[Sources], Iterator[str]]
RULES: dict[Rule, Sources] = {
    # rule -> sources that break it
    rooms_import_downward: {"oneshotd.delivery.x": "from oneshotd.web.transport import channel"},
    every_module_has_a_room: {"oneshotd.helpers": ""},
    errors_are_a_leaf: {"oneshotd.errors": "from oneshotd.core import events"},
    pure_modules_stay_pure: {"oneshotd.core.x": "def f():\n    from time import monotonic"},
    only_the_factory_imports_a_back_end: {"oneshotd.daemon.x": "import oneshotd.store.sqlite.store"},
    only_tap_takes_the_global_reactor: {"oneshotd.udp": "from twisted.internet import reactor"},
    only_entry_points_read_the_environment: {"oneshotd.daemon.config": "import os\nos.environ['X']"},
    imports_make_no_circle: {
        "oneshotd.a": "from oneshotd import b",
        "oneshotd.b": "from .c import y",
        "oneshotd.c": "if x:\n    import oneshotd.a",
        "oneshotd.d": "",
    },
}


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    """A part could no longer be tested, replaced or understood by itself."""
    assert list(rule(sources())) == []


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_finds_a_violation(rule: Rule) -> None:
    """The rule above would hold for any source tree."""
    assert len(list(rule(RULES[rule]))) == 1


def test_tests_import_helpers_from_support_only() -> None:
    """A change of one test file would break another."""
    assert list(no_test_imports_from_a_test(sources("tests"))) == []
    assert list(no_test_imports_from_a_test({"tests.test_a": "from web.test_b import x"})) != []


def table() -> str:
    """The rooms as docs/architecture.md shows them."""
    rows = [
        f"| {room} | {', '.join(f'`{prefix}`' for prefix in prefixes)} | {', '.join(allowed) or PURE} |"
        for room, (prefixes, allowed) in ROOMS.items()
    ]
    return "\n".join(["| room | modules | may import |", "|---|---|---|", *rows])


def test_the_documentation_has_the_same_table() -> None:
    """A newcomer would learn rules that do not hold."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert table() in page, f"docs/architecture.md needs this table:\n{table()}"


@pytest.mark.parametrize(
    ("module", "source", "names"),
    [
        ("oneshotd.web", "from . import page", ["oneshotd.web.page"]),
        ("oneshotd.web.page", "from .answers import JSON", ["oneshotd.web.answers.JSON"]),
        ("oneshotd.web.page", "from ..core.events import Event", ["oneshotd.core.events.Event"]),
        ("oneshotd.web.page", "import os.path, json", ["os.path", "json"]),
    ],
)
def test_imports_are_found_in_every_form(module: str, source: str, names: list[str]) -> None:
    """A forbidden import could hide behind dots."""
    assert list(imports(module, source, {"oneshotd.web": "", "oneshotd.web.page": ""})) == names


def test_no_file_is_too_long() -> None:
    """A file beyond 400 lines has more than one subject."""
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

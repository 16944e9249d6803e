"""What holds for every test."""

from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: a machine that is busy with something else must not fail a test.
settings.register_profile("oneshotd", deadline=None)
# `make check` and the run with the oldest dependencies: what `make test` does with four times as many.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("oneshotd")

# The contract's files are no test modules by name, so pytest must be told to explain their asserts.
pytest.register_assert_rewrite(
    "support.store_backends",
    "store.contract_append",
    "store.contract_clock",
    "store.contract_delivery",
    "store.contract_keys",
    "store.contract_leases",
    "store.contract_looking",
    "store.contract_recent",
    "store.contract_upkeep",
)


#: Folders that `make check` does not look into, because all of their tests are of real processes.
E2E_FOLDERS = ("e2e", "store/postgresql")

#: The markers by which `make test` chooses the tests of real processes.
MARKERS = ("e2e", "timed", "campaign")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests with such a marker in a file that does not name it.

    `make test` finds the files by their text, and would leave out the tests of others; `make check` leaves
    out some folders.
    """
    folders = [Path(__file__).parent / name for name in E2E_FOLDERS]
    for item in items:
        if item.get_closest_marker("e2e") is None and any(folder in item.path.parents for folder in folders):
            raise pytest.UsageError(f"{item.nodeid}: a test in this folder is to be marked e2e")
    for marker in MARKERS:
        name = f"mark.{marker}"
        for path in sorted({item.path for item in items if item.get_closest_marker(marker)}):
            if not any(name in file.read_text(encoding="utf-8") for file in _files(path)):
                raise pytest.UsageError(f"{path}: a test is marked {marker}, and its file does not say so")


def _files(path: Path) -> list[Path]:
    conftest = path.with_name("conftest.py")
    return [path, conftest] if conftest.exists() else [path]

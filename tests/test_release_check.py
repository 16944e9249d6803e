"""`make release-check` finds each fault of a release by its check."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.release_check import (
    ROOT,
    build,
    check_changelog,
    check_chart,
    check_debian,
    check_install,
    check_sdist,
    check_tag,
    check_tree,
    check_version,
    check_wheel,
    main,
    version,
)

pytestmark = pytest.mark.e2e  # it takes git, which a build of the Debian package does not have

FILES = {
    "oneshotd/__init__.py": '"""The package."""\n\n__version__ = "1.2.3"\n',
    "setup.py": "setup(version=version())\n",
    "CHANGELOG.md": "# News\n\n## 1.2.3 (2026-12-01)\n\n### Added\n\n- A thing.\n\n## 1.2.2 (2026-11-01)\n",
    "debian/changelog": "oneshotd (1.2.3-1) unstable; urgency=medium\n\n  * New.\n",
    "etc/helm/oneshotd/Chart.yaml": "apiVersion: v2\nversion: 1.2.3\nappVersion: 1.2.3\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository that can be released."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "release: 1.2.3"],
        ["tag", "v1.2.3"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


CHECKS = (check_version, check_changelog, check_debian, check_chart, check_tree, check_tag)

FAULTS: tuple[tuple[Callable[[Path], Iterator[str]], str, str, str, str], ...] = (
    (check_version, "setup.py", "version()", '"1.2.3"', "setup.py has the version"),
    (check_version, "oneshotd/__init__.py", "1.2.3", "1.2.3.dev1", "no version of a release"),
    (check_version, "oneshotd/__init__.py", "__version__", "__other__", "has no __version__"),
    (check_changelog, "CHANGELOG.md", "(2026-12-01)", "(unreleased)", "expected '1.2.3 (YYYY-MM-DD)'"),
    (check_changelog, "CHANGELOG.md", "## 1.2.3", "## 1.2.4", "expected '1.2.3 (YYYY-MM-DD)'"),
    (check_changelog, "CHANGELOG.md", "### Added", "### News", "the headings are ['News']"),
    (check_changelog, "CHANGELOG.md", "- A thing.", "A thing.", "has no entries"),
    (check_debian, "debian/changelog", "1.2.3-1", "1.2.2-1", "expected the version 1.2.3-1"),
    (check_debian, "debian/changelog", "unstable", "UNRELEASED", "is UNRELEASED"),
    (check_chart, "etc/helm/oneshotd/Chart.yaml", "\nversion: 1.2.3", "\nversion: 1.2.2", "version is 1.2.2"),
    (check_chart, "etc/helm/oneshotd/Chart.yaml", "appVersion", "app", "appVersion is missing"),
    (check_tree, "setup.py", "setup", "SETUP", "not committed:  M setup.py"),
)


def test_a_tree_in_order_passes(tree: Path) -> None:
    """No tree would pass."""
    assert [fault for check in CHECKS for fault in check(tree)] == []


@pytest.mark.parametrize(("check", "name", "old", "new", "words"), FAULTS)
def test_a_fault_is_found(
    tree: Path, check: Callable[[Path], Iterator[str]], name: str, old: str, new: str, words: str
) -> None:
    """A release would have the fault."""
    path = tree / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    faults = list(check(tree))
    assert any(words in fault for fault in faults), faults


def test_the_changelog_of_this_tree_is_in_form() -> None:
    """The entries would have to be sorted on the day of a release."""
    assert [fault for fault in check_changelog(ROOT) if "(unreleased)" not in fault] == []


def test_a_tag_elsewhere_is_found(tree: Path) -> None:
    """The tag would name another commit than the files were made of."""
    commit = ["-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--allow-empty"]
    subprocess.run(["git", *commit, "-m", "later"], cwd=tree, check=True, capture_output=True)
    assert list(check_tag(tree)) == ["the tag v1.2.3 is not on this commit (there: none)"]


def test_a_candidate_has_the_version_that_debian_sorts_before(tree: Path) -> None:
    """1.2.3rc1-1 would be newer than 1.2.3-1 for apt."""
    path = tree / "oneshotd/__init__.py"
    path.write_text(path.read_text(encoding="utf-8").replace("1.2.3", "1.2.3rc1"), encoding="utf-8")
    assert list(check_debian(tree))
    (tree / "debian/changelog").write_text(
        "oneshotd (1.2.3~rc1-1) unstable; urgency=medium\n", encoding="utf-8"
    )
    assert list(check_debian(tree)) == []


def test_a_candidate_s_chart_has_a_version_that_helm_takes(tree: Path) -> None:
    """helm refuses a chart of the version 1.2.3rc1; the image has it."""
    for name in ("oneshotd/__init__.py", "etc/helm/oneshotd/Chart.yaml"):
        path = tree / name
        path.write_text(path.read_text(encoding="utf-8").replace("1.2.3", "1.2.3rc1"), encoding="utf-8")
    assert list(check_chart(tree)) == ["Chart.yaml: version is 1.2.3rc1, expected 1.2.3-rc.1"]


def test_a_source_distribution_is_compared_with_the_repository(tree: Path, tmp_path: Path) -> None:
    """A build from it would lack a file, or a private file would be published."""
    (tree / "private.txt").write_text("x", encoding="utf-8")
    file = tmp_path / "oneshotd-1.2.3.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in [*FILES, "private.txt"]:
            if name != "setup.py":
                archive.add(tree / name, f"oneshotd-1.2.3/{name}")
    assert list(check_sdist(tree, file)) == [
        f"{file.name} lacks setup.py",
        f"{file.name} has private.txt, which is not in the repository",
    ]


def test_a_wheel_is_compared_with_the_package(tree: Path, tmp_path: Path) -> None:
    """The installed daemon would not start, because a file is missing."""
    file = tmp_path / "oneshotd-1.2.2-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("oneshotd/left_behind.py", "")
        archive.writestr("oneshotd-1.2.2.dist-info/METADATA", "")
    assert list(check_wheel(tree, file)) == [
        f"{file.name} lacks oneshotd/__init__.py",
        f"{file.name} has oneshotd/left_behind.py, which is not in the repository",
        f"{file.name} is not of version 1.2.3",
    ]


def test_every_fault_is_printed_and_the_status_is_1(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that publishes would continue."""
    (tree / "debian/changelog").write_text("", encoding="utf-8")
    assert main(tree) == 1
    told = capsys.readouterr().out
    assert "expected the version 1.2.3-1" in told and "not committed:  M debian/changelog" in told
    assert "cannot be released" in told


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked distribution has no repository")
def test_this_tree_can_be_built_and_installed(tmp_path: Path) -> None:
    """A release would fail on the day of the release."""
    built = build(ROOT, tmp_path)
    assert [file.suffix for file in built] == [".gz", ".whl"]
    sdist, wheel = built
    assert list(check_sdist(ROOT, sdist)) == []
    assert list(check_wheel(ROOT, wheel)) == []
    assert list(check_install(ROOT, wheel)) == []
    assert f"-{version(ROOT)}-" in wheel.name

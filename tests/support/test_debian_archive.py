"""How often apt is asked for a package, and when its answer is of yesterday."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.debian_archive import CACHE_VARIABLE, fetch

APT_GET = """\
#!/bin/sh
case "$*" in
*--print-uris*)
    echo asked >> {folder}/log
    echo "'http://test/pool/p.deb' p_$(cat {folder}/version)_all.deb 1 x" ;;
*" update"*) echo updated >> {folder}/log ;;
*download*) touch p.deb ;;
esac
"""
DPKG_DEB = '#!/bin/sh\nmkdir "$3"\n'


class Archive:
    """An archive with one package, and an apt that writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name, text in (("apt-get", APT_GET), ("apt-config", "#!/bin/sh\n"), ("dpkg-deb", DPKG_DEB)):
            (folder / name).write_text(text.format(folder=folder) if name == "apt-get" else text)
            (folder / name).chmod(0o755)
        self.publish("1")

    def publish(self, version: str) -> None:
        (self._folder / "version").write_text(version)

    def asked(self) -> int:
        return (self._folder / "log").read_text().split().count("asked")

    def age(self, seconds: float) -> None:
        """Make everything older that tells how old the lists are."""
        for path in self._folder.glob("cache/*/*"):
            at = path.stat().st_mtime - seconds
            os.utime(path, (at, at))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return Archive(tmp_path)


def test_apt_is_asked_once_while_the_lists_are_good(archive: Archive) -> None:
    """Each of some hundred tests would take a second longer."""
    assert [fetch("p").name for _ in range(3)] == ["p_1_all"] * 3
    assert archive.asked() == 1
    assert fetch("q") == fetch("p")
    assert archive.asked() == 2


def test_new_lists_are_read(archive: Archive) -> None:
    """A version that the archive has no longer would be used for ever."""
    fetch("p")
    archive.publish("2")
    archive.age(25 * 3600.0)
    assert fetch("p").name == "p_2_all"


def test_a_folder_that_is_gone_is_made_again(archive: Archive) -> None:
    fetch("p").rmdir()
    assert fetch("p").is_dir()

"""Debian packages, downloaded and unpacked into a cache folder, never installed.

The mirror, its proxy and its keys are those of the system's own apt configuration; lists and
archives live in the cache folder, so no root is needed and the system's apt state is untouched.

    prometheus = fetch("prometheus") / "usr/bin/prometheus"

Used by the demo (`tools/demo.py`) and by the tests (`tests/support/debian_packages.py`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "ONESHOTD_TEST_CACHE"
REPOSITORY = Path(__file__).resolve().parent.parent

#: Seconds for which package lists are good; a new version in the archive is no hurry.
LISTS_AGE = 24 * 3600.0
#: Seconds for one apt command; a package list has some 10 MB, a Prometheus 20 to 40 MB.
APT_TIMEOUT = 300.0

#: The first three: hooks meant for the real lists (some images empty the archive folder).
APT_CONF = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State::Lists "{room}/lists";
Dir::State::status "{room}/status";
Dir::Cache "{room}/apt";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
#: An index that should have been renewed will do, its signature is looked at all the same: there
#: are mirrors that stand still, and sid's is good for a week.
OTHER_SUITE_CONF = """\
Acquire::Check-Valid-Until "false";
Dir::Etc::sourcelist "{room}/sources.list";
Dir::Etc::sourceparts "-";
"""
#: Which packages the system has.
SYSTEM_STATUS = Path("/var/lib/dpkg/status")
#: For one package with its libraries: a browser takes 130 MB, on a bare system some 200.
MOST_BYTES = 400_000_000
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class PackageUnavailable(Exception):
    """The archive does not have the package, or cannot be reached; the text is apt's own."""


class NoPackageTools(PackageUnavailable):
    """This system has no apt, so it is no Debian."""


def cache_folder() -> Path:
    """Where packages are kept between runs; ``$ONESHOTD_TEST_CACHE``, else in the repository."""
    return Path(os.environ.get(CACHE_VARIABLE) or REPOSITORY / ".cache" / "debian").resolve()


def fetch(package: str, suite: str | None = None) -> Path:
    """The folder in which the package's files lie (``…/usr/bin/…``), downloaded if need be.

    :param suite: a Debian suite other than the system's own ("trixie", "sid"), from the same
        mirror.
    :raises NoPackageTools: there is no apt here.
    :raises PackageUnavailable: neither the archive nor the cache has it.
    """
    with _archive(package, suite) as archive:
        return archive.get(package)


def fetch_with_libraries(package: str, suite: str | None = None) -> Path:
    """The same, and in one folder with it all that it depends on and this system does not have.

    For another suite that is all that it depends on, the C library included: only the loader that comes
    with it can start its programs.

    :raises PackageUnavailable: as `fetch`; also where that is more than `MOST_BYTES`.
    """
    with _archive(package, suite) as archive:
        return archive.get_with_libraries(package)


@contextmanager
def _archive(package: str, suite: str | None) -> Iterator[_Archive]:
    for tool in ("apt-get", "apt-config", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NoPackageTools(f"{package} comes as a Debian package, and there is no {tool} here")
    room = cache_folder() / f"{suite or _own_suite()}-{platform.machine()}"
    room.mkdir(parents=True, exist_ok=True)
    with _locked(room / "lock"):
        yield _Archive(room, suite)


def _own_suite() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "system")
    except OSError:
        return "system"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One run at a time works in a room; the kernel lets go when a process dies."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Archive:
    """One suite, with apt's private state and the unpacked packages in `room`."""

    def __init__(self, room: Path, suite: str | None) -> None:
        self.room = room
        self.suite = suite
        self._updated = room / "updated"

    def get(self, package: str) -> Path:
        known = self._known(package, self._updated)
        return known or self._newest_or_kept(f"{package}_*", package, self._unpacked)

    def get_with_libraries(self, package: str) -> Path:
        known = self._known(f"with-{package}", self._updated, SYSTEM_STATUS)
        return known or self._newest_or_kept(f"with-{package}_*", package, self._unpacked_with_libraries)

    def _known(self, name: str, *sources: Path) -> Path | None:
        """Return what apt has named for this before, unless what it reads has changed.

        apt takes a second of a processor for an answer, and a run of all tests asks it some hundred times.
        """
        note = self.room / f"answer-{name}"
        if not (self._lists_are_recent() and note.exists()):
            return None
        told = note.stat().st_mtime_ns
        if any(path.exists() and path.stat().st_mtime_ns >= told for path in sources):
            return None
        target = self.room / note.read_text(encoding="utf-8")
        return target if target.is_dir() else None

    def _told(self, name: str, target: Path) -> Path:
        (self.room / f"answer-{name}").write_text(target.name, encoding="utf-8")
        return target

    def _newest_or_kept(self, pattern: str, package: str, unpack: Callable[[str], Path]) -> Path:
        complaints = []
        for old_lists_will_do in (True, False):
            recent = old_lists_will_do and self._lists_are_recent()
            try:
                if not recent:
                    complaints += self._update()
                return unpack(package)
            except (PackageUnavailable, subprocess.TimeoutExpired) as problem:
                complaints.append(str(problem))
            if not recent:
                break
        kept = sorted(self.room.glob(pattern), key=lambda folder: folder.stat().st_mtime)
        if kept:
            return kept[-1]
        raise PackageUnavailable("\n".join(complaints))

    def _lists_are_recent(self) -> bool:
        return self._updated.exists() and time.time() - self._updated.stat().st_mtime < LISTS_AGE

    def _update(self) -> list[str]:
        """Read the package lists; what went wrong with that, which need not matter: the system
        may have broken sources that are not Debian's, and old lists may still be good."""
        for folder in ("lists/partial", "apt/archives/partial"):
            (self.room / folder).mkdir(parents=True, exist_ok=True)
        (self.room / "status").touch()
        conf = APT_CONF
        if self.suite is not None:
            conf += OTHER_SUITE_CONF
            signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
            (self.room / "sources.list").write_text(f"deb {signed}{mirror()} {self.suite} main\n")
        (self.room / "apt.conf").write_text(conf.format(room=self.room))
        done = self._apt("update", check=False)
        if done.returncode != 0:
            return [done.stderr.strip()]
        self._updated.touch()
        return []

    def _unpacked(self, package: str) -> Path:
        uris = self._apt("--print-uris", "download", package).stdout.split()
        if len(uris) < 2:
            raise PackageUnavailable(f"apt-get names no file for {package}")
        target = self.room / uris[1].removesuffix(".deb")
        if not target.is_dir():
            # In the same folder, for the rename; only whole packages bear a package's name.
            with tempfile.TemporaryDirectory(dir=self.room, prefix="unpacking-") as work:
                self._apt("download", package, cwd=work)
                (archive,) = Path(work).glob("*.deb")
                files = Path(work) / "files"
                _run(["dpkg-deb", "-x", str(archive), str(files)])
                files.rename(target)
        return self._told(package, target)

    def _unpacked_with_libraries(self, package: str) -> Path:
        # What is missing is reckoned from what the system has; asking changes nothing there.
        status = SYSTEM_STATUS if self.suite is None else self.room / "status"
        installed = ("-o", f"Dir::State::status={status}")
        wanted = self._apt(*installed, "--print-uris", "--no-install-recommends", "install", package)
        # Each line: 'URI' file size hash
        rows = [line.split() for line in wanted.stdout.splitlines() if line.startswith("'")]
        names = sorted(row[1] for row in rows)
        own = [name for name in names if name.startswith(f"{package}_")]
        if not own:
            raise PackageUnavailable(f"apt-get names no file for {package}, or the system has it installed")
        if (size := sum(int(row[2]) for row in rows)) > MOST_BYTES:
            raise PackageUnavailable(f"{package} and what it needs here are {size:,} bytes")
        digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
        target = self.room / f"with-{own[0].removesuffix('.deb')}-{digest}"
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=self.room, prefix="unpacking-") as work:
                self._apt(*installed, "download", *(name.partition("_")[0] for name in names), cwd=work)
                files = Path(work) / "files"
                for archive in sorted(Path(work).glob("*.deb")):
                    _run(["dpkg-deb", "-x", str(archive), str(files)])
                files.rename(target)
        return self._told(f"with-{package}", target)

    def _apt(
        self, *words: str, cwd: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return _run(["apt-get", "-c", str(self.room / "apt.conf"), "-qq", *words], cwd=cwd, check=check)


def mirror() -> str:
    """The mirror from which the system takes Debian itself, not its security updates."""
    own = {_own_suite(), "oldstable", "stable", "testing", "unstable", "sid"}
    for uri, release, component in _indexes():
        if release in own and component == "main":
            return uri
    raise PackageUnavailable("apt-get indextargets names no mirror of this Debian release")


def security_mirror() -> str | None:
    """The mirror from which the system takes security updates, if it does."""
    for uri, release, component in _indexes():
        if release.endswith("-security") and component == "main":
            return uri
    return None


def _indexes() -> Iterator[tuple[str, str, str]]:
    """Mirror, release and component of each list of packages that the system's apt reads."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in targets.stdout.splitlines():
        uri, release, component = line.split()
        yield uri, release, component


def _run(
    command: list[str], *, cwd: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=APT_TIMEOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    )
    if check and done.returncode != 0:
        raise PackageUnavailable(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return done

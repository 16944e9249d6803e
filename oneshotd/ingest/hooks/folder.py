"""The folder of ``--hooks``: a file for each hook, read at the start and again when it changes.

`access.reload.ReloadedFile` looks for changes. What becomes of a file:

| file                                  | its hook                                                     |
|---------------------------------------|--------------------------------------------------------------|
| good                                  | is in force                                                  |
| bad, an earlier one is in force       | the earlier one stays                                        |
| bad, there was no earlier one         | refuses all messages with 503, so that senders repeat them   |
| removed                               | goes; a preset of its name is there again                    |

A bad file is an error in the log and a warning of /readyz, also at the start: the other hooks, and the
events of other doors, do not wait for it. If the folder itself cannot be read, the daemon does not start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from oneshotd.access.reload import InThread, ReloadedFile
from oneshotd.core.parsing.formats import Rules
from oneshotd.errors import ConfigError
from oneshotd.ingest.hooks.hook_file import HookFile, files_of, hook_name, read_hook_file, read_secrets
from oneshotd.ingest.hooks.hooks import Hook, Hooks
from oneshotd.ingest.hooks.verification import Verifier
from oneshotd.metrics.reloads import ReloadState

#: Files of a folder.
MAX_FILES = 500


@frozen(kw_only=True)
class LoadedFile:
    """A good file."""

    file: HookFile
    verifier: Verifier | None

    @property
    def hook(self) -> Hook:
        """The hook of this file."""
        return Hook.of(self.file.recipe, self.verifier)


@frozen(kw_only=True)
class FolderContent:
    """What was found in a folder.

    :param good: name -> file.
    :param bad: file -> why it cannot be used.
    """

    good: Mapping[str, LoadedFile]
    bad: Mapping[Path, str]


def read_folder(folder: Path, limits: Rules | None = None) -> tuple[FolderContent, Sequence[Path]]:
    """Read all hooks of a folder; return them, and the files that decide what was found.

    :raises ConfigError: the folder cannot be read, or has too many files.
    """
    try:
        paths = sorted(
            path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith(".")
        )
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    if len(paths) > MAX_FILES:
        raise ConfigError(f"{folder}: expected at most {MAX_FILES} files, got {len(paths)}")
    good, bad, watched = {}, {}, [folder]
    for path in paths:
        watched.append(path)
        try:
            name = hook_name(path)
            file = read_hook_file(path, limits)
            watched.extend(each for each in files_of(path, file) if each not in watched)
            good[name] = LoadedFile(file=file, verifier=read_secrets(path, file))
        except ConfigError as error:
            bad[path] = str(error)
    return FolderContent(good=good, bad=bad), watched


class HookFolder:
    """Keeps the hooks of a folder in force.

    :param now: returns Unix seconds.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        hooks: Hooks,
        *,
        clock: IReactorTime,
        in_thread: InThread,
        limits: Rules | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._hooks = hooks
        self._limits = limits
        self._in_force: dict[str, LoadedFile] = {}
        self._bad: Mapping[Path, str] = {}
        self._reloaded: ReloadedFile[FolderContent] = ReloadedFile(
            what=f"hooks {path}",
            path=path,
            load=self._load,
            take=self._take,
            clock=clock,
            in_thread=in_thread,
            now=now,
        )

    def read(self) -> None:
        """Read the folder for the start, and put the hooks in force.

        :raises ConfigError: the folder cannot be read.
        """
        self._take(self._reloaded.first())

    def start(self) -> None:
        """Begin to look for changes."""
        self._reloaded.start()

    def stop(self) -> None:
        """Look for no more changes."""
        self._reloaded.stop()

    def reload(self) -> None:
        """Read the folder again now."""
        self._reloaded.ask()

    @property
    def state(self) -> ReloadState:
        """Whether all files are in force, for the metrics."""
        is_good = self._reloaded.problem is None and not self._bad
        return ReloadState(successful=is_good, succeeded_at=self._reloaded.taken_at)

    def warnings(self) -> list[str]:
        """Return what is wrong, without a name or a path: every client may read it."""
        if self._reloaded.problem is not None:
            return ["the folder of --hooks cannot be read; the log has the reason"]
        if self._bad:
            many = f"{len(self._bad)} files of --hooks are" if len(self._bad) > 1 else "a file of --hooks is"
            return [f"{many} not used; the log has the reason"]
        return []

    def _load(self) -> tuple[FolderContent, Iterable[Path]]:
        return read_folder(self._path, self._limits)

    def _take(self, found: FolderContent) -> str:
        before, self._in_force = self._in_force, dict(found.good)
        unusable = set()
        for path, why in found.bad.items():
            name = path.stem
            if name in before:
                self._in_force[name] = before[name]
            else:
                unusable.add(name)
            if self._bad.get(path) != why:
                self._log_bad(why, stays=name in before)
        self._bad = found.bad
        hooks = {name: each.hook for name, each in self._in_force.items()}
        self._hooks.replace(hooks, frozenset(unusable))
        return "; ".join(_changes(before, self._in_force))

    def _log_bad(self, why: str, *, stays: bool) -> None:
        if stays:
            self._log.error("hooks: a file is not used, the one before stays in force: {why}", why=why)
        else:
            self._log.error("hooks: a file is not used, its hook answers with 503: {why}", why=why)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[str]:
    """Yield the changes in words."""
    for what, names in (
        ("new", after.keys() - before.keys()),
        ("removed", before.keys() - after.keys()),
        ("changed", {name for name in after.keys() & before.keys() if after[name] != before[name]}),
    ):
        if names:
            yield f"{what}: {', '.join(sorted(names))}"

"""`check` runs `oneshotctl check-config` in a folder with certificates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from support.audit_servers import Audit
from support.certificates import Authority

from oneshotd.ctl import daemon_sources
from oneshotd.ctl.command import run

#: Runs the command with these files in a folder; returns status, standard output and standard error, in
#: which DIR stands for the folder.
Check = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates that are good, ended, and too late."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    for name, days in (("server", 60), ("ended", -3), ("soon", 2)):
        authority.issue(name, valid=timedelta(days=days, hours=1)).key.chmod(0o600)
    authority.issue("unnamed", sans=(), valid=timedelta(days=60)).key.chmod(0o600)
    return folder


@pytest.fixture
def check(
    tmp_path: Path,
    certificates: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Check:
    monkeypatch.setattr(daemon_sources, "CONFIG", str(tmp_path / "none.toml"))
    # Passwords are not compared here.
    monkeypatch.setitem(sys.modules, "bcrypt", ModuleType("bcrypt"))
    for path in certificates.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def ran(
        files: Mapping[str, str | bytes], *words: str, environ: Mapping[str, str] | None = None
    ) -> tuple[int, list[str], list[str]]:
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.replace("DIR", str(tmp_path)).encode()
            (tmp_path / name).write_bytes(data)
        config = ["--config", str(tmp_path / "d.toml")] if "d.toml" in files else []
        status = run(["check-config", *config, *words], environ or {})
        out, err = (text.replace(str(tmp_path), "DIR").splitlines() for text in capsys.readouterr())
        return status, out, err

    return ran


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Audit:
    """Run `oneshotctl audit`, without a wait for a store that is late."""

    def audit(*words: str) -> tuple[int, str, str]:
        status = run(["audit", "--wait", "0s", "--timeout", "10s", *words], {})
        out, err = capsys.readouterr()
        return status, out, err

    return audit


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """End the servers with the test."""
    with ExitStack() as found:
        yield found

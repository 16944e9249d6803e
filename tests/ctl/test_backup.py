"""`oneshotctl backup`: a nightly job can tell what happened, and whether to try again."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from support.backup_socket import BackupSocket, answer

from oneshotd.ctl import backup, daemon_sources
from oneshotd.ctl.command import run

MADE = b'{"file": "/copies/oneshotd-1.sqlite", "bytes": 73728, "seconds": 0.0214}\n'


@pytest.fixture(autouse=True)
def _no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_sources, "CONFIG", str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--socket a --config b", "argument --config: not allowed with argument --socket"),
        ("--timeout 5", "argument --timeout: expected a duration such as 500ms, 90s, 5m, 1h or 1d, got '5'"),
        ("--timeout 0s", "argument --timeout: expected a duration"),
        ("now", "unrecognized arguments: now"),
    ],
)
def test_a_wrong_command_line_is_status_2(words: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A nightly job would make its backups elsewhere than its author believes."""
    assert run(["backup", *words.split()], {}) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl: {why}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("reply", "status", "why"),
    [
        (answer(409, b"a backup is already running\n"), 75, "a backup is already running (409)"),
        (answer(503, b"/copies: Permission denied\n"), 1, "/copies: Permission denied (503)"),
        (answer(507, b"disk full: /copies\n"), 1, "disk full: /copies (507)"),
        (answer(404, b"not found\n"), 1, "not found (404)"),
        (answer(500, b""), 1, "no reason given (500)"),
        (answer(500, b"a\n" * 9999), 1, "a a a"),
        (answer(200, b"ok\n"), 1, "this is not oneshotd, its answer: 'ok\\n'"),
        (answer(200, b"[]"), 1, "this is not oneshotd, its answer: '[]'"),
        (answer(200, b'{"file": "x", "bytes": null, "seconds": 1}'), 1, "this is not oneshotd"),
        (b"", 75, "the daemon closed the connection before the end of its answer"),
        (b"HTTP/1.1 200 x\r\nContent-Le", 1, "this is not oneshotd"),
        (b"220 mail.example ESMTP\r\n", 1, "this is not oneshotd: 220 mail.example ESMTP"),
        (b"x" * 100_000, 1, "this is not oneshotd: "),
    ],
)
def test_each_failure_has_its_status_and_one_line(
    reply: bytes, status: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job would count a backup that was not made."""
    with BackupSocket(reply) as server:
        assert run(["backup", "--socket", str(server.path)], {}) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl backup: {server.path}: {why}") and err.count("\n") == 1
    assert len(err) < 700


def test_a_daemon_that_never_answers_is_waited_for_no_longer_than_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The nightly job would hang, and the next night's, too."""
    with BackupSocket(None) as server:
        assert run(["backup", "--socket", str(server.path), "--timeout", "50ms"], {}) == 75
    assert "no answer within 0.05 s; the daemon may still finish" in capsys.readouterr().err


def test_a_socket_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job could not tell a daemon that is away from a wrong path."""
    with BackupSocket(b"") as server:
        left = server.path.parent / "left"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(left))
        file = server.path.parent / "file"
        file.touch()
        cases = [
            (left, 75, "the daemon does not run"),
            (file, 2, "this is no socket"),
            (server.path.parent / "missing", 75, "there is no such socket; does the daemon run"),
            (file / "below", 2, "Not a directory"),
            (Path("n" * 200), 2, "AF_UNIX path too long"),
        ]
        for path, status, why in cases:
            assert run(["backup", "--socket", str(path)], {}) == status, path
            err = capsys.readouterr().err
            assert err.startswith(f"oneshotctl backup: {path}: {why}") and err.count("\n") == 1


def test_another_user_may_not_use_the_socket(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator would look for a daemon that is away."""

    def connect(self: socket.socket, path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert run(["backup", "--socket", "/run/x"], {}) == 77
    assert capsys.readouterr().err.startswith("oneshotctl backup: /run/x: permission denied; root and")


def test_the_backup_is_told_when_it_is_on_disk(capsys: pytest.CaptureFixture[str]) -> None:
    """The operator would not know where it is."""
    with BackupSocket(answer(200, MADE)) as server:
        assert run(["backup", "--socket", str(server.path)], {}) == 0
        assert capsys.readouterr() == ("/copies/oneshotd-1.sqlite: 73728 bytes in 0.021 s\n", "")
        assert run(["backup", "--socket", str(server.path), "--quiet"], {}) == 0
        assert capsys.readouterr() == ("/copies/oneshotd-1.sqlite\n", "")
    assert [request.split(b"\r\n")[0] for request in server.requests] == [b"POST /api/v1/backup HTTP/1.1"] * 2


def test_the_configuration_names_the_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path would have to be written in two places."""
    file = tmp_path / "oneshotd.toml"
    with BackupSocket(answer(200, MADE)) as server:
        file.write_text(f'backup-dir = "/copies"\nbackup-socket = "{server.path}"\n')
        assert run(["backup", "--config", str(file)], {}) == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hold = '1h'", "FILE: backup-socket is not set; backups need it and backup-dir"),
        ("backup-socket = '/run/x'", "backup-dir and backup-socket: expected both or neither, got one"),
        ("hodl = '1h'", "FILE:1: there is no option 'hodl'"),
        (None, "FILE: No such file or directory"),
    ],
)
def test_a_configuration_without_a_socket(
    text: str | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job would wait for a socket that never comes."""
    file = tmp_path / "oneshotd.toml"
    if text is not None:
        file.write_text(text)
    assert run(["backup", "--config", str(file)], {}) == 2
    err = capsys.readouterr().err.replace(str(file), "FILE")
    assert err.startswith(f"oneshotctl backup: {why}") and err.count("\n") == 1


def test_without_a_service_the_socket_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The operator would not know what to give."""
    assert run(["backup"], {}) == 2
    assert "give --socket PATH or --config FILE" in capsys.readouterr().err


def test_every_status_is_explained() -> None:
    """The manual would lack one."""
    assert sorted(backup.STATUSES) == [0, 1, 2, 75, 77]

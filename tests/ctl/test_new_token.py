"""`oneshotctl new-token`: secrets are random, stay in their file, and fit their hash."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from oneshotd.access.access_file import read_access_file
from oneshotd.access.credentials import Token, read_credential
from oneshotd.access.rules import Client, Role
from oneshotd.ctl.command import run

FORM = re.compile(r"oneshot_[0-9a-f]{64}")

#: As `openssl rand -hex 32` makes it.
FOREIGN = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--role boss", "argument --role: invalid choice: 'boss'"),
        ("--out a --from b", "argument --from: not allowed with argument --out"),
        ("--out", "argument --out: expected one argument"),
        ("ci", "unrecognized arguments: ci"),
    ],
)
def test_a_wrong_command_line_makes_no_token(
    words: str, why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error would leave a secret somewhere."""
    monkeypatch.chdir(tmp_path)
    assert run(["new-token", *words.split()], {}) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl: {why}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "there is no token in it"),
        (b" \n\n", "there is no token in it"),
        (b"hunter2\n", "expected a token of at least 32 characters, got 7: a short one"),
        (b"%s\n%s\n" % ((FOREIGN.encode(),) * 2), "expected one token of letters, digits"),
        (b"Bearer " + FOREIGN.encode(), "expected one token of letters, digits"),
        (FOREIGN.encode() + b"\xc3\xa4", "expected one token of letters, digits"),
        (b"\0" * 40, "expected one token of letters, digits"),
        (b"a" * 5000, "expected one token of letters, digits"),
    ],
)
def test_a_file_without_a_token_is_refused_without_showing_it(
    data: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule would have a hash that no client can meet, or a secret would be in the terminal's history."""
    file = tmp_path / "token"
    file.write_bytes(data)
    assert run(["new-token", "--from", str(file)], {}) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl new-token: {file}: {why}") and err.count("\n") == 1
    for word in data.decode(errors="replace").split():
        assert word not in err


@pytest.mark.parametrize(
    ("name", "why"),
    [("missing", "No such file or directory"), (".", "Is a directory"), ("n" * 300, "File name too long")],
)
def test_a_file_that_cannot_be_read_is_one_line(
    name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator would get a traceback."""
    assert run(["new-token", "--from", f"{tmp_path}/{name}"], {}) == 1
    assert capsys.readouterr().err == f"oneshotctl new-token: {tmp_path}/{name}: {why}\n"


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_nothing_is_overwritten(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token in use would be gone, or be written where a link of somebody else points to."""
    file, other = tmp_path / "token", tmp_path / "other"
    if kind == "file":
        file.write_text("old")
    elif kind == "folder":
        file.mkdir()
    else:
        if kind == "link":
            other.write_text("old")
        file.symlink_to(other)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(["new-token", "--out", str(file)], {}) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"oneshotctl new-token: {file}: it exists, and is not overwritten\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert kind in ("folder", "dangling link") or file.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("nowhere/token", 1, "No such file or directory"),
        ("n" * 300, 1, "File name too long"),
        ("-", 2, "--out: expected a file"),
    ],
)
def test_a_file_that_cannot_be_made_is_one_line(
    name: str, status: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hash of a token that nobody has would be printed."""
    where = name if name == "-" else f"{tmp_path}/{name}"
    assert run(["new-token", "--out", where], {}) == status
    out, err = capsys.readouterr()
    assert out == "" and why in err and err.count("\n") == 1


def test_a_full_disk_leaves_no_half_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client would be given an empty file, and the next attempt would be refused for it."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(["new-token", "--out", str(tmp_path / "token")], {}) == 1
    assert capsys.readouterr() == (
        "",
        f"oneshotctl new-token: {tmp_path / 'token'}: No space left on device\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_the_printed_token_fits_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    """The client of the token would be refused."""
    assert run(["new-token", "--role", "scrape"], {}) == 0
    out, err = capsys.readouterr()
    (token,) = FORM.findall(out)
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert f"SHA-256: {digest}\n" in out and err == ""
    rules = tomllib.loads(out[out.index("[[allow]]") :])
    assert rules == {"allow": [{"role": "scrape", "token_sha256": digest}]}


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_token_of_a_file_is_in_that_file_alone(
    umask: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other users could read it, or it would be in the log of a deployment."""
    file = tmp_path / "token"
    before = os.umask(umask)
    try:
        assert run(["new-token", "--out", str(file)], {}) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text()
    assert FORM.fullmatch(token.removesuffix("\n"))
    out, err = capsys.readouterr()
    assert token.strip() not in out and err == ""
    # All of it can be appended to an access file.
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    assert tomllib.loads(f"# an access file\n{out}{out}") == {
        "allow": [{"role": "emit", "token_sha256": digest}] * 2
    }


@pytest.mark.parametrize("data", [FOREIGN, f"{FOREIGN}\n", f"  {FOREIGN}\r\n", "YWJj" * 11 + "=="])
@pytest.mark.parametrize("by", ["file", "stdin"])
def test_a_token_from_elsewhere_is_hashed_as_its_client_sends_it(
    data: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newline of `openssl rand` would be hashed as well, and the client be refused."""
    (tmp_path / "token").write_text(data, newline="")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data.encode())))
    source = "-" if by == "stdin" else str(tmp_path / "token")
    assert run(["new-token", "--from", source, "--role", "look"], {}) == 0
    out = capsys.readouterr().out
    assert data.strip() not in out
    digest = hashlib.sha256(data.strip().encode()).hexdigest()
    assert tomllib.loads(out) == {"allow": [{"role": "look", "token_sha256": digest}]}


def test_no_two_tokens_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Two clients would be one."""
    for _ in range(50):
        assert run(["new-token"], {}) == 0
    assert len(set(FORM.findall(capsys.readouterr().out))) == 50


def test_the_daemon_takes_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A client with its new token would be refused."""
    for role in Role:
        token, access = tmp_path / role.value, tmp_path / "access.toml"
        assert run(["new-token", "--role", role.value, "--out", str(token)], {}) == 0
        access.write_text(capsys.readouterr().out)
        credential = read_credential([b"Bearer " + token.read_bytes().strip()])
        assert isinstance(credential, Token)
        (rule,) = read_access_file(access)
        assert rule.role is role and rule.fits(Client(address="192.0.2.7", token=credential.sha256))
        assert not rule.fits(Client(address="192.0.2.7"))

"""The file with a token: what is in it, what is refused, and that it stays a secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from oneshotd.emit import emit
from oneshotd.emit.credentials import (
    MAX_TOKEN_BYTES,
    Reloaded,
    authorization,
    hidden,
    read_token,
    readable_by_others,
    sent_with,
    unencrypted,
)
from oneshotd.emit.settings import Credentials, Settings, SettingsError, target


def settings(url: str, **files: str) -> Settings:
    return Settings(target(url), 5.0, 0.0, Credentials(**files))


def _authorized(chosen: Settings) -> Callable[[], str | None]:
    return authorization(chosen.target, chosen.credentials)


@pytest.mark.parametrize(
    "text", [b"s3cret", b"s3cret\n", b"  s3cret\t\r\n", b"s3cret\nof machine a\n", b"s3cret \n\xff\0"]
)
def test_the_token_is_the_first_line(tmp_path: Path, text: bytes) -> None:
    """A line end that an editor or `openssl rand` adds would make every token a wrong one."""
    file = tmp_path / "token"
    file.write_bytes(text)
    assert read_token(str(file)) == "s3cret"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "the first line is empty, expected a token"),
        (b" \t\r\n", "the first line is empty"),
        (b"\ns3cret\n", "the first line is empty"),
        (b"x" * (MAX_TOKEN_BYTES + 1), "longer than 8192 bytes"),
        (b"Bearer s3cret", "expected a token alone in the first line"),
        (b"s3c\0ret", "expected a token alone"),
        (b"s3cret\0", "expected a token alone"),
        ("s3crèt".encode(), "expected a token alone"),
        (b"\xef\xbb\xbfs3cret", "expected a token alone"),
        (b"s3cret\rX-Y: z", "expected a token alone"),
        (b"s3cret\x0bX-Y:", "expected a token alone"),
        (b"\x7fELF", "expected a token alone"),
        (b"-----BEGIN CERTIFICATE-----\n", "expected a token alone"),
        (b"basic_auth_users:\n  ci: $2b$10$\n", "expected a token alone"),
    ],
)
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, text: bytes, why: str) -> None:
    """Half a token would be sent, a header be added to the request, or the secret be in cron's mail."""
    file = tmp_path / "token"
    file.write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        read_token(str(file))
    assert str(caught.value).startswith(f"token-file: {file}: {why}")
    assert "s3c" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A folder, a device or a FIFO would end in a traceback, or never."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for file, why in (
        (tmp_path, "Is a directory"),
        (fifo, "the first line is empty"),
        (Path("/dev/zero"), "longer than"),
        (Path("/dev/null"), "the first line is empty"),
    ):
        with pytest.raises(SettingsError, match=f"^token-file: {file}: {why}"):
            read_token(str(file))


@pytest.mark.parametrize("name", ["hunter2-hunter2", "hunter2/hunter2", "/hunter2+hunter2", "hunter2." * 100])
def test_a_token_in_place_of_a_files_name_is_not_shown(name: str) -> None:
    """The secret would be in cron's mail, because somebody took `--token-file` for `--token`."""
    with pytest.raises(SettingsError, match=r"^token-file: ") as caught:
        read_token(name)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_told_with_its_folder(tmp_path: Path) -> None:
    """Nobody would know where the file was looked for."""
    with pytest.raises(SettingsError) as caught:
        read_token(str(tmp_path / "token"))
    assert str(caught.value) == f"token-file: a file in {tmp_path}: No such file or directory"


def test_a_token_from_a_pipe_is_read_once(tmp_path: Path) -> None:
    """`--token-file <(pass show token)` would work for one request of a long input."""
    source, sink = os.pipe()
    os.write(sink, b"s3cret\n")
    os.close(sink)
    try:
        header = _authorized(settings("https://h", token_file=f"/dev/fd/{source}"))
        assert [header(), header()] == ["Bearer s3cret"] * 2
    finally:
        os.close(source)


def test_a_file_that_is_replaced_counts_at_once_and_a_bad_one_does_not(tmp_path: Path) -> None:
    """A long-running program would go on with a token that is revoked, or end in the middle of a rotation."""
    file = tmp_path / "token"
    file.write_text("first")
    header = _authorized(settings("https://h", token_file=str(file)))
    assert header() == "Bearer first"
    file.write_text("other")
    assert header() == "Bearer other"
    file.write_text("")
    assert header() == "Bearer other"
    file.unlink()
    assert header() == "Bearer other"
    file.write_text("third")
    assert header() == "Bearer third"


def test_the_first_result_must_be_good() -> None:
    """A request would go out without the credential."""

    def fail() -> str:
        raise SettingsError("why")

    with pytest.raises(SettingsError, match="why"):
        Reloaded(fail)()


@pytest.mark.parametrize(
    ("url", "files", "said"),
    [
        ("https://h", {}, "sent without a credential, see the options token-file and cert"),
        (
            "https://h",
            {"unused": "emit.toml: cert is for another url"},
            "sent without a credential, see the options token-file and cert;"
            " emit.toml: cert is for another url",
        ),
        ("https://h", {"token_file": "/t"}, "sent with the token of /t (token-file)"),
        ("https://kim:s3cret@h", {}, "sent with the user 'kim' of the url"),
        (
            "https://h",
            {"token_file": "/t", "cert": "/c", "key": "/k"},
            "sent with the token of /t (token-file) and the certificate of /c (cert)",
        ),
    ],
)
def test_a_refusal_names_what_was_sent(url: str, files: dict[str, str], said: str) -> None:
    """An operator could not tell which of several credentials is wrong."""
    assert sent_with(target(url), Credentials(**files)) == said


def test_a_credential_in_an_answer_is_hidden() -> None:
    """A proxy's error page that shows the request would print the token in a terminal or a mail."""
    assert hidden(b"no s3cret-token!", "Bearer s3cret-token") == b"no [hidden]!"
    assert hidden(b"no s3cret-token, c3ByZWFkOnMzY3JldC10b2tlbg==", "Basic c3ByZWFkOnMzY3JldC10b2tlbg==") == (
        b"no [hidden], [hidden]"
    )
    assert hidden(b"refused", None) == b"refused"
    assert hidden(b"refused", "Bearer e") == b"refused"


@pytest.mark.parametrize(
    ("url", "files", "warned"),
    [
        ("http://h:1", {"token_file": "/t"}, "the token"),
        ("http://kim:s3cret@h:1", {}, "the password"),
        ("http://h:1", {}, None),
        ("https://h", {"token_file": "/t"}, None),
        ("http://localhost:1", {"token_file": "/t"}, None),
        ("http://a.localhost:1", {"token_file": "/t"}, None),
        ("http://127.0.9.1:1", {"token_file": "/t"}, None),
        ("http://[::1]:1", {"token_file": "/t"}, None),
        ("http://127.0.0.1.example:1", {"token_file": "/t"}, "the token"),
        ("http://localhost.example:1", {"token_file": "/t"}, "the token"),
    ],
)
def test_a_secret_on_an_open_network_is_a_warning(
    url: str, files: dict[str, str], warned: str | None
) -> None:
    """Nobody would notice that everybody on the way can read the token."""
    said = unencrypted(settings(url, **files))
    assert (said is None) == (warned is None)
    if warned:
        assert f"can read {warned}" in (said or "")
        assert "s3cret" not in (said or "")


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
@pytest.mark.parametrize("option", ["token_file", "key", "cert"])
def test_a_secret_that_every_user_can_read_is_a_warning(
    tmp_path: Path, mode: int, warns: bool, option: str
) -> None:
    """A token in a file of a careless umask would stay readable to all; a group is meant to read it."""
    file = tmp_path / "secret"
    file.touch()
    file.chmod(mode)
    said = readable_by_others(Credentials(**{option: str(file)}))
    assert (said is not None) == warns
    if said:
        assert f"can read {file}" in said


def test_a_program_is_warned(tmp_path: Path) -> None:
    """Only users of the command would learn it."""
    file = tmp_path / "token"
    file.write_text("")
    file.chmod(0o644)
    with pytest.warns(UserWarning, match="can read") as caught, pytest.raises(SettingsError):
        emit({"a": 1}, url="http://localhost:1", token_file=file)
    assert caught[0].filename == __file__

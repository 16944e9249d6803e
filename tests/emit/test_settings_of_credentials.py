"""Which files apply, and that a credential reaches no daemon for which it was not meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneshotd.emit import settings as emit_settings
from oneshotd.emit.settings import Credentials, SettingsError, settings, target


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The usual file, in a place of the test's own."""
    path = tmp_path / "emit.toml"
    monkeypatch.setattr(emit_settings, "FILE", str(path))
    return path


ENVIRON = {
    "ONESHOTD_TOKEN_FILE": "env-token",
    "ONESHOTD_CA_FILE": "env-ca",
    "ONESHOTD_CERT": "env-cert",
    "ONESHOTD_KEY": "env-key",
}
GIVEN = {"token-file": "token", "ca-file": "ca", "cert": "c", "key": "k"}


def test_each_source_names_all_files(file: Path) -> None:
    """A container that is configured by its environment, or a machine by its file, could not use TLS."""
    file.write_text('token-file = "token"\nca-file = "/etc/ca.pem"\ncert = "../c.pem"\nkey = "k.pem"\n')
    folder = file.parent
    found = settings({}, url="https://h").credentials
    assert found == Credentials(f"{folder}/token", "/etc/ca.pem", f"{folder}/../c.pem", f"{folder}/k.pem")
    found = settings(ENVIRON, url="https://h").credentials
    assert found == Credentials("env-token", "env-ca", "env-cert", "env-key")
    assert settings(ENVIRON, url="https://h", files=GIVEN).credentials == Credentials("token", "ca", "c", "k")


def test_a_certificate_and_its_key_are_of_one_source() -> None:
    """A certificate of the command line would get the key of the machine's."""
    assert settings(ENVIRON, url="https://h", files={"cert": "both.pem"}).credentials[2:4] == ("both.pem", "")


def test_an_empty_name_takes_a_file_back() -> None:
    """A machine's token could not be left out."""
    found = settings(ENVIRON, url="https://h", files={"token-file": "", "cert": ""}).credentials
    assert found == Credentials("", "env-ca", "", "")


@pytest.mark.parametrize("other", ["https://other", "http://h", "https://h:1", "udp://h:443"])
def test_a_credential_is_not_told_to_another_daemon(file: Path, other: str) -> None:
    """`--http` with an address for a test would tell the machine's token to whoever listens there."""
    file.write_text('url = "https://h"\ntoken-file = "/token"\nca-file = "/ca"\ncert = "/c"\n')
    for found in (settings({}, url=other), settings({"ONESHOTD_URL": other})):
        assert found.credentials[:4] == ("", "", "", "")
        assert found.credentials.unused.startswith(f"{file}: ")
    environ = {"ONESHOTD_URL": "https://h", "ONESHOTD_TOKEN_FILE": "/env"}
    assert settings(environ, url=other).credentials[:4] == ("", "", "", "")
    for same in ("https://h", "https://h:443/path", "https://h/"):
        assert settings({}, url=same).credentials == Credentials("/token", "/ca", "/c")


def test_a_credential_for_several_daemons(file: Path) -> None:
    """`--http` with one of a machine's two daemons could not use its token; another one would get it."""
    file.write_text('url = ["https://a", "https://b"]\ntoken-file = "/token"\nca-file = "/ca"\n')
    assert settings({}).credentials == Credentials("/token", "/ca")
    for own in ("https://b", ["https://b", "https://a"]):
        assert settings({}, url=own).credentials == Credentials("/token", "/ca")
    for other in ("https://c", ["https://a", "https://c"], ["https://a", "http://b"]):
        assert settings({}, url=other).credentials[:4] == ("", "", "", "")


@pytest.mark.parametrize(
    ("urls", "files", "why"),
    [
        (["https://a", "http://b"], {"ca-file": "c"}, "ca-file: http://b:80 is not encrypted"),
        (["https://a", "https://x:y@b"], {"token-file": "t"}, "token-file: the url has a user"),
    ],
)
def test_files_must_go_with_all_addresses(urls: list[str], files: dict[str, str], why: str) -> None:
    """One daemon would look locked, and the other would not be."""
    with pytest.raises(SettingsError, match="^" + why):
        settings({}, url=urls, files=files)


def test_a_credential_without_a_url_is_for_every_daemon(file: Path) -> None:
    """A token in the file and an address in the environment would not go together."""
    file.write_text('token-file = "/token"\n')
    assert settings({"ONESHOTD_URL": "https://h"}).credentials.token_file == "/token"
    file.write_text('url = "https://h"\n')
    assert settings({"ONESHOTD_TOKEN_FILE": "/env"}).credentials.token_file == "/env"


@pytest.mark.parametrize(
    ("url", "files", "why"),
    [
        ("udp://h:1", {"token-file": "t"}, "token-file: udp://h:1 takes no token, UDP knows the sender's"),
        ("udp://h:1", {"cert": "c"}, "cert: udp://h:1 is not encrypted; expected https://"),
        ("http://h:1", {"ca-file": "c"}, "ca-file: http://h:1 is not encrypted; expected https://"),
        (
            "http://kim:s3cret@h:1",
            {"token-file": "t"},
            "token-file: the url has a user and a password already",
        ),
        ("https://h", {"key": "k"}, "key: expected cert as well"),
        ("https://h", {"ca-file": "-----BEGIN X-----\ns3cret"}, "ca-file: expected the name of a file"),
        ("https://h", {"token-file": "s3cret\0"}, "token-file: expected the name of a file"),
    ],
)
def test_files_that_do_not_go_with_the_url_are_refused(url: str, files: dict[str, str], why: str) -> None:
    """A token that is never sent, or a certificate that is never checked, would look like a lock."""
    with pytest.raises(SettingsError) as caught:
        settings({}, url=url, files=files)
    assert str(caught.value).startswith(why)
    assert "s3cret" not in str(caught.value)


def test_the_source_of_a_wrong_file_is_named(file: Path) -> None:
    """The error would be looked for on the command line."""
    with pytest.raises(SettingsError, match=r"^\$ONESHOTD_TOKEN_FILE: udp://h:1 takes no token"):
        settings({"ONESHOTD_URL": "udp://h:1", "ONESHOTD_TOKEN_FILE": "/t"})
    file.write_text('url = "udp://h:1"\ntoken-file = "/t"\n')
    with pytest.raises(SettingsError) as caught:
        settings({})
    assert str(caught.value).startswith(f"{file}: token-file: udp://h:1 takes no token")


@pytest.mark.parametrize("url", ["udp://h:1", "http://h:1", "http://kim:s3cret@h:1"])
def test_a_machines_files_do_not_stand_in_the_way_of_another_url(file: Path, url: str) -> None:
    """With a token for the machine, `--udp` or a plain address for a test would fail."""
    file.write_text('ca-file = "/ca"\ncert = "/c"\ntoken-file = "/t"\n')
    token = "/t" if url == "http://h:1" else ""
    assert settings({}, url=url).credentials[:4] == (token, "", "", "")


def test_a_password_of_the_url_is_not_in_the_settings_text() -> None:
    """A log line or a traceback with the settings would have it."""
    chosen = settings({}, url="http://kim:s3cret@h:1")
    assert chosen.target.login == "kim:s3cret"
    assert "s3cret" not in f"{chosen!r} {chosen} {chosen.target!r} {target('http://kim:s3cret@h:1')!r}"

"""The file of --receivers: what it says, and the error for everything else, which shows no secret."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from oneshotd.delivery.remote_write.destination import Destination
from oneshotd.delivery.remote_write.receivers_file import MAX_FILE_BYTES, read_receivers_file
from oneshotd.delivery.remote_write.settings import ReceiverSettings
from oneshotd.errors import ConfigError

SECRET = "s3cret-of-a-receiver"
PLAIN = '[[receiver]]\nname = "a"\nurl = "http://localhost:9090/api/v1/write"\ninstance = "edge-1:8090"\n'
HTTPS = PLAIN.replace("http:", "https:")


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "receivers.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def secret(folder: Path, name: str, text: str = SECRET, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_least_receiver(tmp_path: Path) -> None:
    """Defaults are those of the documentation."""
    path = written(tmp_path, PLAIN)
    (receiver,), files = read_receivers_file(path)
    assert receiver.settings == ReceiverSettings(
        name="a", job="oneshotd", instance="edge-1:8090", visible=15.0
    )
    assert receiver.destination == Destination(url="http://localhost:9090/api/v1/write")
    assert list(files) == [path]


def test_all_keys(tmp_path: Path) -> None:
    password = secret(tmp_path, "password", f"{SECRET}\n")
    key = secret(tmp_path, "api-key")
    path = written(
        tmp_path,
        PLAIN + 'job = "ci"\nvisible = "0s"\nmax-labels = 30\nmax-label-value = 2048\nreplay = "20s"\n'
        'timeout = "5s"\nheaders = { X-Scope-OrgID = "tenant 1" }\nheader-files = { X-Api-Key = "api-key" }\n'
        'user = "1234"\npassword-file = "password"\n',
    )
    (receiver,), files = read_receivers_file(path)
    assert receiver.settings == ReceiverSettings(
        name="a",
        job="ci",
        instance="edge-1:8090",
        visible=0.0,
        max_labels=30,
        max_label_value=2048,
        replay=20.0,
        timeout=5.0,
    )
    assert receiver.destination.headers == {"X-Scope-OrgID": "tenant 1", "X-Api-Key": SECRET}
    assert receiver.destination.authorization == f"Basic {b64encode(f'1234:{SECRET}'.encode()).decode()}"
    assert set(files) == {path, password, key}
    assert SECRET not in repr(receiver)
    assert str(receiver.destination.authorization) not in repr(receiver)


def test_a_token(tmp_path: Path) -> None:
    secret(tmp_path, "token")
    (receiver,), _ = read_receivers_file(written(tmp_path, PLAIN + 'token-file = "token"'))
    assert receiver.destination.authorization == f"Bearer {SECRET}"


def test_a_file_without_receivers_is_fine(tmp_path: Path) -> None:
    assert read_receivers_file(written(tmp_path, ""))[0] == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("receivers = 1", "there is no key 'receivers'; the nearest is 'receiver'"),
        ("receiver = 1", "receiver: expected tables"),
        ("receiver = [1]", "receiver: expected tables"),
        ("[[receiver]]", "receiver 1: name: expected a text, got none"),
        ('[[receiver]]\nname = "a b"', "receiver 1: name: expected 1 to 64 characters of A-Z"),
        ("[[receiver]]\nname = 1", "receiver 1: name: expected a text, got 1"),
        ('[[receiver]]\nname = "a"', "receiver 1: instance: expected a text, got none"),
        ('[[receiver]]\nname = "a"\ninstance = "i"', "receiver 1: url: expected a text, got none"),
        (PLAIN + 'instances = "x"', "there is no key 'instances'; the nearest is 'instance'"),
        (PLAIN + 'token_file = "x"', "there is no key 'token_file'; the nearest is 'token-file'"),
        (PLAIN.replace("http:", "ftp:"), "url: expected http://HOST:PORT/PATH or https://HOST/PATH, got"),
        (PLAIN.replace("9090", "99999"), "url: expected http://HOST:PORT/PATH"),
        (PLAIN.replace(":9090", ":0"), "url: expected http://HOST:PORT/PATH"),
        (PLAIN.replace("localhost", ""), "url: expected http://HOST:PORT/PATH"),
        (PLAIN.replace("write", "wr ite"), "url: expected http://HOST:PORT/PATH"),
        (
            PLAIN.replace("/api/v1/write", ""),
            "url: expected the path of remote write, too, such as http://localhost:9090/api/v1/write",
        ),
        (PLAIN.replace("write", "write#a"), "url: expected one without a fragment"),
        (PLAIN.replace("//", "//me:SECRET@"), "url: expected one without a user; use user and password-file"),
        (PLAIN.replace("write", "w" * 2000), "url: expected at most 2000 bytes"),
        (PLAIN + 'job = ""', "job: expected a text, got ''"),
        (PLAIN + 'job = "a\\nb"', "job: expected a text"),
        (PLAIN + f'job = "{"x" * 257}"', "job: expected at most 256 bytes"),
        (PLAIN + "visible = 15", "visible: expected 0s, or a time such as 15s, at most 5m, got 15"),
        (PLAIN + 'visible = "6m"', "visible: expected 0s, or a time such as 15s, at most 5m"),
        (PLAIN + 'visible = "soon"', "visible: expected 0s"),
        (PLAIN + 'replay = "2h"', "replay: expected 0s, or a time such as 20s, at most 1h"),
        (PLAIN + 'timeout = "0s"', "timeout: expected a time such as 30s, from 1s to 5m"),
        (PLAIN + "max-labels = 0", "max-labels: expected a whole number from 1, got 0"),
        (PLAIN + "max-labels = true", "max-labels: expected a whole number from 1"),
        (PLAIN + 'max-label-value = "2K"', "max-label-value: expected a whole number from 1, got '2K'"),
        (PLAIN + 'headers = "x"', "headers: expected a table such as"),
        (PLAIN + 'headers = { "a b" = "x" }', "headers: expected the name of a header, got 'a b'"),
        (PLAIN + "headers = { a = 1 }", "headers: a: expected a text, got 1"),
        (PLAIN + 'headers = { a = "SECRET\\r\\nx: y" }', "headers: a: expected a line of ASCII"),
        (PLAIN + 'headers = { a = "é" }', "headers: a: expected a line of ASCII"),
        (PLAIN + 'headers = { Host = "x" }', "headers: Host is set by the daemon"),
        (PLAIN + 'headers = { content-encoding = "x" }', "headers: content-encoding is set by the daemon"),
        (
            PLAIN + 'headers = { Authorization = "SECRET" }',
            "headers: Authorization: use user and password-file",
        ),
        (PLAIN + 'header-files = { a = "none" }', "header-files: .*/none: No such file"),
        (
            PLAIN + 'header-files = { a = "token" }\nheaders = { A = "1" }',
            "header-files: a is in headers, too",
        ),
        (PLAIN + 'user = "a"', "password-file: expected the name of a file, got none"),
        (PLAIN + 'password-file = "token"', "user: expected a text, got none"),
        (PLAIN + 'user = "a:b"\npassword-file = "token"', "user: expected a name without a colon"),
        (PLAIN + 'user = "a"\ntoken-file = "token"', "token-file: expected either token-file, or user and"),
        (PLAIN + 'token-file = "none"', "token-file: .*/none: No such file"),
        (
            PLAIN + 'token-file = "open"',
            "token-file: .*/open: expected a file that others may not read, got mode 0644",
        ),
        (PLAIN + 'token-file = "two-lines"', "token-file: .*/two-lines: expected a secret in one line"),
        (PLAIN + 'token-file = "empty"', "token-file: .*/empty: expected a secret in one line"),
        (PLAIN + 'token-file = "words"', "token-file: .*/words: expected a token alone"),
        (PLAIN + 'token-file = "."', "token-file: "),
        (PLAIN + 'ca-file = "ca.pem"', "ca-file: expected an https:// URL with it"),
        (HTTPS + 'key = "k.pem"', "key: expected cert as well"),
        (HTTPS + 'ca-file = "none"', "ca-file: .*/none: No such file"),
        (HTTPS + 'ca-file = "token"', "ca-file: .*/token: expected a certificate in PEM form"),
        (HTTPS + 'cert = "token"', "cert: .*/token: expected a certificate in PEM form"),
        (PLAIN * 2, "receiver 2: name: receiver 1 has this name"),
        (PLAIN + PLAIN.replace('"a"', '"b"'), "receiver 2: url, job and instance are those of receiver 1"),
        ("[[receiver]", "at line 1"),
        (b"\xff", "expected UTF-8"),
        ("#" * (MAX_FILE_BYTES + 1), "expected at most 256 KiB"),
        ("[[receiver]]\n" * 51, "there are 51 receivers, more than 50"),
    ],
)
def test_errors_name_the_receiver_and_the_key(tmp_path: Path, text: str | bytes, why: str) -> None:
    if isinstance(text, str):
        text = text.replace("SECRET", SECRET)
    secret(tmp_path, "token")
    secret(tmp_path, "open", mode=0o644)
    secret(tmp_path, "two-lines", f"{SECRET}\n{SECRET}")
    secret(tmp_path, "empty", "\n")
    secret(tmp_path, "words", f"{SECRET} {SECRET}")
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=why) as error:
        read_receivers_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


def test_another_secret_is_another_destination(tmp_path: Path) -> None:
    """A rotated token would be used only after a restart."""
    path = written(tmp_path, PLAIN + 'token-file = "token"')
    secret(tmp_path, "token")
    (before,), _ = read_receivers_file(path)
    secret(tmp_path, "token", "another")
    (after,), _ = read_receivers_file(path)
    assert before != after
    assert before.settings == after.settings


def test_one_store_by_two_tenants(tmp_path: Path) -> None:
    """Two receivers may differ by a header alone."""
    text = PLAIN + 'headers = { X-Scope-OrgID = "a" }\n' + PLAIN.replace('"a"', '"b"')
    assert len(read_receivers_file(written(tmp_path, text))[0]) == 2

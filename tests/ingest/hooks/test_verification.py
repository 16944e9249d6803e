"""Only a sender that knows the secret is let in, and its file is not readable for everybody."""

from __future__ import annotations

import hmac
from base64 import b64encode
from pathlib import Path

import pytest

from oneshotd.errors import ConfigError, Refused
from oneshotd.ingest.dialects.translation import Message
from oneshotd.ingest.hooks.verification import DEFAULTS, Verification, Verifier

SECRET, NEXT = b"a secret of 23 bytes !!", b"another one, for the rotation"


def secret_file(
    folder: Path, name: str = "secret", content: bytes = SECRET + b"\n", mode: int = 0o640
) -> str:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return name


def verifier(folder: Path, preset: str | None = None, **table: object) -> Verifier:
    given = {"secret_files": secret_file(folder), **table}
    return Verification.parse(given, preset).read(folder)


def signed(secret: bytes, raw: bytes, header: str, prefix: str = "") -> Message:
    signature = hmac.new(secret, raw, "sha256").hexdigest()
    return Message(body=raw, raw=raw, headers={header: prefix + signature})


def test_the_signature_of_each_preset(tmp_path: Path) -> None:
    """The sender's messages would all be refused with 401."""
    verifier(tmp_path, "github")(signed(SECRET, b"{}", "x-hub-signature-256", "sha256="))
    verifier(tmp_path, "flux")(signed(SECRET, b"{}", "x-signature", "sha256="))
    verifier(tmp_path, "gitlab")(Message(headers={"x-gitlab-token": SECRET.decode()}))
    assert set(DEFAULTS) == {"github", "gitlab", "flux"}


def test_the_example_of_github_s_documentation(tmp_path: Path) -> None:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    secret_file(tmp_path, content=b"It's a Secret to Everybody")
    check = Verification.parse({"secret_files": ["secret"]}, "github").read(tmp_path)
    raw = b"Hello, World!"
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(Message(body=raw, raw=raw, headers={"x-hub-signature-256": signature}))


def test_the_signature_is_over_the_bytes_as_sent(tmp_path: Path) -> None:
    """A sender that compresses would be refused, or another body taken for the signed one."""
    check = verifier(tmp_path, "github")
    message = signed(SECRET, b"gzip", "x-hub-signature-256", "sha256=")
    check(Message(body=b"{}", raw=message.raw, headers=message.headers))
    with pytest.raises(Refused):
        check(Message(body=message.raw, raw=b"{}", headers=message.headers))


def test_base64_and_upper_case(tmp_path: Path) -> None:
    digest = hmac.digest(SECRET, b"{}", "sha256")
    by = {"by": "hmac-sha256", "header": "X-Sig"}
    verifier(tmp_path, **by, encoding="base64")(
        Message(raw=b"{}", headers={"x-sig": b64encode(digest).decode()})
    )
    verifier(tmp_path, **by)(Message(raw=b"{}", headers={"x-sig": digest.hex().upper()}))


def test_several_secrets_for_a_rotation(tmp_path: Path) -> None:
    """Between the change here and the change at the sender, messages would be lost."""
    secret_file(tmp_path, "next", NEXT)
    check = verifier(tmp_path, "github", secret_files=["secret", "next"])
    for secret in (SECRET, NEXT):
        check(signed(secret, b"{}", "x-hub-signature-256", "sha256="))


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "expected a signature in the header x-hub-signature-256, got no such header"),
        ({"x-hub-signature-256": "00"}, "expected 'sha256=' in front of the signature"),
        ({"x-hub-signature-256": "sha1=" + "0" * 40}, "expected 'sha256=' in front of the signature"),
        ({"x-hub-signature-256": "sha256="}, "expected a SHA-256 signature in hex"),
        ({"x-hub-signature-256": "sha256=" + "0" * 63}, "expected a SHA-256 signature in hex"),
        ({"x-hub-signature-256": "sha256=" + "\xe4" * 64}, "expected a SHA-256 signature in hex"),
        (
            {"x-hub-signature-256": "sha256=" + "0" * 64 + ", sha256=" + "0" * 64},
            "expected a SHA-256 signature",
        ),
        ({"x-hub-signature-256": "sha256=" + "0" * 64}, "the signature is not that of the secret"),
    ],
)
def test_an_unsigned_message_is_refused_with_401(tmp_path: Path, headers: dict[str, str], why: str) -> None:
    """Anybody could send events in the name of the sender."""
    with pytest.raises(Refused) as refused:
        verifier(tmp_path, "github")(Message(raw=b"{}", headers=headers))
    assert why in refused.value.text
    assert (refused.value.status, refused.value.reason) == (401, "unauthorized")
    assert SECRET.decode() not in refused.value.text


@pytest.mark.parametrize("token", ["", "x", SECRET.decode()[:-1], SECRET.decode() + "x", "\xe4" * 23])
def test_another_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(Refused, match="the token is not that of the secret"):
        verifier(tmp_path, "gitlab")(Message(headers={"x-gitlab-token": token}))


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("x", "expected a table, [verify], got 'x'"),
        ({}, 'by: expected "hmac-sha256" or "token", got none'),
        ({"by": "hmac-sha1"}, 'by: expected "hmac-sha256" or "token", got \'hmac-sha1\''),
        ({"by": "token"}, "header: expected the name of a header, got none"),
        ({"by": "token", "header": "a b"}, "header: expected the name of a header, got 'a b'"),
        ({"by": "token", "header": "X"}, "secret_files: expected 1 to 10 names of files, got none"),
        ({"by": "token", "header": "X", "secret_files": []}, "secret_files: expected 1 to 10 names"),
        (
            {"by": "token", "header": "X", "secret_files": [1]},
            "secret_files: expected the name of a file, got 1",
        ),
        ({"by": "token", "header": "X", "prefix": 1}, "prefix: expected a text in ASCII, got 1"),
        ({"by": "token", "header": "X", "encoding": "hex", "secret_files": "a"}, "encoding: belongs to hmac"),
        ({"by": "hmac-sha256", "header": "X", "encoding": "hax"}, "encoding: expected one of hex, base64"),
        ({"secret": "x"}, "there is no key 'secret'; the nearest is 'secret_files'"),
    ],
)
def test_mistakes_of_the_table(table: object, why: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        Verification.parse(table)
    assert str(error.value).startswith(why)


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (SECRET, 0o644, "expected a file that others may not read, got mode 0644 (chmod 640)"),
        (SECRET, 0o642, "expected a file that others may not read"),
        (b"short", 0o600, "expected a secret of 16 to 4096 bytes, got 5"),
        (b"\n", 0o600, "expected a secret of 16 to 4096 bytes, got 0"),
        (b"x" * 5000, 0o600, "expected a secret of 16 to 4096 bytes, got 5000"),
    ],
)
def test_files_that_are_no_secret(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    secret_file(tmp_path, content=content, mode=mode)
    with pytest.raises(ConfigError) as error:
        Verification.parse({"secret_files": "secret"}, "github").read(tmp_path)
    assert why in str(error.value)
    assert content.decode().strip() not in str(error.value) or content == b"\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: No such file or directory"):
        Verification.parse({"secret_files": "nowhere"}, "github").read(tmp_path)


def test_a_verifier_does_not_show_its_secrets(tmp_path: Path) -> None:
    """A traceback in the log would have them."""
    assert SECRET.decode() not in repr(verifier(tmp_path, "github"))

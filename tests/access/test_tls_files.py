"""Certificates and keys that cannot be used: the error names the file and the key of the configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from support.certificates import Authority, Pair
from support.tls_in_memory import client_context, connect, tls_settings

from oneshotd.access.tls import ServerTLS, make_context
from oneshotd.errors import ConfigError


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Authority(tmp_path).issue("server")


def key_of(pair: Pair) -> Any:
    return load_pem_private_key(pair.key.read_bytes(), None)


def write_key(pair: Pair, key: Any) -> None:
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def encrypt(pair: Pair, form: PrivateFormat) -> None:
    pair.key.write_bytes(key_of(pair).private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"pass")))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swap(pair: Pair) -> None:
    cert = pair.cert.read_bytes()
    pair.cert.write_bytes(pair.key.read_bytes())
    pair.key.write_bytes(cert)


def put_authority_first(pair: Pair) -> None:
    authority = pair.cert.with_name("ca.pem")
    pair.cert.write_bytes(authority.read_bytes() + pair.cert.read_bytes())


def drop_a_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]))


def take_another_key(pair: Pair) -> None:
    other = Authority(pair.cert.parent / "other").issue("other")
    pair.key.write_bytes(other.key.read_bytes())


Fault = Callable[[Pair], object]

BAD_CERTIFICATES: dict[str, tuple[Fault, str]] = {
    "missing": (lambda pair: pair.cert.unlink(), "No such file or directory"),
    "a folder": (lambda pair: as_folder(pair.cert), "expected a file, got a folder"),
    "empty": (lambda pair: pair.cert.write_bytes(b""), "expected a certificate in PEM form, got none"),
    "huge": (lambda pair: pair.cert.write_bytes(b"-" * 2**21), "expected at most 1024 KiB, got more"),
    "beginnings only": (
        lambda pair: pair.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\n" * 30_000),
        "expected a certificate in PEM form, got none",
    ),
    "damaged": (lambda pair: drop_a_line(pair.cert), "certificate 1 cannot be read"),
    "swapped": (swap, "expected a certificate in PEM form, got a private key"),
    "wrong order": (
        put_authority_first,
        "the certificate of the key has to be the first one, and is number 2",
    ),
}

ENCRYPTED = "the key is encrypted; expected one without a passphrase"
FOREIGN = "the key does not belong to the certificate, web.yml:2: tls_server_config.cert_file: {cert}"

BAD_KEYS: dict[str, tuple[Fault, str]] = {
    "missing": (lambda pair: pair.key.unlink(), "No such file or directory"),
    "a FIFO": (lambda pair: as_fifo(pair.key), "expected a file, got not a regular file"),
    "empty": (lambda pair: pair.key.write_bytes(b""), "expected a private key in PEM form, got none"),
    "a certificate": (
        lambda pair: pair.key.write_bytes(pair.cert.read_bytes()),
        "expected a private key in PEM form, got a certificate",
    ),
    "damaged": (lambda pair: drop_a_line(pair.key), "the private key cannot be read"),
    "encrypted": (lambda pair: encrypt(pair, PrivateFormat.PKCS8), ENCRYPTED),
    "encrypted in OpenSSL's form": (lambda pair: encrypt(pair, PrivateFormat.TraditionalOpenSSL), ENCRYPTED),
    "of DSA": (
        lambda pair: write_key(pair, dsa.generate_private_key(1024)),
        "expected a key of the kind RSA, ECDSA or Ed25519, got another",
    ),
    "of another certificate": (take_another_key, FOREIGN),
    "of another kind": (lambda pair: write_key(pair, rsa.generate_private_key(65537, 2048)), FOREIGN),
}


@pytest.mark.parametrize(
    ("where", "fault", "error"),
    [
        *(("web.yml:2: tls_server_config.cert_file: {cert}", *row) for row in BAD_CERTIFICATES.values()),
        *(("web.yml:3: tls_server_config.key_file: {key}", *row) for row in BAD_KEYS.values()),
    ],
    ids=[*(f"certificate {name}" for name in BAD_CERTIFICATES), *(f"key {name}" for name in BAD_KEYS)],
)
def test_a_bad_file_is_named(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch, where: str, fault: Fault, error: str
) -> None:
    """After a renewal that went wrong, an operator would look in the wrong file."""
    monkeypatch.chdir(tmp_path)
    fault(pair)
    settings = tls_settings(Path(), cert_file=str(pair.cert), key_file=str(pair.key))
    with pytest.raises(ConfigError) as raised:
        make_context(settings)
    assert str(raised.value) == f"{where}: {error}".format(cert=pair.cert, key=pair.key)


def test_a_file_without_permission_is_named() -> None:
    """A key that the daemon's user may not read is the most frequent fault of all."""
    with TemporaryDirectory() as name:  # pytest's own folders are for its user alone
        folder = Path(name)
        folder.chmod(0o755)
        pair = Authority(folder).issue("server")
        settings = tls_settings(folder, cert_file=str(pair.cert), key_file=str(pair.key))
        make_context(settings)
        pair.key.chmod(0)
        with (
            as_nobody(),
            pytest.raises(ConfigError, match=r"key_file: .*server\.key: Permission denied"),
        ):
            make_context(settings)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


def test_a_hardened_unit_that_forbids_callbacks_is_named(pair: Pair) -> None:
    """The daemon would end with a traceback of MemoryError on a machine with plenty of memory."""
    child = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "from support.tls_in_memory import tls_settings\n"
        "from oneshotd.access.tls import make_context\n"
        "from oneshotd.errors import ConfigError\n"
        "settings = tls_settings(Path(sys.argv[1]), cert_file=sys.argv[2], key_file=sys.argv[3])\n"
        "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE (Linux 6.3), as systemd does\n"
        "try:\n"
        "    make_context(settings)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", child, str(pair.cert.parent), str(pair.cert), str(pair.key)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "MemoryDenyWriteExecute= of the systemd unit forbids" in ran.stdout, ran.stderr


def test_a_certificate_that_openssl_finds_weak_is_named(tmp_path: Path) -> None:
    """An operator would see the handshakes fail, without a word of the cause at the start."""
    pair = Authority(tmp_path).issue("weak", use_rsa=True, bits=1024)
    settings = tls_settings(tmp_path, cert_file=str(pair.cert), key_file=str(pair.key))
    with pytest.raises(ConfigError, match="OpenSSL refuses it: ee key too small"):
        make_context(settings)


@pytest.mark.parametrize("name", ["client_ca_file", "client_ca"])
def test_a_bad_authority_is_named(tmp_path: Path, pair: Pair, name: str) -> None:
    """With an empty file of authorities, no client would be let in, and nothing would say why."""
    (tmp_path / "empty.pem").write_text("# nothing\n")
    settings = tls_settings(
        tmp_path,
        cert_file=str(pair.cert),
        key_file=str(pair.key),
        client_auth_type="RequireAndVerifyClientCert",
        **{name: "empty.pem"},
    )
    with pytest.raises(ConfigError, match=rf"web\.yml:5: tls_server_config\.{name}: .*in PEM form, got none"):
        make_context(settings)


def test_a_key_inline_is_in_no_error(tmp_path: Path, pair: Pair) -> None:
    """The private key would be in the log."""
    other = Authority(tmp_path / "other").issue("other")
    for key in (other.key.read_text(), other.key.read_text()[:100], other.key.read_text()[30:]):
        settings = tls_settings(tmp_path, cert_file=str(pair.cert), key=key)
        with pytest.raises(ConfigError) as raised:
            make_context(settings)
        assert "tls_server_config.key: " in str(raised.value)
        assert not any(line in str(raised.value) for line in other.key.read_text().split("\n")[1:3])
        assert not any(line in repr(settings) for line in other.key.read_text().split("\n")[1:3])


def test_one_file_may_hold_all(tmp_path: Path, pair: Pair) -> None:
    """A file with the key, comments and the chain, as other servers take it, would be refused."""
    whole = tmp_path / "whole.pem"
    text = f"Bag Attributes: x\n{pair.key.read_text()}subject=CN\n{pair.cert.read_text()}"
    whole.write_text(text.replace("\n", "\r\n"))
    settings = tls_settings(tmp_path, cert_file="whole.pem", key_file="whole.pem")
    tls = ServerTLS(make_context(settings), settings)
    assert connect(tls, client_context(tmp_path / "ca.pem")).error is None


@pytest.mark.parametrize(("use_rsa", "kind"), [(True, "RSA"), (False, "ECDSA")])
def test_suites_that_do_not_fit_the_key_are_an_error(tmp_path: Path, use_rsa: bool, kind: str) -> None:
    """Each handshake would fail, with a configuration that looks right."""
    pair = Authority(tmp_path).issue("server", use_rsa=use_rsa)
    suite = "TLS_ECDHE_{}_WITH_AES_128_GCM_SHA256"
    other = suite.format("ECDSA" if use_rsa else "RSA")
    settings = tls_settings(
        tmp_path, cert_file=str(pair.cert), key_file=str(pair.key), max_version="TLS12", cipher_suites=[other]
    )
    with pytest.raises(ConfigError, match=f"cipher_suites: expected one for the {kind} key, got none"):
        make_context(settings)
    settings = tls_settings(
        tmp_path,
        cert_file=str(pair.cert),
        key_file=str(pair.key),
        max_version="TLS12",
        cipher_suites=[other, suite.format(kind)],
    )
    assert (
        connect(ServerTLS(make_context(settings), settings), client_context(tmp_path / "ca.pem")).error
        is None
    )

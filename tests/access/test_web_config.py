"""Web configuration files, good and bad, and what becomes of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.web_configs import read_text

from oneshotd.access.tls_names import TLS12_CIPHERS, ClientAuth, TLSVersion
from oneshotd.access.tls_settings import PEM, TLSSettings
from oneshotd.access.web_config import RateLimit, WebConfig, read_web_config

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
VERIFY = TLS + "  client_auth_type: RequireAndVerifyClientCert\n"


def tls(folder: Path, text: str) -> TLSSettings:
    settings = read_text(folder, text).tls
    assert settings is not None
    return settings


def test_the_example_of_exporter_toolkit_is_read(tmp_path: Path) -> None:
    """The one file that everybody of this field has would have to be rewritten."""
    text = (
        TLS
        + f"basic_auth_users:\n  alice: {HASH}\n  bob: '{HASH.replace('$2y', '$2b')}'\n"
        + 'rate_limit:\n  interval: "1s"\n  burst: 20\n'
        + "http_server_config:\n  http2: true\n"
        + "  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n"
    )
    config = read_text(tmp_path, text)
    assert config.tls is not None
    assert config.tls.cert.path == tmp_path / "server.crt"
    assert config.tls.key.path == tmp_path / "server.key"
    assert config.users == {"alice": HASH.encode(), "bob": HASH.replace("$2y", "$2b").encode()}
    assert config.rate_limit == RateLimit(interval=1.0, burst=20)
    assert config.headers == {"X-Frame-Options": "deny", "X-XSS-Protection": "1"}
    assert config.notes == (
        f"{tmp_path}/web.yml:11: http_server_config.http2: without effect, the daemon speaks HTTP/1.1",
    )
    assert config.files == (tmp_path / "web.yml", tmp_path / "server.crt", tmp_path / "server.key")


EMPTY = [
    "",
    "# nothing\n",
    "---\n",
    "~\n",
    "{}\n",
    "tls_server_config:\n",
    "tls_server_config: {}\n",
    "rate_limit:\n",
]


@pytest.mark.parametrize("text", EMPTY)
def test_a_file_that_sets_nothing_has_no_effect(tmp_path: Path, text: str) -> None:
    """A file that a template left empty would stop the daemon, where exporter-toolkit starts."""
    assert read_text(tmp_path, text) == WebConfig(path=tmp_path / "web.yml")


def test_the_defaults_of_tls_are_those_of_exporter_toolkit(tmp_path: Path) -> None:
    """The same file would mean another security here."""
    settings = tls(tmp_path, TLS)
    assert settings == TLSSettings(
        where="",
        cert=PEM(where="", path=tmp_path / "server.crt"),
        key=PEM(where="", path=tmp_path / "server.key"),
        client_auth=ClientAuth.NONE,
        min_version=TLSVersion.TLS12,
        max_version=TLSVersion.TLS13,
        ciphers=tuple(TLS12_CIPHERS.values()),
        prefer_server_ciphers=True,
    )
    # An empty value is one that is not set.
    names = "client_auth_type client_ca client_ca_file client_allowed_sans cert min_version max_version"
    more = "cipher_suites curve_preferences prefer_server_cipher_suites"
    assert (
        tls(tmp_path, TLS + "".join(f"  {name}:\n" for name in [*names.split(), *more.split()])) == settings
    )


def test_relative_paths_start_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files would be looked for in the daemon's working directory."""
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc/web.yml").write_text(
        VERIFY.replace("server.crt", "tls/server.crt").replace("server.key", "/run/key")
        + "  client_ca_file: ../ca\n"
    )
    config = read_web_config(Path("etc/web.yml"))
    assert [str(path) for path in config.files] == [
        "etc/web.yml",
        "etc/tls/server.crt",
        "/run/key",
        "etc/../ca",
    ]


def test_cert_and_key_may_be_inline_alone(tmp_path: Path) -> None:
    """A certificate in a file with its key inline, as a test of exporter-toolkit has it, would be refused."""
    text = "tls_server_config:\n  cert_file: server.crt\n  key: |\n    -----BEGIN\n    secret\n"
    settings = tls(tmp_path, text)
    assert settings.files == (tmp_path / "server.crt",)
    assert settings.key.read() == b"-----BEGIN\nsecret\n"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("''", ClientAuth.NONE),
        ("NoClientCert", ClientAuth.NONE),
        ("RequestClientCert", ClientAuth.REQUEST),
        ("RequireAnyClientCert", ClientAuth.REQUIRE_ANY),
        ("RequireClientCert", ClientAuth.REQUIRE_ANY),
        ("VerifyClientCertIfGiven", ClientAuth.VERIFY_IF_GIVEN),
        ("RequireAndVerifyClientCert", ClientAuth.REQUIRE_AND_VERIFY),
    ],
)
def test_the_policies_of_client_certificates(tmp_path: Path, name: str, policy: ClientAuth) -> None:
    """One of Go's names, or the old spelling, would be unknown."""
    ca = "  client_ca_file: ca.pem\n" if policy.verifies else ""
    assert tls(tmp_path, f"{TLS}  client_auth_type: {name}\n{ca}").client_auth is policy


def test_all_cipher_suites_of_go_are_known(tmp_path: Path) -> None:
    """A list that exporter-toolkit takes would be refused, or a suite of it would be missing."""
    names = [
        *TLS12_CIPHERS,
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]
    listed = "  cipher_suites:\n" + "".join(f"  - {name}\n" for name in names)
    config = read_text(tmp_path, TLS + listed)
    assert config.tls is not None
    assert config.tls.ciphers == tuple(TLS12_CIPHERS.values())
    where = f"{tmp_path}/web.yml:4: tls_server_config.cipher_suites: "
    assert config.notes == (where + "those of TLS 1.3 are always all allowed, as in Go",)
    config = read_text(tmp_path, TLS + "  min_version: TLS13\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n")
    where = where.replace(":4:", ":5:")
    assert config.notes == (
        where + "those of TLS 1.3 are always all allowed, as in Go",
        where + "without effect, because min_version is TLS13",
    )


GOOD_INTERVALS = {
    "1s": 1.0,
    "'1s'": 1.0,
    "100ms": 0.1,
    "1m30s": 90.0,
    "1h1m1.5s": 3661.5,
    ".5s": 0.5,
    "1.s": 1.0,
    "250us": 0.00025,
    "250µs": 0.00025,
    "10ns": 1e-8,
}


@pytest.mark.parametrize(("text", "seconds"), GOOD_INTERVALS.items())
def test_the_interval_is_a_duration_of_go(tmp_path: Path, text: str, seconds: float) -> None:
    """A limit would be a thousand times as strict, or a file would be refused."""
    limit = read_text(tmp_path, f"rate_limit:\n  interval: {text}\n  burst: 1\n").rate_limit
    assert limit is not None
    assert limit.interval == pytest.approx(seconds)


@pytest.mark.parametrize("interval", ["0", "'0'", "0s", "~", "0h0m"])
def test_an_interval_of_zero_is_no_limit(tmp_path: Path, interval: str) -> None:
    """Every request would be refused, where exporter-toolkit refuses none."""
    assert read_text(tmp_path, f"rate_limit:\n  interval: {interval}\n  burst: 0\n").rate_limit is None


def test_headers_of_any_value_are_kept_and_blank_ones_unset(tmp_path: Path) -> None:
    """A header would be sent empty, or a policy would be cut."""
    csp = "default-src 'self' *.test.example.net"
    text = (
        f'{TLS}http_server_config:\n  headers:\n    Content-Security-Policy: "{csp}"\n'
        '    X-Frame-Options: ""\n    X-XSS-Protection:\n    X-Content-Type-Options: nosniff\n'
        "    Strict-Transport-Security: max-age=31536000; includeSubDomains\n"
    )
    config = read_text(tmp_path, text)
    assert config.headers == {
        "Content-Security-Policy": csp,
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    }
    assert config.notes == ()


@pytest.mark.parametrize("form", ["$2a$", "$2b$", "$2y$"])
@pytest.mark.parametrize("cost", ["04", "10", "18"])
def test_hashes_of_three_forms_are_taken(tmp_path: Path, form: str, cost: str) -> None:
    """Who made a hash with another tool than htpasswd could not use it."""
    text = HASH.replace("$2y$10$", f"{form}{cost}$")
    assert read_text(tmp_path, f"basic_auth_users:\n  alice: {text}\n").users == {"alice": text.encode()}


NOTED = [
    ("basic_auth_users:\n", "1: basic_auth_users: no users, so no password is asked for"),
    ("basic_auth_users: {}\n", "1: basic_auth_users: no users, so no password is asked for"),
    (
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=1\n",
        "3: http_server_config.headers.Strict-Transport-Security: without effect, because TLS is off",
    ),
    (
        TLS + "  client_auth_type: RequestClientCert\n  client_ca_file: ca.pem\n",
        "5: tls_server_config.client_ca_file: RequestClientCert asks for a certificate, and does not verify "
        "it",
    ),
    (
        TLS + "  client_auth_type: RequireClientCert\n  client_ca: PEM\n",
        "5: tls_server_config.client_ca: RequireAnyClientCert asks for a certificate, and does not verify it",
    ),
]


@pytest.mark.parametrize(("text", "note"), NOTED)
def test_what_has_no_effect_is_said(tmp_path: Path, text: str, note: str) -> None:
    """An operator would rely on a lock that is not there."""
    assert read_text(tmp_path, text).notes == (f"{tmp_path}/web.yml:{note}",)


def test_http2_that_is_off_needs_no_note(tmp_path: Path) -> None:
    """The log would warn of what is as the operator wants it."""
    assert read_text(tmp_path, "http_server_config: {http2: no}\n").notes == ()


def test_no_secret_is_in_the_representation(tmp_path: Path) -> None:
    """A traceback or a debug line would show the hashes of all users."""
    assert HASH[7:] not in repr(read_text(tmp_path, f"basic_auth_users:\n  alice: {HASH}\n"))

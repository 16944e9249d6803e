"""Bad sections `tls_server_config`: each error names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.web_configs import error_of

KEY_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj"

TLS = "  cert_file: server.crt\n  key_file: server.key\n"
CA = "  client_ca_file: ca.pem\n"
VERIFY = TLS + "  client_auth_type: RequireAndVerifyClientCert\n"
POLICIES = (
    "expected one of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, "
    "RequireAndVerifyClientCert, got"
)
NO_CERT = "cert_file (or cert) is missing: TLS needs a certificate and its key"
NO_KEY = "key_file (or key) is missing: TLS needs a certificate and its key"
NO_POLICY = "needs a client_auth_type that verifies, such as RequireAndVerifyClientCert"
NOT_VERIFIED = "needs client_auth_type: RequireAndVerifyClientCert"
NO_SAN = "expected a DNS name, an e-mail address, an IP address or a URI, got nothing"
OLD = "expected TLS12 or TLS13: OpenSSL does not allow"
GO_SUITES = "expected one of Go's tls.CipherSuites()"
ONE_CURVE = (
    "pyOpenSSL can set one of CurveP256, CurveP384, CurveP521 alone; without this key, OpenSSL's curves are "
    "used, X25519 before CurveP256, CurveP384 and CurveP521"
)

PAIRS = [
    ("  cert_filse: server.crt\n", 2, "cert_filse", "unknown key (cert_file?)"),
    ("  cert_file: a\n  cert_file: b\n  key_file: c\n", 3, "cert_file", "repeated key, first in line 2"),
    ("  cert_file: server.crt\n", 2, "cert_file", NO_KEY),
    ("  key_file: server.key\n", 2, "key_file", NO_CERT),
    ("  cert: ''\n  key_file: server.key\n", 3, "key_file", NO_CERT),
    ("  cert_file: ''\n  key_file: ''\n", 1, "", NO_CERT),
    ("  cert_file: a\n  key: ''\n", 2, "cert_file", NO_KEY),
    ("  min_version: TLS13\n", 1, "", NO_CERT),
    ("  cert_file: a\n  cert: b\n  key_file: c\n", 3, "cert", "expected one of cert and cert_file, got both"),
    ("  cert_file: a\n  key_file: b\n  key: c\n", 4, "key", "expected one of key and key_file, got both"),
    ("  cert_file: [a]\n  key_file: b\n", 2, "cert_file", "expected a text, got a list"),
    (
        f"  cert_file: a\n  key_file: |\n    -----BEGIN PRIVATE KEY-----\n    {KEY_LINE}\n",
        3,
        "key_file",
        "expected a path: its content belongs to key",
    ),
    (f"  cert_file: a\n  key: {{a: {KEY_LINE}}}\n", 3, "key", "expected a text, got a mapping of keys"),
]

CLIENTS = [
    (TLS + "  client_auth_type: RequireAndVerify\n", 4, "client_auth_type", f"{POLICIES} 'RequireAndVerify'"),
    (TLS + "  client_auth_type: noclientcert\n", 4, "client_auth_type", f"{POLICIES} 'noclientcert'"),
    (VERIFY, 4, "client_auth_type", "RequireAndVerifyClientCert needs client_ca_file (or client_ca)"),
    (
        TLS + "  client_auth_type: VerifyClientCertIfGiven\n",
        4,
        "client_auth_type",
        "VerifyClientCertIfGiven needs client_ca_file (or client_ca)",
    ),
    (TLS + CA, 4, "client_ca_file", NO_POLICY),
    (TLS + CA + "  client_auth_type: NoClientCert\n", 4, "client_ca_file", NO_POLICY),
    (
        VERIFY + CA + "  client_ca: PEM\n",
        6,
        "client_ca",
        "expected one of client_ca and client_ca_file, got both",
    ),
    (
        VERIFY + CA + "  client_allowed_sans: []\n",
        6,
        "client_allowed_sans",
        "expected at least one name: an empty list admits no client",
    ),
    (VERIFY + CA + "  client_allowed_sans: one\n", 6, "client_allowed_sans", "expected a list, got a text"),
    (VERIFY + CA + "  client_allowed_sans:\n  - one\n  - ''\n", 8, "client_allowed_sans[1]", NO_SAN),
    (
        TLS + "  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [one]\n",
        5,
        "client_allowed_sans",
        NOT_VERIFIED,
    ),
    (
        TLS + CA + "  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [one]\n",
        6,
        "client_allowed_sans",
        NOT_VERIFIED,
    ),
]

PROTOCOL = [
    (TLS + "  min_version: TLS111\n", 4, "min_version", "expected TLS12 or TLS13, got 'TLS111'"),
    (TLS + "  min_version: 1.2\n", 4, "min_version", "expected TLS12 or TLS13, got '1.2'"),
    (TLS + "  min_version: TLS10\n", 4, "min_version", f"{OLD} TLS10, which is not secure"),
    (TLS + "  max_version: TLS11\n", 4, "max_version", f"{OLD} TLS11, which is not secure"),
    (
        TLS + "  min_version: TLS13\n  max_version: TLS12\n",
        4,
        "min_version",
        "expected at most max_version, TLS12, got TLS13",
    ),
    (
        TLS + "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048\n",
        5,
        "cipher_suites[0]",
        f"unknown cipher suite 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048': {GO_SUITES}",
    ),
    (
        TLS + "  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n",
        4,
        "cipher_suites[0]",
        f"unknown cipher suite 'TLS_RSA_WITH_AES_128_CBC_SHA': {GO_SUITES}",
    ),
    (
        TLS + "  cipher_suites: [ECDHE-RSA-AES128-SHA]\n",
        4,
        "cipher_suites[0]",
        f"unknown cipher suite 'ECDHE-RSA-AES128-SHA': {GO_SUITES}",
    ),
    (
        TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        4,
        "cipher_suites",
        "has suites of TLS 1.3 only: set min_version: TLS13 instead",
    ),
    (
        TLS + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        5,
        "cipher_suites",
        "expected a cipher suite of TLS 1.2, the max_version, got none",
    ),
    (
        TLS + "  curve_preferences: [CurveP257]\n",
        4,
        "curve_preferences[0]",
        "unknown curve 'CurveP257': expected one of CurveP256, CurveP384, CurveP521, X25519",
    ),
    (TLS + "  curve_preferences:\n    - X25519\n", 4, "curve_preferences", ONE_CURVE),
    (TLS + "  curve_preferences: [CurveP256, CurveP384]\n", 4, "curve_preferences", ONE_CURVE),
    (
        TLS + "  prefer_server_cipher_suites: maybe\n",
        4,
        "prefer_server_cipher_suites",
        "expected true or false, got 'maybe'",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "said"), [*PAIRS, *CLIENTS, *PROTOCOL])
def test_a_bad_section_is_an_error_with_line_and_key(
    tmp_path: Path, text: str, line: int, key: str, said: str
) -> None:
    """A slip in the file would leave a lock open without a word, or stop the daemon without its cause."""
    error = error_of(tmp_path, f"tls_server_config:\n{text}")
    assert error == f"{line}: tls_server_config{'.' * bool(key)}{key}: {said}"
    assert KEY_LINE not in error

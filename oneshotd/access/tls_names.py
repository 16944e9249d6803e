"""The names that Go's crypto/tls and the web configuration use, and what OpenSSL calls them."""

from __future__ import annotations

import enum
from collections.abc import Mapping

#: Cipher suites of TLS 1.2 that Go holds for secure (``tls.CipherSuites()``) -> OpenSSL's name; in the order
#: of Go's preference, which is also the default.
TLS12_CIPHERS: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}

#: Cipher suites of TLS 1.3: Go and pyOpenSSL 25.0 always allow all of them.
TLS13_CIPHERS = frozenset(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)

#: Names of elliptic curves -> the name in `cryptography`; None: pyOpenSSL cannot set it.
CURVES: Mapping[str, str | None] = {
    "CurveP256": "SECP256R1",
    "CurveP384": "SECP384R1",
    "CurveP521": "SECP521R1",
    "X25519": None,
}


class TLSVersion(enum.IntEnum):
    """A version of TLS; the value is its number in the protocol (RFC 8446, section 4.2.1)."""

    TLS12 = 0x0303
    TLS13 = 0x0304


#: Versions of the web configuration that OpenSSL's default security level does not allow.
OLD_VERSIONS = ("TLS10", "TLS11")


class ClientAuth(enum.Enum):
    """How client certificates are asked for, Go's ``tls.ClientAuthType``; the value is its name there."""

    NONE = "NoClientCert"
    REQUEST = "RequestClientCert"  # asked for, and not verified
    REQUIRE_ANY = "RequireAnyClientCert"  # required, and not verified
    VERIFY_IF_GIVEN = "VerifyClientCertIfGiven"
    REQUIRE_AND_VERIFY = "RequireAndVerifyClientCert"

    @property
    def asks(self) -> bool:
        """Whether a client is asked for a certificate."""
        return self is not ClientAuth.NONE

    @property
    def verifies(self) -> bool:
        """Whether the certificate of a connected client has been verified."""
        return self in (ClientAuth.VERIFY_IF_GIVEN, ClientAuth.REQUIRE_AND_VERIFY)

    @property
    def requires(self) -> bool:
        """Whether a client without a certificate is refused."""
        return self in (ClientAuth.REQUIRE_ANY, ClientAuth.REQUIRE_AND_VERIFY)


#: The names in the file, with the old spelling that exporter-toolkit still accepts.
CLIENT_AUTH: Mapping[str, ClientAuth] = {
    "": ClientAuth.NONE,
    **{member.value: member for member in ClientAuth},
    "RequireClientCert": ClientAuth.REQUIRE_ANY,
}

"""Certificates and keys in PEM form, checked before OpenSSL gets them: an error says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from oneshotd.access.tls_settings import PEM
from oneshotd.errors import ConfigError

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey

_BEGIN = b"-----BEGIN "
_DASHES = b"-----"


def load_certificates(pem: PEM) -> Sequence[x509.Certificate]:
    """Return the certificates in their order, at least one.

    :raises ConfigError: there is none, or one cannot be read.
    """
    found = []
    labels = set()
    for label, block in _blocks(pem.read()):
        labels.add(label)
        if label != "CERTIFICATE":
            continue
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except ValueError:
            raise ConfigError(f"{pem.place}: certificate {len(found) + 1} cannot be read") from None
    if not found:
        swapped = any(label.endswith("PRIVATE KEY") for label in labels)
        got = "a private key" if swapped else "none"
        raise ConfigError(f"{pem.place}: expected a certificate in PEM form, got {got}")
    return found


def load_private_key(pem: PEM) -> PrivateKey:
    """Return the first private key.

    :raises ConfigError: there is none, it is encrypted, cannot be read, or cannot be used for TLS.
    """
    labels = []
    for label, block in _blocks(pem.read()):
        labels.append(label)
        if not label.endswith("PRIVATE KEY"):
            continue
        if label.startswith("ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block:
            raise ConfigError(f"{pem.place}: the key is encrypted; expected one without a passphrase")
        try:
            key = load_pem_private_key(block, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError(f"{pem.place}: the private key cannot be read") from None
        if not isinstance(key, PrivateKey):
            raise ConfigError(f"{pem.place}: expected a key of the kind RSA, ECDSA or Ed25519, got another")
        return key
    got = "a certificate" if "CERTIFICATE" in labels else "none"
    raise ConfigError(f"{pem.place}: expected a private key in PEM form, got {got}")


def check_pair(cert: PEM, chain: Sequence[x509.Certificate], key: PEM, private: PrivateKey) -> None:
    """Check that the key belongs to the first certificate.

    :raises ConfigError: it belongs to another one, or to none.
    """
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for number, certificate in enumerate(chain, start=1):
        try:
            its = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if its == public and number == 1:
            return
        if its == public:
            raise ConfigError(
                f"{cert.place}: the certificate of the key has to be the first one, and is number {number}"
            )
    raise ConfigError(f"{key.place}: the key does not belong to the certificate, {cert.place}")


def _blocks(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield label and text of each complete block; what is between the blocks is a comment."""
    start = content.find(_BEGIN)
    while start >= 0:
        label_end = content.find(_DASHES, start + len(_BEGIN))
        label = content[start + len(_BEGIN) : label_end]
        end_line = b"-----END " + label + _DASHES
        end = content.find(end_line, label_end) if label_end >= 0 else -1
        if end < 0:
            return
        yield label.decode("ascii", "replace"), content[start : end + len(end_line)] + b"\n"
        start = content.find(_BEGIN, end)

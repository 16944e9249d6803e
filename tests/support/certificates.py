"""Certificates for tests: an authority, and certificates that it signs, as PEM files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BOTH_SIDES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@frozen
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in a folder.

    :ivar cert: its own certificate, which clients have to trust.
    """

    def __init__(self, folder: Path, name: str = "test authority", issuer: Authority | None = None) -> None:
        """Make the key and the certificate.

        :param issuer: signs the certificate; None: it signs itself.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        builder = _builder(self._name, signer._name, self._key.public_key(), timedelta(days=2))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_CERTIFICATES, critical=True)
        own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(own, critical=False).add_extension(signer._key_id(), critical=False)
        signed = builder.sign(signer._key, hashes.SHA256())
        self.cert = folder / "ca.pem"
        self.cert.write_bytes(signed.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        sans: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
        valid: timedelta = timedelta(days=1),
        *,
        use_rsa: bool = False,
        bits: int = 2048,
        client: bool = True,
    ) -> Pair:
        """Make a certificate and its key as ``NAME.pem`` and ``NAME.key``; replace those of that name.

        :param sans: DNS names, addresses, ``spiffe://…`` URIs, or e-mail addresses.
        :param valid: from now; a negative time makes a certificate that has ended.
        :param use_rsa: make an RSA key of so many bits instead of an ECDSA key.
        :param client: the certificate may be a client's, too, not only a server's.
        """
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        key = rsa.generate_private_key(65537, bits) if use_rsa else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = _builder(subject, self._name, key.public_key(), valid)
        signed = signed.add_extension(self._key_id(), critical=False)
        if sans:
            names = x509.SubjectAlternativeName([_general_name(san) for san in sans])
            signed = signed.add_extension(names, critical=False)
        signed = signed.add_extension(_BOTH_SIDES if client else _SERVER, critical=False)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pair.cert.write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return pair

    def _key_id(self) -> x509.AuthorityKeyIdentifier:
        """Return the extension that names its key, which Python 3.13's default verification asks for."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    valid: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + valid) - timedelta(days=1))
        .not_valid_after(now + valid)
    )


def _general_name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    if "@" in text:
        return x509.RFC822Name(text)
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)

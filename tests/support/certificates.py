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
_SIGNING = x509.KeyUsage(
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
_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


@frozen
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in a folder.

    :ivar cert: its own certificate, which clients have to trust.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "test authority",
        issuer: Authority | None = None,
        imitates: Authority | None = None,
    ) -> None:
        """Make the key and the certificate.

        :param issuer: signs the certificate; None: it signs itself.
        :param imitates: the authority whose key identifier its certificates name, instead of its own.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._named = imitates or self
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        usage = x509.BasicConstraints(ca=True, path_length=None)
        builder = _builder(self._name, signer._name, self._key.public_key(), timedelta(days=2))
        builder = builder.add_extension(usage, critical=True).add_extension(_SIGNING, critical=True)
        self.cert = folder / "ca.pem"
        self.cert.write_bytes(signer._signed(builder, self._key.public_key()))

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
        if sans:
            names = x509.SubjectAlternativeName([_general_name(san) for san in sans])
            signed = signed.add_extension(names, critical=False)
        signed = signed.add_extension(_BOTH_SIDES if client else _SERVER, critical=False)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pair.cert.write_bytes(self._signed(signed, key.public_key()))
        return pair

    def _signed(self, builder: x509.CertificateBuilder, key: _PublicKey) -> bytes:
        """Return the certificate of a key, with the key identifiers of RFC 5280, section 4.2.1.

        Clients that check strictly (Python from 3.13 on) refuse a certificate without them.
        """
        theirs = x509.SubjectKeyIdentifier.from_public_key(key)
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._named._key.public_key())
        builder = builder.add_extension(theirs, critical=False).add_extension(ours, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: _PublicKey,
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

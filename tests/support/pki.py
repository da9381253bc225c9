"""Certificates for tests, made on the spot: authorities, servers, and clients as real ones look (no EKU, no SAN)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kmip_contract.allowlist import AllowlistEntry, EntryState, EntryType, SubjectMatch
from kmip_contract.permissions import OPERATIONS

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def sha256(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.crt and NAME.key, and return their paths."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_text(self.pem)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key

    def entry(
        self,
        name: str,
        *,
        kind: EntryType = EntryType.LEAF,
        operations: frozenset[str] = OPERATIONS,
        state: EntryState = EntryState.ACTIVE,
        match: SubjectMatch | None = None,
        not_after: datetime | None = None,
    ) -> AllowlistEntry:
        """This certificate as an allowlist entry."""
        return AllowlistEntry(
            name=name,
            type=kind,
            sha256=self.sha256,
            pem=self.pem,
            match=match,
            operations=operations,
            state=state,
            not_before=self.certificate.not_valid_before_utc,
            not_after=not_after or self.certificate.not_valid_after_utc,
        )


def make(
    subject: str,
    issuer: Identity | None = None,
    *,
    issuer_name: str | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    organization: str | None = None,
    not_before: timedelta = timedelta(hours=-1),
    not_after: timedelta = timedelta(days=30),
    rsa_bits: int | None = None,
) -> Identity:
    """A certificate for ``CN=subject``, signed by ``issuer`` or itself; exactly the extensions given."""
    key: PrivateKey = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    name = x509.Name(attributes)
    by = issuer.certificate.subject if issuer else name
    if issuer_name:
        by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + not_before)
        .not_valid_after(now + not_after)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return Identity(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def authority(name: str = "Test CA", issuer: Identity | None = None) -> Identity:
    """A certificate that may issue others."""
    return make(name, issuer, extensions=[x509.BasicConstraints(ca=True, path_length=None)])


def server(issuer: Identity, *, rsa_bits: int | None = None) -> Identity:
    """A server certificate for the loopback."""
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return make("localhost", issuer, extensions=[names], rsa_bits=rsa_bits)

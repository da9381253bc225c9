"""Client certificates like vCenter's own: self-signed, RSA-2048, no extended key usage, no subject alternative name."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class ClientIdentity:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.read_text()


def vcenter_identity(folder: Path, name: str) -> ClientIdentity:
    """Make ``FOLDER/NAME.crt`` and ``.key`` (mode 0600), or take the ones that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = ClientIdentity(folder / f"{name}.crt", folder / f"{name}.key")
    if identity.certificate.exists() and identity.key.exists():
        return identity
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "VMware"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"kmipClient-{name}"),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    identity.key.touch(mode=0o600)
    identity.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return identity

"""Certificates for ``kmipd dev``: an authority, the server's leaf, one client."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=1825)

# A leaf that ends sooner is made anew at the next start.
_RENEW_BEFORE = timedelta(days=30)

# Clocks of two machines on a desk differ by less.
_BACKDATE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and where it and its key lie."""

    certificate: x509.Certificate
    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority whose key may sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def authority(directory: Path) -> Authority:
    """The authority in DIRECTORY/ca.crt and ca.key, made when it is not there. Raises ``OSError``, ``ValueError``."""
    certificate_file, key_file = directory / "ca.crt", directory / "ca.key"
    if certificate_file.exists() and key_file.exists():
        key = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file}: not the key that kmipd dev makes")
        return Authority(x509.load_pem_x509_certificate(certificate_file.read_bytes()), key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kmipd dev CA")])
    builder = _builder(name, name, key.public_key(), key.public_key(), _AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    made = Authority(builder.sign(key, hashes.SHA256()), key)
    _write(certificate_file, key_file, made.certificate, key)
    return made


def server(directory: Path, issuer: Authority, host: str) -> Issued:
    """The server's leaf for ``host`` and the loopback, made anew when another host is asked for."""
    hosts = dict.fromkeys([host or "localhost", "localhost", "127.0.0.1"])
    wanted = x509.SubjectAlternativeName([_name(entry) for entry in hosts])
    return _leaf(directory, "server", issuer, ExtendedKeyUsageOID.SERVER_AUTH, wanted)


def client(directory: Path, issuer: Authority) -> Issued:
    """The client's certificate."""
    return _leaf(directory, "client", issuer, ExtendedKeyUsageOID.CLIENT_AUTH, None)


def _leaf(
    directory: Path,
    name: str,
    issuer: Authority,
    purpose: x509.ObjectIdentifier,
    names: x509.SubjectAlternativeName | None,
) -> Issued:
    certificate_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
    if certificate_file.exists() and key_file.exists():
        kept = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        if kept.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE and _names(kept) == names:
            return Issued(kept, certificate_file, key_file)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"kmipd dev {name}")])
    builder = _builder(subject, issuer.certificate.subject, key.public_key(), issuer.key.public_key(), _LEAF_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(issuer.key, hashes.SHA256())
    _write(certificate_file, key_file, made, key)
    return Issued(made, certificate_file, key_file)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    life: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _write(
    certificate_file: Path, key_file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    write_private(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read. Raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)

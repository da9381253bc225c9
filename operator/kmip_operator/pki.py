"""Certificates: an instance's authority and server leaf, the control certificates of /status, and reading those of clients.

P-256 and SHA-256 throughout (RFC 5280, RFC 5480). Nothing here reads the clock or touches a file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kmip_operator.reasons import Reason

CA_LIFETIME = timedelta(days=3653)
LEAF_LIFETIME = timedelta(days=1826)
# Clocks of hosts that have just booted may be behind.
_BACKDATE = timedelta(hours=1)
# RFC 5280 appendix A.1: ub-common-name.
_COMMON_NAME_LIMIT = 64
# NIST SP 800-131A: less gives fewer than 112 bits of security.
_MIN_RSA_BITS = 2048

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class CertificateProblem(ValueError):
    """A text that is not the certificate it should be; ``message`` says what was found and what to give."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class KeyPair:
    """A PEM certificate and its PKCS #8 key."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class CertificateFacts:
    """What is said about a certificate. ``sha256`` in lower-case hexadecimal; ``pem`` is the one block, normalised."""

    pem: str
    sha256: str
    subject: str
    issuer: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    authority: bool

    @property
    def fingerprint(self) -> str:
        """The SHA-256 as browsers and vCenter show it."""
        return fingerprint(self.sha256)


def fingerprint(sha256: str) -> str:
    """``ab12…`` as ``AB:12:…``."""
    return ":".join(sha256[index : index + 2] for index in range(0, len(sha256), 2)).upper()


def make_authority(common_name: str, now: datetime) -> KeyPair:
    """A self-signed authority for ten years that may issue leaves and no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_pem(certificate), _key_pem(key))


def make_server_leaf(authority: KeyPair, names: Iterable[str], now: datetime) -> KeyPair:
    """A server certificate for five years; the first of ``names`` (host names and addresses) is its common name."""
    return _make_leaf(authority, tuple(names), now, server=True)


def make_client_leaf(authority: KeyPair, common_name: str, now: datetime) -> KeyPair:
    """A client certificate for five years without alternative names."""
    return _make_leaf(authority, (common_name,), now, server=False)


def _make_leaf(authority: KeyPair, names: tuple[str, ...], now: datetime, *, server: bool) -> KeyPair:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise CertificateProblem(Reason.INVALID_SPEC, "the authority's key is not an elliptic-curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    lifetime = min(LEAF_LIFETIME, issuer.not_valid_after_utc - now)
    builder = (
        _builder(_name(names[0]), issuer.subject, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if server:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)])
        builder = builder.add_extension(alternatives, critical=False)
    return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_COMMON_NAME_LIMIT])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_one(text: str, where: str) -> CertificateFacts:
    """The one certificate in ``text``; other text around the block is ignored.

    Args:
        text: PEM.
        where: the field it came from, for messages.

    Raises:
        CertificateProblem: it holds a private key, no certificate, several, or one that does not parse or has a weak key.
    """
    if "PRIVATE KEY" in text:
        raise CertificateProblem(
            Reason.PRIVATE_KEY_GIVEN,
            f"{where}: it holds a private key. Give the certificate alone, and replace the key: it was stored in the cluster.",
        )
    blocks = [match for match in _BLOCK.finditer(text) if match.group(1) in {"CERTIFICATE", "X509 CERTIFICATE"}]
    if not blocks:
        raise CertificateProblem(
            Reason.NOT_A_CERTIFICATE,
            f"{where}: found {_describe(text)}. Give a PEM certificate, from -----BEGIN CERTIFICATE----- to "
            "-----END CERTIFICATE-----.",
        )
    if len(blocks) > 1:
        raise CertificateProblem(
            Reason.SEVERAL_CERTIFICATES,
            f"{where}: found {len(blocks)} certificates. Give exactly one: the client's own certificate without its chain, or "
            "one ClientCertificate for each.",
        )
    try:
        certificate = x509.load_pem_x509_certificate(blocks[0].group(0).encode())
        return _facts(certificate)
    except CertificateProblem as problem:
        raise CertificateProblem(problem.reason, f"{where}: {problem.message}") from None
    except ValueError:
        raise CertificateProblem(
            Reason.NOT_A_CERTIFICATE,
            f"{where}: what stands between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE----- is no X.509 certificate. "
            "Export it again and give it unchanged.",
        ) from None


# A decision asks for the same chain several times.
@lru_cache(maxsize=256)
def read_chain(text: str) -> tuple[CertificateFacts, ...]:
    """The certificates of a chain that this module made, leaf first; empty when it does not parse."""
    try:
        return tuple(_facts(certificate) for certificate in x509.load_pem_x509_certificates(text.encode()))
    except ValueError:
        return ()


def _describe(text: str) -> str:
    first = _BLOCK.search(text)
    if first is not None:
        return f"a block named {first.group(1)}"
    if "-----BEGIN CERTIFICATE-----" in text:
        return "a certificate whose end is missing"
    return "no PEM block" if text.strip() else "nothing"


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise CertificateProblem(
            Reason.WEAK_KEY, f"its RSA key has {key.key_size} bits. Give a certificate with at least {_MIN_RSA_BITS}."
        )
    return CertificateFacts(
        pem=_pem(certificate).decode(),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial_number=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        names=_alternative_names(certificate),
        authority=_is_authority(certificate),
    )


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        # A version 1 certificate that signs itself is how old appliances make their authority.
        return certificate.version is x509.Version.v1 and certificate.subject == certificate.issuer

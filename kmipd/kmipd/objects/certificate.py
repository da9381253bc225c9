"""Attributes that the server reads from an X.509 certificate (KMIP 1.4 §3.8 to §3.16, and the names KMIP 1.0 had)."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kmipd.objects.errors import OperationFailed
from kmipd.objects.managed import ManagedObject
from kmipd.objects.values import field_of
from kmipd.wire import tags
from kmipd.wire.enums import CertificateType, CryptographicAlgorithm, DigitalSignatureAlgorithm, ResultReason
from kmipd.wire.ttlv import Item, ItemType

_BYTES: Final = ItemType.BYTE_STRING
_TEXT: Final = ItemType.TEXT_STRING

_D = DigitalSignatureAlgorithm
_SIGNATURES: Final = {
    "1.2.840.113549.1.1.2": _D.MD2WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.4": _D.MD5WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.5": _D.SHA_1WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.14": _D.SHA_224WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.11": _D.SHA_256WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.12": _D.SHA_384WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.13": _D.SHA_512WithRSAEncryptionPKCS_1V1_5,
    "1.2.840.113549.1.1.10": _D.RSASSA_PSSPKCS_1V2_1,
    "1.2.840.10040.4.3": _D.DSAWithSHA_1,
    "2.16.840.1.101.3.4.3.1": _D.DSAWithSHA224,
    "2.16.840.1.101.3.4.3.2": _D.DSAWithSHA256,
    "1.2.840.10045.4.1": _D.ECDSAWithSHA_1,
    "1.2.840.10045.4.3.1": _D.ECDSAWithSHA224,
    "1.2.840.10045.4.3.2": _D.ECDSAWithSHA256,
    "1.2.840.10045.4.3.3": _D.ECDSAWithSHA384,
    "1.2.840.10045.4.3.4": _D.ECDSAWithSHA512,
}


def _serial(number: int) -> bytes:
    """The serial number's DER encoding, as the X.509 Certificate Identifier wants it."""
    length = max(1, (number.bit_length() + 8) // 8)
    return bytes((2, length)) + number.to_bytes(length, "big", signed=True)


def describe(managed: ManagedObject, items: list[Item]) -> None:
    """Set the certificate attributes of ``managed`` from its structure; one that is not X.509 gets its type and length alone.

    Raises:
        OperationFailed: InvalidField when an X.509 certificate cannot be read.
    """
    kind = field_of(items, tags.CERTIFICATE_TYPE)
    der: bytes = field_of(items, tags.CERTIFICATE_VALUE)
    managed.set_single("Certificate Type", kind or int(CertificateType.X_509))
    managed.set_single("Certificate Length", len(der))
    if kind not in {None, CertificateType.X_509}:
        return
    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer = certificate.issuer.public_bytes()
        subject = certificate.subject.public_bytes()
        signature = _SIGNATURES.get(certificate.signature_algorithm_oid.dotted_string)
        serial = certificate.serial_number
    except ValueError:
        raise OperationFailed(
            ResultReason.InvalidField, "the certificate is not a DER-encoded X.509 certificate"
        ) from None
    identifier: list[Item] = [
        (tags.ISSUER_DISTINGUISHED_NAME << 8 | _BYTES, issuer),
        (tags.CERTIFICATE_SERIAL_NUMBER << 8 | _BYTES, _serial(serial)),
    ]
    managed.set_single("X.509 Certificate Identifier", identifier)
    managed.set_single("X.509 Certificate Issuer", [(tags.ISSUER_DISTINGUISHED_NAME << 8 | _BYTES, issuer)])
    managed.set_single("X.509 Certificate Subject", [(tags.SUBJECT_DISTINGUISHED_NAME << 8 | _BYTES, subject)])
    managed.set_single(
        "Certificate Identifier",
        [
            (tags.ISSUER << 8 | _TEXT, certificate.issuer.rfc4514_string()),
            (
                tags.SERIAL_NUMBER << 8 | _TEXT,
                serial.to_bytes((serial.bit_length() + 7) // 8 or 1, "big").hex().upper(),
            ),
        ],
    )
    managed.set_single(
        "Certificate Issuer",
        [(tags.CERTIFICATE_ISSUER_DISTINGUISHED_NAME << 8 | _TEXT, certificate.issuer.rfc4514_string())],
    )
    managed.set_single(
        "Certificate Subject",
        [(tags.CERTIFICATE_SUBJECT_DISTINGUISHED_NAME << 8 | _TEXT, certificate.subject.rfc4514_string())],
    )
    if signature is not None:
        managed.set_single("Digital Signature Algorithm", int(signature))


def key_of(der: bytes) -> tuple[int, int]:
    """Algorithm and length in bits of a certificate's public key; zeros when it is of another kind or cannot be read."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except ValueError:
        return 0, 0
    if isinstance(key, rsa.RSAPublicKey):
        return int(CryptographicAlgorithm.RSA), key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return int(CryptographicAlgorithm.ECDSA), key.key_size
    return 0, 0

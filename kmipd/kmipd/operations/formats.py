"""Key formats that Get converts between (KMIP 1.4 §2.1.3, Key Format Type)."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from kmipd.objects.errors import OperationFailed
from kmipd.objects.material import KeyBlock
from kmipd.objects.values import field_of
from kmipd.wire import tags
from kmipd.wire.enums import KeyFormatType, ObjectType, ResultReason
from kmipd.wire.ttlv import ItemType

_MATERIAL: Final = tags.KEY_MATERIAL << 8 | ItemType.BYTE_STRING
_TRANSPARENT: Final = tags.KEY_MATERIAL << 8 | ItemType.STRUCTURE
_KEY: Final = tags.KEY << 8 | ItemType.BYTE_STRING


def _unsupported() -> OperationFailed:
    return OperationFailed(ResultReason.KeyFormatTypeNotSupported, "the key cannot be given in this key format type")


def convert(block: KeyBlock, object_type: int, wanted: int) -> None:
    """Change ``block`` to key format ``wanted``.

    Raises:
        OperationFailed: KeyFormatTypeNotSupported.
    """
    if block.material is None:
        raise _unsupported()
    if object_type == ObjectType.SymmetricKey:
        _convert_symmetric(block, wanted)
    elif block.material[0] != _MATERIAL:
        raise _unsupported()
    elif object_type == ObjectType.PrivateKey:
        block.material = (_MATERIAL, _private(block.material[1], wanted))
    else:
        block.material = (_MATERIAL, _public(block.material[1], wanted))
    block.format = wanted


def _convert_symmetric(block: KeyBlock, wanted: int) -> None:
    if block.material is None:
        raise _unsupported()
    word, value = block.material
    if wanted == KeyFormatType.TransparentSymmetricKey and word == _MATERIAL and block.format == KeyFormatType.Raw:
        block.material = (_TRANSPARENT, [(_KEY, value)])
    elif wanted == KeyFormatType.Raw and block.format == KeyFormatType.TransparentSymmetricKey and word == _TRANSPARENT:
        block.material = (_MATERIAL, field_of(value, tags.KEY))
    else:
        raise _unsupported()


def _private(der: bytes, wanted: int) -> bytes:
    try:
        key = load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unsupported() from None
    traditional = (wanted == KeyFormatType.PKCS_1 and isinstance(key, rsa.RSAPrivateKey)) or (
        wanted == KeyFormatType.ECPrivateKey and isinstance(key, ec.EllipticCurvePrivateKey)
    )
    if not traditional and wanted != KeyFormatType.PKCS_8:
        raise _unsupported()
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.DER, form, NoEncryption())


def _public(der: bytes, wanted: int) -> bytes:
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unsupported() from None
    if wanted == KeyFormatType.PKCS_1 and isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if wanted == KeyFormatType.X_509:
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    raise _unsupported()

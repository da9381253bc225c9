"""Key material as KMIP structures: what a registered object is, and what a generated key becomes (KMIP 1.4 §2.1.3, §2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from kmipd.objects.values import field_of, invalid
from kmipd.wire import tags
from kmipd.wire.attributes import Attribute, read_attribute
from kmipd.wire.enums import CryptographicAlgorithm, HashingAlgorithm, KeyFormatType, ObjectType
from kmipd.wire.ttlv import (
    Item,
    ItemType,
    TtlvError,
    encode_bytes,
    encode_enumeration,
    encode_integer,
    encode_item,
    encode_structure,
)

OBJECT_TAG: Final[dict[int, int]] = {
    ObjectType.Certificate: tags.CERTIFICATE,
    ObjectType.SymmetricKey: tags.SYMMETRIC_KEY,
    ObjectType.PublicKey: tags.PUBLIC_KEY,
    ObjectType.PrivateKey: tags.PRIVATE_KEY,
    ObjectType.SplitKey: tags.SPLIT_KEY,
    ObjectType.Template: tags.TEMPLATE,
    ObjectType.SecretData: tags.SECRET_DATA,
    ObjectType.OpaqueObject: tags.OPAQUE_OBJECT,
    ObjectType.PGPKey: tags.PGP_KEY,
}

_UNCOMPRESSED: Final = frozenset({ObjectType.SymmetricKey, ObjectType.SecretData})
"""Objects whose key blocks have no compression; a client that names one means nothing by it."""

_STRUCTURE: Final = ItemType.STRUCTURE
_KEY_BLOCK: Final = tags.KEY_BLOCK << 8 | _STRUCTURE
_KEY_VALUE: Final = tags.KEY_VALUE << 8 | _STRUCTURE
_WRAPPED_VALUE: Final = tags.KEY_VALUE << 8 | ItemType.BYTE_STRING
_ATTRIBUTE: Final = tags.ATTRIBUTE << 8 | _STRUCTURE
_FORMAT: Final = tags.KEY_FORMAT_TYPE << 8 | ItemType.ENUMERATION
_ALGORITHM: Final = tags.CRYPTOGRAPHIC_ALGORITHM << 8 | ItemType.ENUMERATION
_LENGTH: Final = tags.CRYPTOGRAPHIC_LENGTH << 8 | ItemType.INTEGER
_WRAPPING: Final = tags.KEY_WRAPPING_DATA << 8 | _STRUCTURE


@dataclass(slots=True)
class KeyBlock:
    """A key block's fields. ``material`` is an Item, ``None`` when the key value is absent or wrapped."""

    format: int
    compression: int | None = None
    material: Item | None = None
    wrapped_value: bytes | None = None
    algorithm: int = 0
    length: int = 0
    wrapping: list[Item] | None = None
    attributes: list[Attribute] = field(default_factory=list)

    def items(self) -> list[Item]:
        """The key block's content in KMIP's order, without the attributes that came inside the key value."""
        items: list[Item] = [(_FORMAT, self.format)]
        if self.compression is not None:
            items.append((tags.KEY_COMPRESSION_TYPE << 8 | ItemType.ENUMERATION, self.compression))
        if self.material is not None:
            items.append((_KEY_VALUE, [self.material]))
        elif self.wrapped_value is not None:
            items.append((_WRAPPED_VALUE, self.wrapped_value))
        if self.algorithm:
            items.append((_ALGORITHM, self.algorithm))
        if self.length:
            items.append((_LENGTH, self.length))
        if self.wrapping is not None:
            items.append((_WRAPPING, self.wrapping))
        return items


def read_key_block(items: list[Item]) -> KeyBlock:
    """A key block from its content.

    Raises:
        OperationFailed: InvalidField when it has no format, or a key value of neither form.
    """
    values: dict[int, Any] = dict(items)
    kind = values.get(_FORMAT)
    if kind is None:
        raise invalid("the key block has no key format type")
    block = KeyBlock(
        kind,
        values.get(tags.KEY_COMPRESSION_TYPE << 8 | ItemType.ENUMERATION),
        wrapped_value=values.get(_WRAPPED_VALUE),
        algorithm=values.get(_ALGORITHM, 0),
        length=values.get(_LENGTH, 0),
        wrapping=values.get(_WRAPPING),
    )
    for item in values.get(_KEY_VALUE, []):
        if item[0] >> 8 == tags.KEY_MATERIAL:
            block.material = item
        elif item[0] == _ATTRIBUTE:
            try:
                block.attributes.append(read_attribute(item[1]))
            except TtlvError as error:
                raise invalid(str(error)) from None
    if _KEY_VALUE in values and block.material is None:
        raise invalid("the key value has no key material")
    return block


@dataclass(slots=True)
class Material:
    """A registered object: its content besides the key block, and the key block if it has one."""

    object_type: int
    items: list[Item]
    block: KeyBlock | None

    def encode(self) -> bytes:
        """The object's structure, as it is wrapped, stored, and handed out by Get."""
        content = self.items
        if self.block is not None:
            content = [(word, self.block.items()) if word == _KEY_BLOCK else (word, value) for word, value in content]
        return encode_item((OBJECT_TAG[self.object_type] << 8 | _STRUCTURE, content))

    def digest_input(self) -> tuple[bytes, int | None] | None:
        """What a digest covers and in which key format; ``None`` when the server does not see it (KMIP 1.4 §3.17)."""
        if self.block is None:
            tag = tags.CERTIFICATE_VALUE if self.object_type == ObjectType.Certificate else tags.OPAQUE_DATA_VALUE
            value = field_of(self.items, tag)
            return None if value is None else (value, None)
        if self.block.material is None:
            return None
        word, value = self.block.material
        return (value if word & 0xFF == ItemType.BYTE_STRING else encode_item(self.block.material)), self.block.format


def read_material(object_type: int, item: Item) -> Material:
    """A registered object from its structure.

    Raises:
        OperationFailed: InvalidField when the structure is not that of the object type, or lacks what it cannot do without.
    """
    tag = OBJECT_TAG.get(object_type)
    if tag is None or item[0] != tag << 8 | _STRUCTURE:
        raise invalid("the object is not of the object type given")
    items: list[Item] = item[1]
    if object_type == ObjectType.Template:
        return Material(object_type, items, None)
    if object_type == ObjectType.OpaqueObject:
        if not isinstance(field_of(items, tags.OPAQUE_DATA_VALUE), bytes):
            raise invalid("the opaque object has no opaque data value")
        return Material(object_type, items, None)
    if object_type == ObjectType.Certificate:
        if not isinstance(field_of(items, tags.CERTIFICATE_VALUE), bytes):
            raise invalid("the certificate has no certificate value")
        return Material(object_type, items, None)
    content = dict(items).get(_KEY_BLOCK)
    if content is None:
        raise invalid("the object has no key block")
    block = read_key_block(content)
    if object_type in _UNCOMPRESSED:
        block.compression = None
    return Material(object_type, items, block)


def symmetric_key(algorithm: int, length: int, key: bytes | bytearray) -> bytes:
    """The structure of a generated symmetric key, format Raw."""
    return encode_structure(
        tags.SYMMETRIC_KEY,
        encode_structure(
            tags.KEY_BLOCK,
            encode_enumeration(tags.KEY_FORMAT_TYPE, KeyFormatType.Raw),
            encode_structure(tags.KEY_VALUE, encode_bytes(tags.KEY_MATERIAL, key)),
            encode_enumeration(tags.CRYPTOGRAPHIC_ALGORITHM, algorithm),
            encode_integer(tags.CRYPTOGRAPHIC_LENGTH, length),
        ),
    )


def digest_attribute(data: bytes | bytearray, key_format: int | None) -> list[Item]:
    """A Digest attribute's value (SHA-256)."""
    value: list[Item] = [
        (tags.HASHING_ALGORITHM << 8 | ItemType.ENUMERATION, int(HashingAlgorithm.SHA_256)),
        (tags.DIGEST_VALUE << 8 | ItemType.BYTE_STRING, sha256(data).digest()),
    ]
    if key_format is not None:
        value.append((_FORMAT, key_format))
    return value


KEY_LENGTHS: Final[dict[int, frozenset[int]]] = {
    CryptographicAlgorithm.DES: frozenset({56, 64}),
    CryptographicAlgorithm.DES3: frozenset({112, 128, 168, 192}),
    CryptographicAlgorithm.AES: frozenset({128, 192, 256}),
    CryptographicAlgorithm.Camellia: frozenset({128, 192, 256}),
    CryptographicAlgorithm.ARIA: frozenset({128, 192, 256}),
    CryptographicAlgorithm.IDEA: frozenset({128}),
    CryptographicAlgorithm.SEED: frozenset({128}),
    CryptographicAlgorithm.SM4: frozenset({128}),
    CryptographicAlgorithm.SKIPJACK: frozenset({80}),
    CryptographicAlgorithm.Twofish: frozenset({128, 192, 256}),
    CryptographicAlgorithm.ChaCha20: frozenset({128, 256}),
    CryptographicAlgorithm.Poly1305: frozenset({256}),
    CryptographicAlgorithm.ChaCha20Poly1305: frozenset({256}),
    CryptographicAlgorithm.GOST28147_89: frozenset({256}),
}
"""Lengths in bits that an algorithm's symmetric keys can have; of algorithms not listed, any multiple of eight."""

_PARITY: Final[dict[tuple[int, int], int]] = {
    (CryptographicAlgorithm.DES, 56): 64,
    (CryptographicAlgorithm.DES3, 112): 128,
    (CryptographicAlgorithm.DES3, 168): 192,
}
"""DES keys are stored with their parity bits (NIST SP 800-67)."""


def material_bits(algorithm: int, length: int) -> int:
    """Bits of the material of a symmetric key of ``length``."""
    return _PARITY.get((algorithm, length), length)

"""Create and Register: new objects, wrapped before they are stored, durable before they are answered (KMIP 1.4 §4.1, §4.3)."""

from __future__ import annotations

from secrets import token_bytes
from typing import Final
from uuid import uuid4

from kmipd.objects import certificate
from kmipd.objects.errors import OperationFailed
from kmipd.objects.managed import ManagedObject
from kmipd.objects.material import (
    KEY_LENGTHS,
    Material,
    digest_attribute,
    material_bits,
    read_material,
    symmetric_key,
)
from kmipd.objects.template import NewAttributes, new_object
from kmipd.objects.values import field_of, invalid
from kmipd.objects.view import DIGEST_ON_DEMAND
from kmipd.operations.context import Context
from kmipd.operations.discovery import OPERATING_SYSTEM_RNG
from kmipd.operations.templates import expand
from kmipd.wire import tags
from kmipd.wire.attributes import read_template
from kmipd.wire.enum_table import MASKS
from kmipd.wire.enums import CryptographicAlgorithm, KeyFormatType, ObjectType, ResultReason
from kmipd.wire.payloads import CreateRequest, CreateResponse, RegisterRequest, RegisterResponse
from kmipd.wire.ttlv import ItemType

MAX_KEY_BITS: Final = 65536
"""Longest key generated, in bits: beyond any algorithm's, and small enough that nobody fills memory with one request."""

_MACS: Final = frozenset(
    {
        CryptographicAlgorithm.HMAC_SHA1,
        CryptographicAlgorithm.HMAC_SHA224,
        CryptographicAlgorithm.HMAC_SHA256,
        CryptographicAlgorithm.HMAC_SHA384,
        CryptographicAlgorithm.HMAC_SHA512,
        CryptographicAlgorithm.HMAC_MD5,
        CryptographicAlgorithm.HMAC_SHA3_224,
        CryptographicAlgorithm.HMAC_SHA3_256,
        CryptographicAlgorithm.HMAC_SHA3_384,
        CryptographicAlgorithm.HMAC_SHA3_512,
    }
)
_SYMMETRIC: Final = (
    frozenset(KEY_LENGTHS)
    | _MACS
    | {
        CryptographicAlgorithm.Blowfish,
        CryptographicAlgorithm.CAST5,
        CryptographicAlgorithm.MARS,
        CryptographicAlgorithm.RC2,
        CryptographicAlgorithm.RC4,
        CryptographicAlgorithm.RC5,
        CryptographicAlgorithm.OneTimePad,
    }
)

_MASK: Final = MASKS["CryptographicUsageMask"]
_CIPHER: Final = _MASK["Encrypt"] | _MASK["Decrypt"]
_MAC: Final = _MASK["MACGenerate"] | _MASK["MACVerify"]
"""The usage of a key whose client names none."""


def _erase(secret: bytearray) -> None:
    """Overwrite a buffer that held a key. Copies that Python made of it are out of reach."""
    secret[:] = bytes(len(secret))


def _check_length(algorithm: int, length: int) -> None:
    if algorithm not in _SYMMETRIC:
        raise invalid("the cryptographic algorithm is not one of symmetric keys")
    allowed = KEY_LENGTHS.get(algorithm)
    if length <= 0 or length > MAX_KEY_BITS or length % 8 or (allowed is not None and length not in allowed):
        raise invalid(f"no key of {CryptographicAlgorithm(algorithm).name} is {length} bits long")


async def create(context: Context, request: CreateRequest) -> CreateResponse:
    """Generate a symmetric key."""
    if request.object_type != ObjectType.SymmetricKey:
        raise invalid("Create makes symmetric keys")
    new = await expand(context, NewAttributes(request.object_type), request.template)
    algorithm = new.required("algorithm")
    length = new.required("length")
    _check_length(algorithm, length)
    new.columns.setdefault("usage_mask", _MAC if algorithm in _MACS else _CIPHER)
    managed = new_object(str(uuid4()), new, context.now, algorithm=algorithm, length=length)
    managed.set_single("Original Creation Date", context.now)
    managed.set_single("Random Number Generator", OPERATING_SYSTEM_RNG)
    key = bytearray(token_bytes(material_bits(algorithm, length) // 8))
    plaintext = bytearray(symmetric_key(algorithm, length, key))
    try:
        managed.set_single("Digest", digest_attribute(key, int(KeyFormatType.Raw)))
        wrapped = await context.wrap(managed, plaintext)
    finally:
        _erase(key)
        _erase(plaintext)
    await context.insert(managed, wrapped)
    context.uids.append(managed.uid)
    context.placeholder = managed.uid
    return CreateResponse(int(ObjectType.SymmetricKey), managed.uid)


def _adopt_key_block(new: NewAttributes, material: Material) -> tuple[int, int]:
    """Algorithm and length of a registered object: what its key block and its attributes say must agree."""
    block = material.block
    if block is None:
        return new.columns.get("algorithm", 0), new.columns.get("length", 0)
    for name, mine in (("algorithm", block.algorithm), ("length", block.length)):
        stated = new.columns.get(name)
        if stated is not None and mine and stated != mine:
            raise invalid(f"the key block and the attributes differ in the cryptographic {name}")
    block.algorithm = block.algorithm or new.columns.get("algorithm", 0)
    block.length = block.length or new.columns.get("length", 0)
    if new.object_type == ObjectType.SymmetricKey and block.format == KeyFormatType.Raw and block.material is not None:
        raw = block.material[1]
        if block.material[0] & 0xFF != ItemType.BYTE_STRING:
            raise invalid("the key material of a raw key is a byte string")
        if block.wrapping is None and block.algorithm and not block.length:
            block.length = len(raw) * 8
        if block.wrapping is None and block.algorithm == CryptographicAlgorithm.AES and len(raw) * 8 != block.length:
            raise invalid("the key material does not have the cryptographic length")
    return block.algorithm, block.length


def _check_sizes(algorithm: int, length: int) -> None:
    """KMIP's integers are signed, and these two never are negative."""
    if algorithm < 0 or length < 0:
        raise invalid("the cryptographic algorithm and length of an object are not negative")


def _describe(managed: ManagedObject, material: Material) -> None:
    """Set what the server itself knows of a registered object: presence, digest, a certificate's attributes."""
    if material.block is not None:
        managed.value_present = material.block.material is not None or material.block.wrapped_value is not None
    if managed.object_type == ObjectType.Certificate:
        certificate.describe(managed, material.items)
    if managed.object_type in DIGEST_ON_DEMAND or managed.object_type == ObjectType.Template:
        return
    covered = material.digest_input()
    if covered is not None:
        managed.set_single("Digest", digest_attribute(*covered))


async def register(context: Context, request: RegisterRequest) -> RegisterResponse:
    """Store an object that the client made."""
    if request.managed_object is None:
        raise OperationFailed(ResultReason.MissingData, "the request has no object to register")
    material = read_material(request.object_type, request.managed_object)
    new = NewAttributes(request.object_type)
    if material.block is not None:
        new.add_settable(material.block.attributes)
    elif request.object_type == ObjectType.Template:
        new.add_settable([inner for inner in read_template(material.items).attributes if inner.name == "Name"])
    await expand(context, new, request.template)
    algorithm, length = _adopt_key_block(new, material)
    if request.object_type == ObjectType.Certificate and not (algorithm and length):
        algorithm, length = certificate.key_of(field_of(material.items, tags.CERTIFICATE_VALUE))
    _check_sizes(algorithm, length)
    managed = new_object(str(uuid4()), new, context.now, algorithm=algorithm, length=length)
    _describe(managed, material)
    plaintext = bytearray(material.encode())
    try:
        wrapped = await context.wrap(managed, plaintext)
    finally:
        _erase(plaintext)
    await context.insert(managed, wrapped)
    context.uids.append(managed.uid)
    context.placeholder = managed.uid
    return RegisterResponse(managed.uid)

"""Get with a Key Wrapping Specification: AES key wrap under another managed key (KMIP 1.4 §2.1.6, RFC 3394)."""

from __future__ import annotations

from typing import Any, Final

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)

from kmipd.objects.errors import OperationFailed
from kmipd.objects.managed import ManagedObject, from_stored
from kmipd.objects.material import KeyBlock, Material, read_material
from kmipd.objects.values import field_of, invalid
from kmipd.objects.view import attributes
from kmipd.operations.context import Context
from kmipd.wire import tags
from kmipd.wire.attributes import encode_attribute
from kmipd.wire.enum_table import MASKS
from kmipd.wire.enums import (
    BlockCipherMode,
    EncodingOption,
    KeyFormatType,
    ObjectType,
    ResultReason,
    State,
    WrappingMethod,
)
from kmipd.wire.ttlv import Item, ItemType, decode_items, encode_item, encode_structure

_WRAP_KEY: Final = MASKS["CryptographicUsageMask"]["WrapKey"]
_UNWRAP_KEY: Final = MASKS["CryptographicUsageMask"]["UnwrapKey"]
_ENUMERATION: Final = ItemType.ENUMERATION
_MAX_NAMES: Final = 64


async def _wrapping_key(context: Context, information: Any, usage: int) -> tuple[bytes, int]:
    """The wrapping key's bytes and the mode to use, from an Encryption Key Information.

    Raises:
        OperationFailed: no such key, not a wrapping key, not active, or a mode other than AES key wrap.
    """
    if not isinstance(information, list):
        raise OperationFailed(ResultReason.FeatureNotSupported, "keys are wrapped by encryption only")
    uid = field_of(information, tags.UNIQUE_IDENTIFIER)
    if not isinstance(uid, str):
        raise invalid("the encryption key information names no key")
    context.uids.append(uid[:256])
    stored = await context.services.storage.get(uid)
    if stored is None:
        raise OperationFailed(ResultReason.WrappingObjectNotFound, "the wrapping key does not exist")
    managed = from_stored(stored)
    if managed.object_type != ObjectType.SymmetricKey or not managed.usage_mask & usage:
        raise OperationFailed(ResultReason.IncompatibleCryptographicUsageMask, "the wrapping key may not do this")
    if managed.destroyed:
        raise OperationFailed(ResultReason.WrappingObjectDestroyed, "the wrapping key has been destroyed")
    if managed.state_at(context.now) != State.Active:
        raise OperationFailed(ResultReason.WrongKeyLifecycleState, "the wrapping key is not active")
    parameters = field_of(information, tags.CRYPTOGRAPHIC_PARAMETERS)
    if parameters is None:
        instances = managed.attributes.get("Cryptographic Parameters")
        parameters = instances[0].value if instances else []
    mode = field_of(parameters, tags.BLOCK_CIPHER_MODE) or int(BlockCipherMode.NISTKeyWrap)
    if mode not in {BlockCipherMode.NISTKeyWrap, BlockCipherMode.AESKeyWrapPadding}:
        raise OperationFailed(ResultReason.UnsupportedCryptographicParameters, "keys are wrapped by AES key wrap only")
    block = read_material(managed.object_type, decode_items(await context.unwrap(stored))[0]).block
    if block is None or block.material is None or block.format != KeyFormatType.Raw or block.wrapping is not None:
        raise OperationFailed(ResultReason.KeyFormatTypeNotSupported, "the wrapping key is not a raw key")
    key: bytes = block.material[1]
    return key, mode


async def unwrap_registered(context: Context, block: KeyBlock) -> None:
    """Replace the wrapped key value that a client registered by its plain text, with the managed key it names.

    Raises:
        OperationFailed: that key is not here or does not fit.
    """
    wrapping = block.wrapping or []
    if field_of(wrapping, tags.WRAPPING_METHOD) != WrappingMethod.Encrypt:
        raise OperationFailed(ResultReason.KeyWrapTypeNotSupported, "the one wrapping method is Encrypt")
    wrapped = block.wrapped_value if block.material is None else block.material[1]
    if not isinstance(wrapped, bytes):
        raise OperationFailed(ResultReason.KeyWrapTypeNotSupported, "the wrapped key value is not a byte string")
    information = field_of(wrapping, tags.ENCRYPTION_KEY_INFORMATION)
    key, mode = await _wrapping_key(context, information, _WRAP_KEY | _UNWRAP_KEY)
    try:
        unwrap = aes_key_unwrap_with_padding if mode == BlockCipherMode.AESKeyWrapPadding else aes_key_unwrap
        plaintext = unwrap(key, wrapped)
        if field_of(wrapping, tags.ENCODING_OPTION) == EncodingOption.NoEncoding:
            block.material = (tags.KEY_MATERIAL << 8 | ItemType.BYTE_STRING, plaintext)
        else:
            block.material = decode_items(plaintext)[0][1][0]
    except (ValueError, IndexError, TypeError, InvalidUnwrap):
        raise OperationFailed(
            ResultReason.CryptographicFailure, "the key does not unwrap under the key it names"
        ) from None
    block.wrapped_value = None
    block.wrapping = None


async def wrap_for_client(
    context: Context, managed: ManagedObject, material: Material, specification: list[Item]
) -> None:
    """Replace the key value of ``material`` by its encryption, and say how in Key Wrapping Data.

    Raises:
        OperationFailed: what is asked cannot be done, or not with these keys.
    """
    if field_of(specification, tags.WRAPPING_METHOD) != WrappingMethod.Encrypt:
        raise OperationFailed(ResultReason.FeatureNotSupported, "the one wrapping method is Encrypt")
    block = material.block
    if block is None:
        raise OperationFailed(ResultReason.IllegalOperation, "the object has nothing to wrap")
    if block.wrapping is not None:
        await unwrap_registered(context, block)
    information = field_of(specification, tags.ENCRYPTION_KEY_INFORMATION)
    key, mode = await _wrapping_key(context, information, _WRAP_KEY)
    if block.material is None:
        raise OperationFailed(ResultReason.KeyValueNotPresent, "the object has no key value")
    option = field_of(specification, tags.ENCODING_OPTION)
    names = [value for word, value in specification if word >> 8 == tags.ATTRIBUTE_NAME][:_MAX_NAMES]
    if option == EncodingOption.NoEncoding:
        if names:
            raise OperationFailed(ResultReason.EncodingOptionError, "attributes are wrapped only with TTLV encoding")
        if block.material[0] & 0xFF != ItemType.BYTE_STRING:
            raise OperationFailed(ResultReason.EncodingOptionError, "a structured key value needs TTLV encoding")
        plaintext: bytes = block.material[1]
    else:
        extra = b"".join(
            encode_attribute(attribute)
            for name in names
            for attribute in attributes(managed, name, context.version, context.now)
        )
        plaintext = encode_structure(tags.KEY_VALUE, encode_item(block.material), extra)
    try:
        wrap = aes_key_wrap_with_padding if mode == BlockCipherMode.AESKeyWrapPadding else aes_key_wrap
        block.wrapped_value = wrap(key, plaintext)
    except (ValueError, InvalidUnwrap):
        raise OperationFailed(
            ResultReason.CryptographicFailure, "AES key wrap cannot wrap a key of this length"
        ) from None
    block.material = None
    block.wrapping = [
        (tags.WRAPPING_METHOD << 8 | _ENUMERATION, int(WrappingMethod.Encrypt)),
        (tags.ENCRYPTION_KEY_INFORMATION << 8 | ItemType.STRUCTURE, information),
    ]
    if option is not None:
        block.wrapping.append((tags.ENCODING_OPTION << 8 | _ENUMERATION, option))

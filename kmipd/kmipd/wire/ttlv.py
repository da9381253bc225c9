"""TTLV: tag, type, length, value (KMIP 1.4 §9.1). A strict decoder and its exact inverse.

An item is a pair ``(word, value)``: ``word`` is the tag and the item type in one number, ``tag << 8 | type``, so that one
comparison checks both. Values are ``list[Item]`` for structures, ``int`` for integers, enumerations, dates (Unix seconds) and
intervals (seconds), ``bool``, ``str``, ``bytes``; a big integer is kept as its ``bytes``, for digests
cover its length.
``encode_items(decode_items(data)) == data`` for all data that decodes.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any

MAX_DEPTH = 32
"""Nested structures accepted. The deepest KMIP structure (a wrapped key's parameters in a batch item) is nine deep."""


class ItemType(IntEnum):
    """Item types (KMIP 1.4 §9.1.1.2; ``DateTimeExtended`` since 2.0)."""

    STRUCTURE = 1
    INTEGER = 2
    LONG_INTEGER = 3
    BIG_INTEGER = 4
    ENUMERATION = 5
    BOOLEAN = 6
    TEXT_STRING = 7
    BYTE_STRING = 8
    DATE_TIME = 9
    INTERVAL = 10
    DATE_TIME_EXTENDED = 11


Item = tuple[int, Any]
"""``(tag << 8 | type, value)``; what ``value`` is follows from the type."""


class TtlvError(ValueError):
    """Bytes that are not TTLV: says what is wrong at which offset, and never repeats a value."""


_HEAD = Struct(">II").unpack_from
_FIXED4 = Struct(">iI").unpack_from
_UNSIGNED4 = Struct(">II").unpack_from
_FIXED8 = Struct(">q").unpack_from
_BOOLEAN = Struct(">Q").unpack_from

_PACK_FIXED4 = Struct(">IIiI").pack
_PACK_UNSIGNED4 = Struct(">IIII").pack
_PACK_FIXED8 = Struct(">IIq").pack
_PACK_HEAD = Struct(">II").pack
_PADDING = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")


def decode_items(data: bytes, position: int = 0, end: int | None = None, depth: int = MAX_DEPTH) -> list[Item]:  # noqa: C901
    """Decode the items that fill ``data[position:end]`` exactly.

    Raises:
        TtlvError: a truncated or overlong item, a wrong length for its type, padding that is not zero, text that is not UTF-8,
            a boolean other than 0 and 1, an unknown type, or structures nested deeper than ``depth``.
    """
    # One loop without a call for each item: half the time of a function for each type.
    if end is None:
        end = len(data)
    items: list[Item] = []
    append = items.append
    while position < end:
        if end - position < 8:
            raise TtlvError(f"truncated item at byte {position}")
        word, length = _HEAD(data, position)
        start = position + 8
        kind = word & 0xFF
        value: Any
        if kind == 7 or kind == 8 or kind == 4:
            stop = start + length
            position = stop + (-length & 7)
            if position > end:
                raise TtlvError(f"item at byte {start - 8} is longer than what holds it")
            value = data[start:stop]
            if position != stop and data[stop:position] != _PADDING[length & 7]:
                raise TtlvError(f"padding at byte {stop} is not zero")
            if kind == 7:
                try:
                    value = value.decode()
                except UnicodeDecodeError:
                    raise TtlvError(f"text at byte {start} is not UTF-8") from None
            elif kind == 4 and (length & 7 or not length):
                raise TtlvError(f"big integer at byte {start - 8} is not a multiple of eight bytes")
        elif kind == 1:
            position = start + length
            if length & 7 or position > end:
                raise TtlvError(f"structure at byte {start - 8} does not fit what holds it")
            if depth <= 1:
                raise TtlvError(f"structure at byte {start - 8} is nested too deep")
            value = decode_items(data, start, position, depth - 1)
        elif kind == 5 or kind == 2 or kind == 10:
            position = start + 8
            if length != 4 or position > end:
                raise TtlvError(f"item at byte {start - 8} is not four bytes long")
            value, padding = (_FIXED4 if kind == 2 else _UNSIGNED4)(data, start)
            if padding:
                raise TtlvError(f"padding at byte {start + 4} is not zero")
        elif kind == 9 or kind == 3 or kind == 6 or kind == 11:
            position = start + 8
            if length != 8 or position > end:
                raise TtlvError(f"item at byte {start - 8} is not eight bytes long")
            if kind == 6:
                number = _BOOLEAN(data, start)[0]
                if number > 1:
                    raise TtlvError(f"boolean at byte {start} is neither 0 nor 1")
                value = number == 1
            else:
                value = _FIXED8(data, start)[0]
        else:
            raise TtlvError(f"unknown item type at byte {start - 5}")
        append((word, value))
    return items


def encode_structure(tag: int, *content: bytes) -> bytes:
    """A structure of already encoded items."""
    body = b"".join(content)
    return _PACK_HEAD(tag << 8 | 1, len(body)) + body


def encode_integer(tag: int, value: int) -> bytes:
    """A 32-bit signed integer."""
    return _PACK_FIXED4(tag << 8 | 2, 4, value, 0)


def encode_enumeration(tag: int, value: int) -> bytes:
    """An enumeration value."""
    return _PACK_UNSIGNED4(tag << 8 | 5, 4, value, 0)


def encode_boolean(tag: int, value: bool) -> bytes:
    """A boolean."""
    return _PACK_FIXED8(tag << 8 | 6, 8, 1 if value else 0)


def encode_date_time(tag: int, value: int) -> bytes:
    """A date and time in Unix seconds."""
    return _PACK_FIXED8(tag << 8 | 9, 8, value)


def encode_text(tag: int, value: str) -> bytes:
    """A text string."""
    raw = value.encode()
    return _PACK_HEAD(tag << 8 | 7, len(raw)) + raw + _PADDING[len(raw) & 7]


def encode_bytes(tag: int, value: bytes | bytearray) -> bytes:
    """A byte string."""
    return b"".join((_PACK_HEAD(tag << 8 | 8, len(value)), value, _PADDING[len(value) & 7]))


def encode_item(item: Item) -> bytes:
    """One item, of any type.

    Raises:
        TtlvError: an item type that TTLV does not have.
    """
    word, value = item
    kind = word & 0xFF
    if kind == 7:
        raw: bytes = value.encode()
        return _PACK_HEAD(word, len(raw)) + raw + _PADDING[len(raw) & 7]
    if kind == 5 or kind == 10:
        return _PACK_UNSIGNED4(word, 4, value, 0)
    if kind == 2:
        return _PACK_FIXED4(word, 4, value, 0)
    if kind == 1:
        body = b"".join([encode_item(child) for child in value])
        return _PACK_HEAD(word, len(body)) + body
    if kind == 8 or kind == 4:
        return b"".join((_PACK_HEAD(word, len(value)), value, _PADDING[len(value) & 7]))
    if kind in {3, 6, 9, 11}:
        return _PACK_FIXED8(word, 8, value)
    raise TtlvError("unknown item type")


def encode_items(items: list[Item]) -> bytes:
    """Items one after the other."""
    return b"".join([encode_item(item) for item in items])

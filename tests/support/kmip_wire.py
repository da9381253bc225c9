"""KMIP bytes written and read without the product's own codec, from the shapes that clients were seen to send."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

STRUCTURE, INTEGER, LONG, BIG, ENUM, BOOL, TEXT, BYTES, DATE, INTERVAL = range(1, 11)


def item(tag: int, kind: int, raw: bytes) -> bytes:
    """An item of any type, padded."""
    return struct.pack(">II", tag << 8 | kind, len(raw)) + raw + bytes(-len(raw) % 8)


def structure(tag: int, *content: bytes) -> bytes:
    return item(tag, STRUCTURE, b"".join(content))


def integer(tag: int, value: int) -> bytes:
    return item(tag, INTEGER, struct.pack(">i", value))


def enum(tag: int, value: int) -> bytes:
    return item(tag, ENUM, struct.pack(">I", value))


def boolean(tag: int, value: bool) -> bytes:
    return item(tag, BOOL, struct.pack(">Q", value))


def text(tag: int, value: str) -> bytes:
    return item(tag, TEXT, value.encode())


def octets(tag: int, value: bytes) -> bytes:
    return item(tag, BYTES, value)


def date(tag: int, value: int) -> bytes:
    return item(tag, DATE, struct.pack(">q", value))


def attribute(name: str, value: bytes, index: int | None = None) -> bytes:
    """An Attribute; ``value`` is an item whose tag is replaced by Attribute Value's."""
    return structure(
        0x420008,
        text(0x42000A, name),
        b"" if index is None else integer(0x420009, index),
        b"\x42\x00\x0b" + value[3:],
    )


def name_value(name: str, kind: int = 1) -> bytes:
    return structure(0x42000B, text(0x420055, name), enum(0x420054, kind))


def uid(value: str) -> bytes:
    return text(0x420094, value)


def version(major: int, minor: int) -> bytes:
    return structure(0x420069, integer(0x42006A, major), integer(0x42006B, minor))


def qlkc(counter: int) -> bytes:
    """The batch item identifiers of vSphere's client library."""
    return b"QLKC" + struct.pack("<I", counter)


def batch_item(operation: int, payload: bytes, identifier: bytes | None = None, extra: bytes = b"") -> bytes:
    return structure(
        0x42000F,
        enum(0x42005C, operation),
        b"" if identifier is None else octets(0x420093, identifier),
        structure(0x420079, payload),
        extra,
    )


def message(*items: bytes, at: tuple[int, int] = (1, 1), header: bytes = b"", count: int | None = None) -> bytes:
    """A request message; ``header`` holds further header fields."""
    return structure(
        0x420078,
        structure(0x420077, version(*at), header, integer(0x42000D, len(items) if count is None else count)),
        *items,
    )


def credential(user: str, password: str) -> bytes:
    return structure(
        0x42000C,
        structure(0x420023, enum(0x420024, 1), structure(0x420025, text(0x420099, user), text(0x4200A1, password))),
    )


def template(*attributes: bytes) -> bytes:
    return structure(0x420091, *attributes)


def aes_template(bits: int = 256, *more: bytes) -> bytes:
    """The template vSphere sends, in its order."""
    return template(
        attribute("Cryptographic Algorithm", enum(0, 3)),
        attribute("Cryptographic Usage Mask", integer(0, 12)),
        attribute("Cryptographic Length", integer(0, bits)),
        *more,
    )


def create_payload(bits: int = 256, *more: bytes) -> bytes:
    return enum(0x420057, 2) + aes_template(bits, *more)


def symmetric_key(key: bytes, algorithm: int = 3, *, compression: int | None = None, key_format: int = 1) -> bytes:
    return structure(
        0x42008F,
        structure(
            0x420040,
            enum(0x420042, key_format),
            b"" if compression is None else enum(0x420041, compression),
            structure(0x420045, octets(0x420043, key)),
            enum(0x420028, algorithm),
            integer(0x42002A, len(key) * 8),
        ),
    )


@dataclass
class Node:
    """A parsed item; children by tag for structures."""

    tag: int
    kind: int
    value: Any

    def all(self, tag: int) -> list[Node]:
        return [child for child in self.value if child.tag == tag]

    def one(self, tag: int) -> Node:
        found = self.all(tag)
        assert len(found) == 1, f"{len(found)} items {tag:06x}"
        return found[0]

    def has(self, tag: int) -> bool:
        return bool(self.all(tag))

    @property
    def tags(self) -> list[int]:
        return [child.tag for child in self.value]


def _value(kind: int, raw: bytes) -> Any:
    forms = {INTEGER: ">i", ENUM: ">I", INTERVAL: ">I", LONG: ">q", DATE: ">q"}
    if kind == STRUCTURE:
        return parse(raw)
    if kind in forms:
        return struct.unpack(forms[kind], raw)[0]
    if kind == BOOL:
        assert raw in {bytes(8), bytes(7) + b"\1"}
        return raw != bytes(8)
    return raw.decode() if kind == TEXT else raw


def parse(data: bytes) -> list[Node]:
    """All items of ``data``; asserts that padding is zero and lengths fit."""
    nodes: list[Node] = []
    position = 0
    while position < len(data):
        word, length = struct.unpack_from(">II", data, position)
        raw = data[position + 8 : position + 8 + length]
        assert len(raw) == length
        end = position + 8 + length + (-length % 8)
        assert not any(data[position + 8 + length : end])
        position = end
        nodes.append(Node(word >> 8, word & 0xFF, _value(word & 0xFF, raw)))
    return nodes


@dataclass
class Item:
    """One batch item of a response."""

    operation: int | None
    identifier: bytes | None
    status: int
    reason: int | None
    message: str | None
    payload: Node | None


@dataclass
class Response:
    """A response message."""

    version: tuple[int, int]
    time_stamp: int
    items: list[Item]
    header: Node


_ITEM_ORDER = [0x42005C, 0x420093, 0x42007F, 0x42007E, 0x42007D, 0x42007C]


def response(data: bytes) -> Response:
    """Read a response message, checking what every response must have."""
    (root,) = parse(data)
    assert root.tag == 0x42007B
    header = root.value[0]
    assert header.tag == 0x42007A
    assert header.tags[:2] == [0x420069, 0x420092]
    assert header.tags[-1] == 0x42000D
    parts = header.one(0x420069)
    items = []
    for node in root.value[1:]:
        assert node.tag == 0x42000F
        assert node.tags == [tag for tag in _ITEM_ORDER if tag in node.tags]
        values: dict[int, Any] = {child.tag: child.value for child in node.value}
        payload = node.one(0x42007C) if 0x42007C in values else None
        status = values[0x42007F]
        assert (0x42007E in values) == (status != 0)
        assert (payload is not None) == (status == 0)
        items.append(
            Item(
                values.get(0x42005C), values.get(0x420093), status, values.get(0x42007E), values.get(0x42007D), payload
            )
        )
    assert header.one(0x42000D).value == len(items)
    return Response((parts.one(0x42006A).value, parts.one(0x42006B).value), header.one(0x420092).value, items, header)

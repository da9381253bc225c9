"""KMIP 1.2 requests as bytes, built from the TTLV rules alone (KMIP 1.4 §9.1), so that no codec measures itself."""

from __future__ import annotations

COUNTER = b"00000000"
"""Eight digits in a name that the load generator counts up."""

_STRUCTURE, _INTEGER, _ENUMERATION, _TEXT, _BYTES = 1, 2, 5, 7, 8


def _item(tag: int, kind: int, value: bytes) -> bytes:
    return tag.to_bytes(3, "big") + bytes([kind]) + len(value).to_bytes(4, "big") + value + b"\0" * (-len(value) % 8)


def _structure(tag: int, *items: bytes) -> bytes:
    return _item(tag, _STRUCTURE, b"".join(items))


def _number(tag: int, kind: int, value: int) -> bytes:
    return _item(tag, kind, value.to_bytes(4, "big"))


def _attribute(name: str, value: bytes) -> bytes:
    return _structure(0x420008, _item(0x42000A, _TEXT, name.encode()), value)


def _name(name: str) -> bytes:
    value = _structure(0x42000B, _item(0x420055, _TEXT, name.encode()), _number(0x420054, _ENUMERATION, 1))
    return _attribute("Name", value)


def _request(operation: int, *payload: bytes) -> bytes:
    version = _structure(0x420069, _number(0x42006A, _INTEGER, 1), _number(0x42006B, _INTEGER, 2))
    header = _structure(0x420077, version, _number(0x42000D, _INTEGER, 1))
    item = _structure(0x42000F, _number(0x42005C, _ENUMERATION, operation), _structure(0x420079, *payload))
    return _structure(0x420078, header, item)


def create(name: str | None = None) -> bytes:
    """Create an AES-256 key for encryption and decryption."""
    attributes = [
        _attribute("Cryptographic Algorithm", _number(0x42000B, _ENUMERATION, 3)),
        _attribute("Cryptographic Usage Mask", _number(0x42000B, _INTEGER, 12)),
        _attribute("Cryptographic Length", _number(0x42000B, _INTEGER, 256)),
    ]
    if name is not None:
        attributes.append(_name(name))
    return _request(1, _number(0x420057, _ENUMERATION, 2), _structure(0x420091, *attributes))


def get(uid: str) -> bytes:
    """Get by identifier."""
    return _request(10, _item(0x420094, _TEXT, uid.encode()))


def locate(name: str) -> bytes:
    """Locate by name."""
    return _request(8, _name(name))


def identifier(response: bytes) -> str:
    """The first Unique Identifier of a response."""
    start = response.index(b"\x42\x00\x94\x07") + 4
    length = int.from_bytes(response[start : start + 4], "big")
    return response[start + 4 : start + 4 + length].decode()

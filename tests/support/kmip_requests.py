"""KMIP 1.x requests as bytes, built from the TTLV rules alone (KMIP 1.4 §9.1), so that no codec tests or measures itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

COUNTER = b"00000000"
"""Eight digits in a name that the load generator counts up."""

_STRUCTURE, _INTEGER, _ENUMERATION, _TEXT, _BYTES = 1, 2, 5, 7, 8
_UNIQUE_IDENTIFIER = 0x420094
_ATTRIBUTE_NAME, _ATTRIBUTE_VALUE = 0x42000A, 0x42000B

Version = tuple[int, int]


def _item(tag: int, kind: int, value: bytes) -> bytes:
    return tag.to_bytes(3, "big") + bytes([kind]) + len(value).to_bytes(4, "big") + value + b"\0" * (-len(value) % 8)


def _structure(tag: int, *items: bytes) -> bytes:
    return _item(tag, _STRUCTURE, b"".join(items))


def _number(tag: int, kind: int, value: int) -> bytes:
    return _item(tag, kind, value.to_bytes(4, "big"))


def _text(tag: int, value: str) -> bytes:
    return _item(tag, _TEXT, value.encode())


def _attribute(name: str, value: bytes) -> bytes:
    return _structure(0x420008, _text(_ATTRIBUTE_NAME, name), value)


def _name(name: str) -> bytes:
    value = _structure(_ATTRIBUTE_VALUE, _text(0x420055, name), _number(0x420054, _ENUMERATION, 1))
    return _attribute("Name", value)


def message(version: Version, *items: tuple[int, bytes]) -> bytes:
    """A request message of (operation, payload) items; a batch numbers its items."""
    major, minor = version
    numbers = _structure(0x420069, _number(0x42006A, _INTEGER, major), _number(0x42006B, _INTEGER, minor))
    header = _structure(0x420077, numbers, _number(0x42000D, _INTEGER, len(items)))
    batch = []
    for number, (operation, payload) in enumerate(items, 1):
        identifier = _item(0x420093, _BYTES, b"item" + number.to_bytes(4, "little")) if len(items) > 1 else b""
        body = _number(0x42005C, _ENUMERATION, operation) + identifier + _structure(0x420079, payload)
        batch.append(_structure(0x42000F, body))
    return _structure(0x420078, header, *batch)


def create(name: str | None = None, version: Version = (1, 2)) -> bytes:
    """Create an AES-256 key for encryption and decryption."""
    attributes = [
        _attribute("Cryptographic Algorithm", _number(_ATTRIBUTE_VALUE, _ENUMERATION, 3)),
        _attribute("Cryptographic Usage Mask", _number(_ATTRIBUTE_VALUE, _INTEGER, 12)),
        _attribute("Cryptographic Length", _number(_ATTRIBUTE_VALUE, _INTEGER, 256)),
    ]
    if name is not None:
        attributes.append(_name(name))
    return message(version, (1, _number(0x420057, _ENUMERATION, 2) + _structure(0x420091, *attributes)))


def get(uid: str, version: Version = (1, 2)) -> bytes:
    """Get by identifier."""
    return message(version, (10, _text(_UNIQUE_IDENTIFIER, uid)))


def locate(name: str, version: Version = (1, 2)) -> bytes:
    """Locate by name."""
    return message(version, (8, _name(name)))


def get_attributes(uid: str, *names: str, version: Version = (1, 2)) -> bytes:
    """GetAttributes by name."""
    asked = b"".join(_text(_ATTRIBUTE_NAME, name) for name in names)
    return message(version, (11, _text(_UNIQUE_IDENTIFIER, uid) + asked))


def add_attributes(uid: str, attributes: Mapping[str, str], version: Version = (1, 2)) -> bytes:
    """A batch that adds text attributes."""
    items = [
        (13, _text(_UNIQUE_IDENTIFIER, uid) + _attribute(name, _text(_ATTRIBUTE_VALUE, value)))
        for name, value in attributes.items()
    ]
    return message(version, *items)


def activate(uid: str, version: Version = (1, 2)) -> bytes:
    """Activate by identifier."""
    return message(version, (18, _text(_UNIQUE_IDENTIFIER, uid)))


def discover_versions(version: Version = (1, 1)) -> bytes:
    """DiscoverVersions without a list."""
    return message(version, (30, b""))


def register_secret(secret: bytes, version: Version = (1, 2)) -> bytes:
    """Register a password as Secret Data."""
    usage = _attribute("Cryptographic Usage Mask", _number(_ATTRIBUTE_VALUE, _INTEGER, 2))
    value = _structure(0x420045, _item(0x420043, _BYTES, secret))
    block = _structure(0x420040, _number(0x420042, _ENUMERATION, 2), value)
    data = _structure(0x420085, _number(0x420086, _ENUMERATION, 1), block)
    return message(version, (3, _number(0x420057, _ENUMERATION, 7) + _structure(0x420091, usage) + data))


def _values(response: bytes, tag: int) -> Iterator[bytes]:
    """The values under ``tag`` at any depth, in order."""
    position = 0
    while position + 8 <= len(response):
        found = int.from_bytes(response[position : position + 3], "big")
        length = int.from_bytes(response[position + 4 : position + 8], "big")
        if found == tag:
            yield response[position + 8 : position + 8 + length]
        structure = response[position + 3] == _STRUCTURE
        position += 8 if structure else 8 + length + -length % 8


def identifier(response: bytes) -> str:
    """The first Unique Identifier of a response."""
    return next(_values(response, _UNIQUE_IDENTIFIER)).decode()


def statuses(response: bytes) -> list[int]:
    """Each item's Result Status: 0 is Success, 1 OperationFailed."""
    return [int.from_bytes(value, "big") for value in _values(response, 0x42007F)]


def key_material(response: bytes) -> bytes:
    """The key bytes of a Get."""
    return next(_values(response, 0x420043))


def version_of(response: bytes) -> Version:
    """The header's protocol version."""
    major, minor = next(_values(response, 0x42006A)), next(_values(response, 0x42006B))
    return int.from_bytes(major, "big"), int.from_bytes(minor, "big")


def state(response: bytes) -> int:
    """The State a GetAttributes answered."""
    return int.from_bytes(next(_values(response, _ATTRIBUTE_VALUE)), "big")

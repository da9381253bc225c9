"""What of an object can be searched by index, and the canonical encoding of searchable values."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from kmipd.objects.lifecycle import will_change
from kmipd.objects.managed import ManagedObject
from kmipd.objects.values import field_of, is_custom
from kmipd.storage.api import IndexEntry
from kmipd.wire import tags
from kmipd.wire.enum_table import MASKS
from kmipd.wire.enums import NameType
from kmipd.wire.ttlv import ItemType, encode_item

ONLINE: Final = MASKS["StorageStatusMask"]["OnLineStorage"]
ARCHIVED: Final = MASKS["StorageStatusMask"]["ArchivalStorage"]
DESTROYED: Final = MASKS["StorageStatusMask"]["DestroyedStorage"]

_LONGEST: Final = 128
"""Longer values are indexed by their SHA-256: no database likes long keys."""

_INDEXED: Final = frozenset(
    {
        "Name",
        "Object Group",
        "Link",
        "Application Specific Information",
        "Contact Information",
        "Alternative Name",
    }
)


def _bounded(value: bytes) -> bytes:
    return value if len(value) <= _LONGEST else b"\xff" + sha256(value).digest()


def index_entry(name: str, kind: int, value: Any) -> IndexEntry | None:
    """How an object with this attribute value is found, or ``None`` when the index does not know the attribute.

    Structures are indexed whole; the order of their fields does not matter. A name without a type is uninterpreted text.
    """
    if name == "Name":
        text = field_of(value, tags.NAME_VALUE)
        if text is None:
            return None
        name_type = field_of(value, tags.NAME_TYPE) or int(NameType.UninterpretedTextString)
        return IndexEntry(name, name_type.to_bytes(4, "big") + _bounded(text.encode()))
    if name not in _INDEXED and not is_custom(name):
        return None
    if kind == ItemType.STRUCTURE:
        value = sorted(value, key=lambda item: item[0])
    return IndexEntry(name, _bounded(encode_item((kind, value))))


def storage_entry(mask: int) -> IndexEntry:
    """Where the object is: online, archived or destroyed."""
    return IndexEntry("Storage Status Mask", mask.to_bytes(4, "big"))


DATED: Final = IndexEntry("State", b"dated")
"""Marks objects whose state changes when a date comes."""


def index_of(managed: ManagedObject, now: int) -> list[IndexEntry]:
    """All index entries of an object; of a destroyed one, only that it is destroyed."""
    if managed.destroyed:
        return [storage_entry(DESTROYED)]
    entries = [storage_entry(ONLINE)]
    for name, instances in managed.attributes.items():
        if name not in _INDEXED and not is_custom(name):
            continue
        for _, kind, value in instances:
            entry = index_entry(name, kind, value)
            if entry is not None:
                entries.append(entry)
    if will_change(managed.state, managed.dates, now):
        entries.append(DATED)
    return list(dict.fromkeys(entries))

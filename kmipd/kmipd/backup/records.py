"""A row as bytes, the same from either database. Format 1; docs/recovery.md describes it."""

from __future__ import annotations

import struct
from typing import Final

from kmipd.storage.api import StoredObject

_FIXED: Final = struct.Struct(">10q4I")
_NO_MATERIAL: Final = 0xFFFFFFFF
"""Stands for the length of the material of a destroyed object."""


class RecordError(ValueError):
    """Bytes that are no record."""


def encode_record(row: StoredObject) -> bytes:
    """Ten signed 64-bit numbers, four 32-bit lengths (big-endian), then identifier, root key id, attributes, material."""
    uid, root_key_id = row.uid.encode(), row.root_key_id.encode()
    material = row.material
    fixed = _FIXED.pack(
        row.object_type,
        row.state,
        row.algorithm,
        row.length,
        row.usage_mask,
        row.initial_date,
        row.last_change_date,
        row.root_key_version,
        row.generation,
        row.revision,
        len(uid),
        len(root_key_id),
        len(row.attributes),
        _NO_MATERIAL if material is None else len(material),
    )
    return b"".join((fixed, uid, root_key_id, row.attributes, material or b""))


def decode_record(data: bytes) -> StoredObject:
    """The row of a record. Raises :class:`RecordError`."""
    try:
        (
            object_type,
            state,
            algorithm,
            length,
            usage_mask,
            initial_date,
            last_change_date,
            root_key_version,
            generation,
            revision,
            uid_size,
            root_key_id_size,
            attributes_size,
            material_size,
        ) = _FIXED.unpack_from(data)
        start = _FIXED.size
        uid = data[start : (start := start + uid_size)].decode()
        root_key_id = data[start : (start := start + root_key_id_size)].decode()
    except (struct.error, UnicodeDecodeError):
        raise RecordError("not a record") from None
    attributes = data[start : (start := start + attributes_size)]
    material = None if material_size == _NO_MATERIAL else data[start : (start := start + material_size)]
    if start != len(data):
        raise RecordError("a record is of another size than it says")
    return StoredObject(
        uid,
        object_type,
        state,
        algorithm,
        length,
        usage_mask,
        initial_date,
        last_change_date,
        attributes,
        material,
        root_key_id,
        root_key_version,
        generation,
        revision,
    )

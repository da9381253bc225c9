"""Stored objects and index entries for tests of the storage."""

from __future__ import annotations

import uuid
from typing import Any

from kmipd.storage.api import IndexEntry, StoredObject


def an_object(uid: str | None = None, **changes: Any) -> StoredObject:
    """A wrapped AES key, Pre-Active, with ``changes``."""
    fields: dict[str, Any] = {
        "uid": uid or str(uuid.uuid4()),
        "object_type": 2,
        "state": 1,
        "algorithm": 3,
        "length": 256,
        "usage_mask": 12,
        "initial_date": 1_700_000_000,
        "last_change_date": 1_700_000_000,
        "attributes": b"attributes",
        "material": b"wrapped",
        "root_key_id": "root",
        "root_key_version": 1,
    }
    return StoredObject(**{**fields, **changes})


def named(name: str) -> IndexEntry:
    """An entry of the attribute Name."""
    return IndexEntry("Name", name.encode())

"""How attribute values become index keys, the same in every database."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from kmipd.storage.api import IndexEntry


def index_key(entry: IndexEntry) -> bytes:
    """32 bytes that stand for an attribute and value of any length: B-tree keys have size limits (PostgreSQL: 2704 bytes)."""
    name = entry.attribute.encode()
    return sha256(len(name).to_bytes(4, "big") + name + entry.value).digest()


def index_keys(entries: Iterable[IndexEntry]) -> list[bytes]:
    """The distinct keys of ``entries``, in their order."""
    return list(dict.fromkeys(map(index_key, entries)))

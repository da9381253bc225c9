"""The record of one wrapped key: ``KMD1``, then one canonical CBOR array (RFC 8949 §4.2).

The array holds format version, provider, root key id, root key version, mechanism, nonce, cipher text, MAC. Its first five
fields are authenticated together with the caller's context (:func:`bind`), so a record cannot be moved to another root key,
version or mechanism.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cbor2

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError

MAGIC = b"KMD1"
FORMAT = 1


class Sealed(NamedTuple):
    """What a mechanism makes of one plaintext; ``mac`` is empty where the cipher authenticates by itself."""

    mechanism: str
    nonce: bytes
    ciphertext: bytes
    mac: bytes


class Record(NamedTuple):
    """A wrapped key and what wraps it."""

    provider: str
    key_id: str
    version: int
    sealed: Sealed


@lru_cache(maxsize=1024)
def _header(provider: str, key_id: str, version: int, mechanism: str) -> bytes:
    header = MAGIC + cbor2.dumps((FORMAT, provider, key_id, version, mechanism))
    return len(header).to_bytes(4, "big") + header


def bind(provider: str, key_id: str, version: int, mechanism: str, aad: bytes) -> bytes:
    """The additional authenticated data of a record: its header with its length, then the caller's ``aad``."""
    return _header(provider, key_id, version, mechanism) + aad


def encode(record: Record) -> bytes:
    """``record`` in its only encoding."""
    sealed = record.sealed
    fields = (FORMAT, record.provider, record.key_id, record.version, *sealed)
    return MAGIC + cbor2.dumps(fields)


def decode(data: bytes) -> Record:
    """Read a record.

    Raises:
        CustodyError: ``data`` is not exactly what :func:`encode` makes of a record (kind IntegrityError).
    """
    if data[:4] != MAGIC:
        raise _malformed("it does not begin with KMD1")
    try:
        fields = cbor2.loads(data[4:])
    except Exception:  # the decoder's errors are of many types; all mean the same here
        raise _malformed("it is not CBOR") from None
    if not isinstance(fields, list) or len(fields) != 8:
        raise _malformed("it is not an array of eight fields")
    if fields[0] != FORMAT:
        raise _malformed("its format version is not known to this release")
    if tuple(type(field) for field in fields) != (int, str, str, int, str, bytes, bytes, bytes):
        raise _malformed("a field has the wrong type")
    record = Record(fields[1], fields[2], fields[3], Sealed(*fields[4:]))
    if encode(record) != data:
        raise _malformed("its encoding is not canonical")
    return record


def _malformed(why: str) -> CustodyError:
    return CustodyError(CustodyErrorKind.INTEGRITY, f"wrapped key record is malformed: {why}; restore it from a backup")

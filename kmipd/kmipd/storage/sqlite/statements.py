"""The SQL of single objects, as functions over a connection that is inside a transaction."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence

from kmipd.storage.api import ObjectExists, Restored, StoredObject

_COLUMNS = (
    "uid, object_type, state, algorithm, length, usage_mask, initial_date, last_change_date, attributes, material,"
    " root_key_id, root_key_version, generation, revision"
)
SELECT = f"SELECT {_COLUMNS} FROM objects WHERE uid = ?"  # noqa: S608 - constants
"""The columns of :class:`StoredObject`, in its order."""

SELECT_ALL = f"SELECT {_COLUMNS} FROM objects ORDER BY seq"  # noqa: S608 - constants

WRAPPINGS = (
    "SELECT root_key_id, root_key_version, count(*) FROM objects WHERE material IS NOT NULL"
    " GROUP BY root_key_id, root_key_version ORDER BY 1, 2"
)

COUNTS = "SELECT state, count(*) FROM objects INDEXED BY objects_by_state GROUP BY state"

_INSERT = (
    f"INSERT INTO objects ({_COLUMNS}) VALUES ({','.join('?' * 14)})"  # noqa: S608 - constants
    " ON CONFLICT (uid) DO NOTHING"
)
_UPDATE = (
    "UPDATE objects SET object_type = ?, state = ?, algorithm = ?, length = ?, usage_mask = ?, last_change_date = ?,"
    " attributes = ?, material = ?, root_key_id = ?, root_key_version = ?, generation = ?, revision = revision + 1"
    " WHERE uid = ? AND revision = ? RETURNING seq, initial_date"
)


def select_many(count: int) -> str:
    """As ``SELECT``, for ``count`` identifiers."""
    return f"SELECT {_COLUMNS} FROM objects WHERE uid IN ({','.join('?' * count)})"  # noqa: S608 - constants and marks


def insert(connection: sqlite3.Connection, stored: StoredObject, keys: Sequence[bytes]) -> None:
    """Add an object and its index keys. Raises :class:`ObjectExists` before anything is written."""
    cursor = connection.execute(
        _INSERT,
        (
            stored.uid,
            stored.object_type,
            stored.state,
            stored.algorithm,
            stored.length,
            stored.usage_mask,
            stored.initial_date,
            stored.last_change_date,
            stored.attributes,
            stored.material,
            stored.root_key_id,
            stored.root_key_version,
            stored.generation,
            stored.revision,
        ),
    )
    if cursor.rowcount == 0:
        raise ObjectExists(f"an object {stored.uid} is already stored")
    _add_keys(connection, keys, stored.initial_date, cursor.lastrowid)


def replace(connection: sqlite3.Connection, stored: StoredObject, keys: Sequence[bytes] | None) -> bool:
    """Replace a row of the expected revision, and its index keys unless ``None``."""
    updated = connection.execute(
        _UPDATE,
        (
            stored.object_type,
            stored.state,
            stored.algorithm,
            stored.length,
            stored.usage_mask,
            stored.last_change_date,
            stored.attributes,
            stored.material,
            stored.root_key_id,
            stored.root_key_version,
            stored.generation,
            stored.uid,
            stored.revision,
        ),
    ).fetchall()
    if not updated:
        return False
    if keys is not None:
        seq, initial_date = updated[0]
        held = {row[0] for row in connection.execute("SELECT key FROM entries WHERE object = ?", (seq,))}
        gone = held.difference(keys)
        if gone:
            connection.executemany("DELETE FROM entries WHERE object = ? AND key = ?", [(seq, key) for key in gone])
        _add_keys(connection, [key for key in keys if key not in held], initial_date, seq)
    return True


def restore(connection: sqlite3.Connection, row: Restored, keys: Sequence[bytes]) -> bool:
    """Write a row of a backup as it is; ``False`` if the row in its place is not the one it replaces."""
    try:
        if row.replaces is None:
            insert(connection, row.stored, keys)
            return True
    except ObjectExists:
        return False
    if not replace(connection, dataclasses.replace(row.stored, revision=row.replaces), keys):
        return False
    connection.execute("UPDATE objects SET revision = ? WHERE uid = ?", (row.stored.revision, row.stored.uid))
    return True


def beat(connection: sqlite3.Connection, now: int) -> None:
    """Write something small."""
    connection.execute("UPDATE heartbeat SET at = ?", (now,))


def _add_keys(connection: sqlite3.Connection, keys: Sequence[bytes], initial_date: int, seq: int | None) -> None:
    if keys:
        connection.executemany(
            "INSERT INTO entries (key, initial_date, object) VALUES (?, ?, ?)",
            [(key, initial_date, seq) for key in keys],
        )

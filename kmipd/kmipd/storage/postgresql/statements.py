"""The SQL of single objects. Each write is one statement: one round trip, and a transaction of its own."""

from __future__ import annotations

from kmipd.storage.api import StoredObject

_COLUMNS = (
    "uid, object_type, state, algorithm, length, usage_mask, initial_date, last_change_date, attributes, material,"
    " root_key_id, root_key_version, generation, revision"
)
"""The fields of :class:`StoredObject`, in its order."""

SELECT = f"SELECT {_COLUMNS} FROM objects WHERE uid = $1"  # noqa: S608 - constants
SELECT_MANY = f"SELECT {_COLUMNS} FROM objects WHERE uid = ANY ($1::text[])"  # noqa: S608 - constants
SELECT_ALL = f"SELECT {_COLUMNS} FROM objects ORDER BY seq"  # noqa: S608 - constants
WRAPPINGS = (
    "SELECT root_key_id, root_key_version, count(*) FROM objects WHERE material IS NOT NULL"
    " GROUP BY root_key_id, root_key_version ORDER BY 1, 2"
)
COUNTS = "SELECT state, count(*) FROM objects GROUP BY state"
BEAT = "UPDATE heartbeat SET at = clock_timestamp() RETURNING at"

INSERT = f"""
WITH stored AS (
    INSERT INTO objects ({_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (uid) DO NOTHING
    RETURNING seq, initial_date
), indexed AS (
    INSERT INTO entries (key, initial_date, object)
    SELECT key, stored.initial_date, stored.seq FROM stored, unnest($15::bytea[]) AS key
)
SELECT seq FROM stored"""  # noqa: S608 - constants
"""One row if the object was new, none if there is one of this identifier."""

_UPDATED = """
WITH stored AS (
    UPDATE objects SET object_type = $3, state = $4, algorithm = $5, length = $6, usage_mask = $7, last_change_date = $8,
        attributes = $9, material = $10, root_key_id = $11, root_key_version = $12, generation = $13, revision = revision + 1
    WHERE uid = $1 AND revision = $2
    RETURNING seq, initial_date
)"""

REPLACE = _UPDATED + " SELECT seq FROM stored"  # noqa: S608 - constants
"""One row if the revision was the expected one, else none."""

REPLACE_INDEXED = f"""{_UPDATED}, unindexed AS (
    DELETE FROM entries USING stored WHERE entries.object = stored.seq AND entries.key <> ALL ($14::bytea[])
), indexed AS (
    INSERT INTO entries (key, initial_date, object)
    SELECT key, stored.initial_date, stored.seq FROM stored, unnest($14::bytea[]) AS key
    ON CONFLICT DO NOTHING
)
SELECT seq FROM stored"""  # noqa: S608 - constants
"""As ``REPLACE``, and the object's entries become those given."""

RESTORE_NEW = INSERT.replace("SELECT seq FROM stored", "SELECT $1::text FROM stored")
"""As ``INSERT``, and the row is the identifier."""

RESTORE_NEWER = REPLACE_INDEXED.replace("revision = revision + 1", "revision = $15").replace(
    "SELECT seq FROM stored", "SELECT $1::text FROM stored"
)
"""As ``REPLACE_INDEXED``, and the revision becomes the fifteenth parameter; the row is the identifier."""


def insert_arguments(stored: StoredObject) -> tuple[object, ...]:
    """The first fourteen parameters of ``INSERT``."""
    return (
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
    )


def replace_arguments(stored: StoredObject) -> tuple[object, ...]:
    """The first thirteen parameters of ``REPLACE`` and ``REPLACE_INDEXED``."""
    return (
        stored.uid,
        stored.revision,
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
    )

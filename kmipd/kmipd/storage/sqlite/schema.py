"""The SQLite schema, as numbered migrations.

Every index ends in (initial_date, seq), the order in which Locate answers, and holds the columns that Locate may ask for, so
that both a page and its total come from one index.
"""

from __future__ import annotations

from kmipd.storage.migration import Migration

APPLICATION_ID = 0x4B4D4944
"""The mark in the file's header (``KMID``) by which file(1) and this program know it."""

MIGRATIONS = (
    Migration(
        version=1,
        readable_by=1,
        statements=(
            """CREATE TABLE migrations (
                version INTEGER PRIMARY KEY,
                readable_by INTEGER NOT NULL,
                applied_at INTEGER NOT NULL
            ) STRICT""",
            """CREATE TABLE keyspace (
                singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
                id BLOB NOT NULL CHECK (length(id) = 16),
                created_at INTEGER NOT NULL
            ) STRICT""",
            "CREATE TABLE heartbeat (singleton INTEGER PRIMARY KEY CHECK (singleton = 1), at INTEGER NOT NULL) STRICT",
            "INSERT INTO heartbeat VALUES (1, 0)",
            """CREATE TABLE objects (
                seq INTEGER PRIMARY KEY,
                uid TEXT NOT NULL UNIQUE,
                object_type INTEGER NOT NULL,
                state INTEGER NOT NULL,
                algorithm INTEGER NOT NULL,
                length INTEGER NOT NULL,
                usage_mask INTEGER NOT NULL,
                initial_date INTEGER NOT NULL,
                last_change_date INTEGER NOT NULL,
                root_key_id TEXT NOT NULL,
                root_key_version INTEGER NOT NULL,
                generation INTEGER NOT NULL,
                revision INTEGER NOT NULL,
                attributes BLOB NOT NULL,
                material BLOB
            ) STRICT""",
            """CREATE INDEX objects_by_date
                ON objects (initial_date, seq, object_type, state, algorithm, length, usage_mask)""",
            """CREATE INDEX objects_by_state
                ON objects (state, initial_date, seq, object_type, algorithm, length, usage_mask)""",
            """CREATE INDEX objects_by_type
                ON objects (object_type, initial_date, seq, state, algorithm, length, usage_mask)""",
            """CREATE TABLE entries (
                key BLOB NOT NULL,
                initial_date INTEGER NOT NULL,
                object INTEGER NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
                PRIMARY KEY (key, initial_date, object)
            ) STRICT, WITHOUT ROWID""",
            "CREATE UNIQUE INDEX entries_by_object ON entries (object, key)",
        ),
    ),
)

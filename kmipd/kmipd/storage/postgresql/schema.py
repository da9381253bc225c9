"""The PostgreSQL schema, as numbered migrations that run inside the schema of the configuration (``search_path``).

Every index ends in (initial_date, seq), the order in which Locate answers. Integers are all ``bigint``: KMIP's are 32 or 64
bits wide, signed or not, and none of them is worth an overflow.
"""

from __future__ import annotations

from kmipd.storage.migration import Migration

MIGRATIONS = (
    Migration(
        version=1,
        readable_by=1,
        statements=(
            """CREATE TABLE keyspace (
                singleton integer PRIMARY KEY CHECK (singleton = 1),
                id uuid NOT NULL,
                created_at timestamptz NOT NULL DEFAULT now()
            )""",
            "CREATE TABLE heartbeat (singleton integer PRIMARY KEY CHECK (singleton = 1), at timestamptz NOT NULL)",
            "INSERT INTO heartbeat VALUES (1, now())",
            """CREATE TABLE objects (
                seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                uid text NOT NULL UNIQUE,
                object_type bigint NOT NULL,
                state bigint NOT NULL,
                algorithm bigint NOT NULL,
                length bigint NOT NULL,
                usage_mask bigint NOT NULL,
                initial_date bigint NOT NULL,
                last_change_date bigint NOT NULL,
                attributes bytea NOT NULL,
                material bytea,
                root_key_id text NOT NULL,
                root_key_version bigint NOT NULL,
                generation bigint NOT NULL,
                revision bigint NOT NULL
            )""",
            "CREATE INDEX objects_by_date ON objects (initial_date, seq)",
            "CREATE INDEX objects_by_state ON objects (state, initial_date, seq)",
            "CREATE INDEX objects_by_type ON objects (object_type, initial_date, seq)",
            """CREATE TABLE entries (
                key bytea NOT NULL,
                initial_date bigint NOT NULL,
                object bigint NOT NULL REFERENCES objects (seq) ON DELETE CASCADE,
                PRIMARY KEY (key, initial_date, object)
            )""",
            "CREATE UNIQUE INDEX entries_by_object ON entries (object, key)",
        ),
    ),
)

JOURNAL = """CREATE TABLE IF NOT EXISTS migrations (
    version integer PRIMARY KEY,
    readable_by integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""
"""The record of migrations, which exists before the first of them."""

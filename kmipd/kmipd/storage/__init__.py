"""KMIP objects on disk: one repository interface, SQLite and PostgreSQL behind it."""

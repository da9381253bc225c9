"""One database file on a local volume, held by one process."""

"""The connection URI: read from its file each time, and taken apart into one URI for each host."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from kmipd.storage.api import StorageError


def read_uri(path: Path) -> str:
    """The URI in the file at ``path``. Raises :class:`StorageError`, which does not repeat it."""
    try:
        uri = path.read_text().strip()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; it must hold the URI of a PostgreSQL database") from error
    except UnicodeDecodeError:
        raise StorageError(f"{path}: it is not text; it must hold the URI of a PostgreSQL database") from None
    if not uri.startswith(("postgresql://", "postgres://")):
        raise StorageError(
            f"{path}: it does not start with postgresql://; it must hold the URI of a PostgreSQL database"
        )
    return uri


def single_host_uris(uri: str) -> list[str]:
    """One URI for each host that ``uri`` lists before its path, so that each can be given a time limit of its own."""
    parts = urlsplit(uri)
    credentials, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}")) for host in hosts.split(",")]

"""The connection URI: read from its file each time, and taken apart into one URI for each host."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from kmipd.storage.api import StorageError


def read_uris(path: Path) -> list[str]:
    """The URI in the file at ``path`` as one URI for each of its hosts.

    Raises:
        StorageError: there is none; the message does not repeat what is there.
    """
    try:
        return single_host_uris(path.read_text().strip())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; it must hold the URI of a PostgreSQL database") from error
    except ValueError:
        raise unusable(path) from None


def single_host_uris(uri: str) -> list[str]:
    """One URI for each host that ``uri`` lists before its path, so that each can be given a time limit of its own.

    Raises:
        ValueError: it is no PostgreSQL URI.
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError("not a PostgreSQL URI")
    credentials, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}")) for host in hosts.split(",")]


def unusable(path: Path) -> StorageError:
    """The file at ``path`` does not hold what it should."""
    return StorageError(f"{path}: it does not hold the URI (postgresql://...) of a PostgreSQL database")

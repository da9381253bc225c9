"""Notice that a file was replaced, also by the symlink swap with which the kubelet updates a mounted directory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

INTERVAL = 0.1
"""Seconds between looks. A look is one stat(2) per file, some microseconds. Unlike inotify it also sees changes on mounts that
raise no events, and needs no care for a directory, a link or a target that is itself replaced."""

# A file changed twice within the file system's clock tick (at most 10 ms) may look the same both times; so a file that is
# younger than this when it is looked at is looked at again as if it had changed.
_SETTLED_NS = 50_000_000

_Signature = tuple[int, int, int, int]


class FileWatch:
    """Remembers how some files looked."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen: tuple[_Signature | None, ...] | None = None

    def changed(self) -> bool:
        """Whether any file may differ from what it was at the last call; true at the first."""
        signatures = tuple(_signature(path) for path in self._paths)
        if signatures == self._seen:
            return False
        horizon = time.time_ns() - _SETTLED_NS
        settled = all(signature is None or signature[3] < horizon for signature in signatures)
        self._seen = signatures if settled else None
        return True

    def forget(self) -> None:
        """Make the next call report a change."""
        self._seen = None


def _signature(path: Path) -> _Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)

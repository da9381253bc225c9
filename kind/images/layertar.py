"""Turns a folder into a layer: a plain tar whose bytes depend on names, kinds, x bits and contents alone."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

# One moment for every file: 1 January 2026, 00:00 UTC.
EPOCH = 1_767_225_600
# Folders any user may write to where no volume is mounted over them; all others are read-only to non-root.
_STICKY = frozenset({"tmp", "var/tmp"})


@dataclass(frozen=True)
class Blob:
    """A file with its content's SHA-256 (hexadecimal) and length in bytes."""

    path: Path
    sha256: str
    size: int


class HashingWriter:
    """A binary sink that counts and hashes what goes through it."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write all of the data."""
        self._hash.update(data)
        self.size += len(data)
        return self._target.write(data)

    @property
    def sha256(self) -> str:
        """The hexadecimal digest of everything written so far."""
        return self._hash.hexdigest()


def entry(name: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> tarfile.TarInfo:
    """Describe one member owned by root at the fixed moment."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.size = size
    info.linkname = target
    info.mtime = EPOCH
    return info


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        found += [Path(folder, name) for name in (*folders, *files)]
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def write_layer(tree: Path, target: Path) -> Blob:
    """Write a folder as a layer. Every file becomes readable by all and writable by root alone.

    Raises:
        ValueError: the tree holds something that is neither file, folder nor symbolic link.
    """
    with target.open("wb") as raw:
        sink = HashingWriter(raw)
        with tarfile.open(fileobj=cast(IO[bytes], sink), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in _walk(tree):
                name = path.relative_to(tree).as_posix()
                status = path.lstat()
                if stat.S_ISLNK(status.st_mode):
                    tar.addfile(entry(name, tarfile.SYMTYPE, 0o777, target=os.readlink(path)))
                elif stat.S_ISDIR(status.st_mode):
                    tar.addfile(entry(name, tarfile.DIRTYPE, 0o1777 if name in _STICKY else 0o755))
                elif stat.S_ISREG(status.st_mode):
                    mode = 0o755 if status.st_mode & 0o111 else 0o644
                    with path.open("rb") as content:
                        tar.addfile(entry(name, tarfile.REGTYPE, mode, status.st_size), content)
                else:
                    raise ValueError(f"{name}: neither file, folder nor symbolic link")
        return Blob(target, sink.sha256, sink.size)


def unpack(layer: Path, root: Path) -> None:
    """Unpack a layer of :func:`write_layer` over a folder, as a container runtime would (no whiteouts are made)."""
    with tarfile.open(layer, "r:") as tar:
        # Our own layer: absolute symbolic links and /tmp's mode are meant.
        tar.extractall(root, filter="fully_trusted")


def names(layer: Path) -> set[str]:
    """Return the paths of everything in a layer but its folders."""
    with tarfile.open(layer, "r:") as tar:
        return {member.name for member in tar if not member.isdir()}

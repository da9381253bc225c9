"""What a database file needs of its volume: a local file system, one owner, and directory entries that last."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from kmipd.storage.api import StorageError

_NETWORK = "locks and flushes are another machine's promise, and two machines may hold the file at once"
_CLUSTER = "several machines can mount it at once and its shared memory is not common to them"
_USER_SPACE = "a user-space program decides what a flush and a lock mean"

REFUSED_FILE_SYSTEMS = {
    0x6969: ("NFS", _NETWORK),
    0x517B: ("SMB", _NETWORK),
    0xFF534D42: ("CIFS", _NETWORK),
    0xFE534D42: ("SMB2", _NETWORK),
    0x5346414F: ("AFS", _NETWORK),
    0x6B414653: ("kAFS", _NETWORK),
    0x73757245: ("Coda", _NETWORK),
    0x564C: ("NCP", _NETWORK),
    0x01021997: ("9p", _NETWORK),
    0x786F4256: ("VirtualBox shared folder", _NETWORK),
    0x00C36400: ("CephFS", _CLUSTER),
    0x0BD00BD0: ("Lustre", _CLUSTER),
    0x47504653: ("GPFS", _CLUSTER),
    0x19830326: ("BeeGFS", _CLUSTER),
    0x01161970: ("GFS2", _CLUSTER),
    0x7461636F: ("OCFS2", _CLUSTER),
    0x65735546: ("FUSE (also virtiofs)", _USER_SPACE),
}
"""statfs(2) ``f_type`` values on which a write-ahead log cannot be trusted: name and reason."""

VOLATILE_FILE_SYSTEMS = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
"""File systems in memory: usable for a trial, nothing survives the machine."""


def file_system_type(path: Path) -> int:
    """``f_type`` of the file system that holds ``path``: the first word of ``struct statfs`` on every 64-bit Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = (ctypes.c_ulong * 32)()
    if libc.statfs(os.fsencode(path), ctypes.byref(buffer)) != 0:
        number = ctypes.get_errno()
        raise StorageError(f"{path}: {os.strerror(number)}")
    return int(buffer[0]) & 0xFFFFFFFF


def refuse_network_file_system(path: Path, type_: int) -> None:
    """Raise :class:`StorageError` when a database must not live on a file system of ``type_``."""
    if type_ in REFUSED_FILE_SYSTEMS:
        name, reason = REFUSED_FILE_SYSTEMS[type_]
        raise StorageError(
            f"{path}: SQLite is not used on {name}: {reason}; use a volume with a local file system, or PostgreSQL"
        )


def fsync_directory(path: Path) -> None:
    """Make the entries of the directory ``path`` (files just created in it) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class OwnerLock:
    """The exclusive right to a database file, as a flock(2) on a file beside it; the kernel frees it with the process.

    The lock file stays when the lock is released: removing it would let two processes lock two files of one name.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, database: Path) -> Self:
        """Lock ``database`` without waiting. Raises :class:`StorageError` that names the holder."""
        path = database.with_name(database.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}; the volume must be mounted and writable") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 512, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise StorageError(
                f"{database}: it is in use by {holder}; one process may hold it, stop that one first"
            ) from None
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the right up; harmless when done twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

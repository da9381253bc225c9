"""The UNIX socket: held by a lock for life, so that a stale one is replaced and a live one never is."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from pathlib import Path

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError

_LOCK_PATIENCE = 5.0
"""Seconds to wait for a predecessor that is ending."""


class Listener:
    """A bound, listening socket at ``path``, mode 0600 (0660 where the peer has another uid) and its lock file beside it."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        """Bind.

        Raises:
            CustodyError: another custody serves there, the path is not a socket, or the directory refuses (ConfigurationError).
        """
        self.path = path
        try:
            self._lock = _lock(path)
            self.socket = _bind(path, 0o660 if shared else 0o600)
        except OSError as error:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION, f"socket {path}: {error.strerror or error}; check its directory"
            ) from None
        self._inode = os.stat(path).st_ino

    def close(self) -> None:
        """Stop listening and remove the socket if it is still this one."""
        self.socket.close()
        try:
            if os.stat(self.path).st_ino == self._inode:
                self.path.unlink()
        except FileNotFoundError:
            pass
        os.close(self._lock)


def _lock(path: Path) -> int:
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    give_up = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                os.close(lock)
                raise CustodyError(
                    CustodyErrorKind.CONFIGURATION, f"another custody serves at {path}; stop it or use another socket"
                ) from None
            time.sleep(0.05)
        else:
            return lock


def _bind(path: Path, mode: int) -> socket.socket:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION, f"{path} exists and is not a socket; remove it or use another path"
            )
        path.unlink()
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        listener.bind(str(path))
        os.chmod(path, mode)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener

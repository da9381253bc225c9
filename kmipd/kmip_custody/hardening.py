"""What the process does so that its secrets stay in its memory: no core dump, no debugger of the same uid, private files."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def harden() -> None:
    """Forbid core dumps and tracing by the same uid (prctl(2), PR_SET_DUMPABLE), and create files for the owner only.

    Raises:
        OSError: the kernel refused.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Receive SIGTERM when the parent ends, also if it was killed: its successor needs the socket.

    Raises:
        OSError: the kernel refused.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite ``buffer`` with zeros. Best effort: the interpreter and the kernel may hold copies."""
    buffer[:] = bytes(len(buffer))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")

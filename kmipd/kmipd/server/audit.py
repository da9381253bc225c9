"""The audit: one JSON line per operation, written before its answer is sent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path

from kmipd.operations.api import AuditEvent
from kmipd.server.counters import Counters

_STDOUT = 1

# Refusals kept in memory while nothing can be written. Operations are not counted: none is begun in that state.
_MAX_PENDING = 1000


class AuditUnavailable(OSError):
    """The line cannot be written: nothing may be answered that was not audited."""


class AuditLog:
    """Formats events as they come and writes them at :meth:`flush`, one write for all operations of a message.

    Lines go to standard output or to ``path``, opened for appending, and again at :meth:`reopen` for the sake of log rotators.
    """

    def __init__(
        self,
        instance: str,
        region: str,
        counters: Counters,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._where = f'"instance":{quote(instance)},"region":{quote(region)}'
        self._counters = counters
        self._path = path
        self._clock = clock
        self._second = -1
        self._prefix = ""
        self._pending: list[str] = []
        self._fd = _STDOUT
        self.available = True
        self.reopen()

    def reopen(self) -> None:
        """Open the file again, making it when it is not there. Raises ``OSError``."""
        if self._path is None:
            os.set_blocking(_STDOUT, True)
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._fd != _STDOUT:
            os.close(self._fd)
        self._fd = fd

    def record(self, event: AuditEvent) -> None:
        """Take one operation's outcome."""
        operation, uids, status, reason, message, version, client, microseconds, correlation = event
        self._counters.request(operation, status, reason, microseconds)
        objects = quote(uids[0]) if len(uids) == 1 else ",".join([quote(uid) for uid in uids])
        tail = f',"message":{quote(message)}' if message else ""
        if correlation:
            tail += f',"correlation":{quote(correlation)}'
        self._pending.append(
            f'{self._time()}"client":{quote(client.name)},"fingerprint":"{client.fingerprint}","address":"{client.address}",'
            f'"operation":{quote(operation)},"objects":[{objects}],"outcome":"{status}","reason":"{reason}",'
            f'"version":"{version}","us":{microseconds}{tail}}}\n'
        )

    def refused(self, address: str, fingerprint: str, reason: str) -> None:
        """Write that a client may not, or no longer, act. Never raises: there is no answer to hold back."""
        if not self.available and len(self._pending) >= _MAX_PENDING:
            return
        self._pending.append(
            f'{self._time()}"client":"","fingerprint":"{fingerprint}","address":"{address}","operation":"","objects":[],'
            f'"outcome":"Refused","reason":{quote(reason)},"version":"","us":0}}\n'
        )
        try:
            self.flush()
        except AuditUnavailable:
            return

    def flush(self) -> None:
        """Write what was recorded. A reader that is slow holds the server back, rather than losing lines.

        Raises:
            AuditUnavailable: it cannot be written; what is left is kept for the next try.
        """
        if not self._pending:
            return
        data = "".join(self._pending).encode("ascii")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
        except OSError as error:
            self._pending[:] = [data[written:].decode("ascii")]
            self._counters.audit_failures += 1
            self.available = False
            raise AuditUnavailable(error.errno, "the audit cannot be written", str(self._path or "stdout")) from error
        self._pending.clear()
        self.available = True

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            self.flush()
        except AuditUnavailable:
            return
        finally:
            if self._fd != _STDOUT:
                os.close(self._fd)
                self._fd = _STDOUT

    def _time(self) -> str:
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f'{{"time":"{self._prefix}.{int((now - second) * 1000):03d}Z",{self._where},'

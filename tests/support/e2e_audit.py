"""The API server's audit log: who wrote what. Reads, Leases and Events are not in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Write:
    """One write that the API server answered."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int


@dataclass(frozen=True)
class AuditLog:
    """The file; ``mark`` gives a place in it, ``since`` what came after."""

    path: Path

    def mark(self) -> int:
        """The end of the log now."""
        return self.path.stat().st_size

    def since(self, mark: int, user: str = "kmip-operator") -> list[Write]:
        """Writes after ``mark`` by users whose name holds ``user``."""
        return [write for write in self._read(mark) if user in write.user]

    def _read(self, mark: int) -> Iterator[Write]:
        with self.path.open("rb") as file:
            file.seek(mark)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                entry = json.loads(line)
                target = entry.get("objectRef", {})
                resource = "/".join(filter(None, (target.get("resource", ""), target.get("subresource", ""))))
                yield Write(
                    user=entry["user"]["username"],
                    verb=entry["verb"],
                    resource=resource,
                    namespace=target.get("namespace", ""),
                    name=target.get("name", ""),
                    code=entry.get("responseStatus", {}).get("code", 0),
                )

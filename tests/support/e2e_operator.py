"""The operator's log over a whole run, whatever became of its pods."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kind.native.state import State


@dataclass
class OperatorLog:
    """Reads the nodes' files; what was collected stays when a pod goes."""

    state: State
    lines: list[str] = field(default_factory=list)
    _read: dict[tuple[Path, int], int] = field(default_factory=dict)

    def collect(self) -> None:
        """Take what is new in the files."""
        for path in sorted(self.state.folder.glob("nodes/*/log/pods/*_kmip-operator-*/operator/*.log")):
            with path.open("rb") as file:
                key = (path, path.stat().st_ino)
                file.seek(self._read.get(key, 0))
                data = file.read()
            whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
            self._read[key] = self._read.get(key, 0) + len(whole)
            # Each line is: time, stream, F (full) or P (partial), text.
            self.lines += [
                line.split(" ", 3)[3] for line in whole.decode(errors="replace").splitlines() if line.count(" ") >= 3
            ]

    def mark(self) -> int:
        """A place in the log, after collecting."""
        self.collect()
        return len(self.lines)

    def entries(self, mark: int = 0) -> list[dict[str, Any]]:
        """The structured lines after ``mark``; a line that is not JSON is an entry of level ``unstructured``."""
        return [_entry(line) for line in self.lines[mark:]]


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return {"level": "unstructured", "message": line}
    return entry if isinstance(entry, dict) else {"level": "unstructured", "message": line}

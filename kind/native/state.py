"""Where a cluster keeps its state, and the small files in it."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kind.native.processes import Process

DEFAULT_NAME = "kmip"


class StateError(Exception):
    """The state folder does not hold what the command needs; the message says what to do."""


def state_root() -> Path:
    """Parent of all clusters' state folders: `$KMIP_STATE`, else `/var/lib/kmip-native`."""
    return Path(os.environ.get("KMIP_STATE") or "/var/lib/kmip-native").absolute()


@dataclass(frozen=True)
class State:
    """The state folder of one cluster."""

    folder: Path

    @classmethod
    def of(cls, name: str) -> "State":
        """The folder for a name.

        Raises:
            StateError: The name is not one plain path element.
        """
        if not name or not all(letter.isalnum() or letter == "-" for letter in name) or name.startswith("-"):
            message = f"a cluster's name has letters, digits and inner dashes only, not {name!r}"
            raise StateError(message)
        return cls(state_root() / name)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.folder.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        """Logs of the control plane and the agent."""
        return self.folder / "log"

    @property
    def shared(self) -> Path:
        """The folder every node sees as `/var/lib/kmip-shared`."""
        return self.folder / "shared"

    def node(self, name: str) -> Path:
        """The folder of one node: its disk, configuration and logs."""
        return self.folder / "nodes" / name

    def create(self) -> None:
        """Make the folder; private, as it holds keys, but the kubeconfig's path is open to look up."""
        for folder in (self.folder, self.pki, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.pki.chmod(0o700)

    def remove(self) -> None:
        """Remove the folder and, when no other cluster is left, its parent."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        try:
            self.folder.parent.rmdir()
        except OSError:
            return

    def write(self, name: str, value: Any) -> None:
        """Write a small JSON file, whole or not at all."""
        path = self.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(value, indent=1))
        scratch.replace(path)

    def read(self, name: str) -> Any:
        """Read a small JSON file.

        Raises:
            StateError: It is not there or was cut short.
        """
        path = self.folder / f"{name}.json"
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError) as error:
            message = f"cluster {self.name!r} has no readable {path.name}: run `up`, or `down` for a half-made one"
            raise StateError(message) from error

    def remember(self, name: str, process: Process) -> None:
        """Write down which process plays a part."""
        self.write(f"run/{name}", {"pid": process.pid, "started": process.started})

    def process(self, name: str) -> Process | None:
        """The process that plays a part, if it still runs."""
        try:
            found = self.read(f"run/{name}")
        except StateError:
            return None
        process = Process(int(found["pid"]), int(found["started"]))
        return process if process.alive() else None

    def processes(self) -> dict[str, Process]:
        """All parts that run, by name."""
        names = sorted(path.stem for path in (self.folder / "run").glob("*.json"))
        return {name: process for name in names if (process := self.process(name)) is not None}

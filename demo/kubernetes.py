"""kubectl and helm, as the demonstration calls them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.steps import wait_for

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("keymanager", "rootkey", "kmipinstance", "clientcertificate")


class CommandError(Exception):
    """A command failed; the message is what it printed."""


def run(command: Sequence[str | Path], *, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """Run ``command`` from the project's root; its standard output. Raises CommandError."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **(env or {})}
    )
    if done.returncode:
        raise CommandError(f"{' '.join(words[:6])}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


@dataclass(frozen=True)
class Kubernetes:
    """A cluster to work on: its kubeconfig (``None``: the environment's) and where kubectl and helm are."""

    kubeconfig: Path | None
    bin_dir: Path | None

    def _tool(self, name: str) -> str:
        return str(self.bin_dir / name) if self.bin_dir else name

    def _env(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {}

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """``kubectl ARGUMENTS``; its output."""
        return run([self._tool("kubectl"), *arguments], stdin=stdin, env=self._env())

    def helm(self, *arguments: str | Path) -> str:
        """``helm ARGUMENTS``; its output."""
        return run([self._tool("helm"), *arguments], env=self._env())

    def namespace(self, name: str) -> None:
        """Create the namespace unless it is there."""
        self.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")

    def apply(self, manifest: str | Path) -> None:
        """Server-side apply a file, a folder or YAML text."""
        arguments = ["apply", "--server-side", "-f"]
        if isinstance(manifest, Path):
            self.kubectl(*arguments, manifest)
        else:
            self.kubectl(*arguments, "-", stdin=manifest)

    def secret(self, namespace: str, name: str, values: dict[str, str]) -> None:
        """Create or replace a Secret from text values."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": values,
        }
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json"))
        return found

    def wait_ready(self, namespace: str, *, timeout: float) -> None:
        """Wait until every kmip.dev object of the namespace is Ready, and say what is not when time is up."""
        unready: list[str] = []

        def probe() -> bool | None:
            unready.clear()
            for item in json.loads(self.kubectl("-n", namespace, "get", ",".join(KINDS), "-o", "json"))["items"]:
                conditions = item.get("status", {}).get("conditions", [])
                ready: dict[str, Any] = next((each for each in conditions if each["type"] == "Ready"), {})
                if ready.get("status") != "True" or ready.get("observedGeneration") != item["metadata"]["generation"]:
                    unready.append(f"{item['kind']} {item['metadata']['name']}: {ready.get('message', 'no status')}")
            return None if unready else True

        try:
            wait_for("all resources Ready", probe, timeout=timeout, every=0.2)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; " + "; ".join(unready)) from None

"""The native cluster of the end-to-end tests: kubectl with waiting, what is in a namespace, and its nodes' faults."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from demo.certificates import ClientIdentity
from demo.clients import Endpoint, endpoints, until_accepted
from demo.kubernetes import ROOT, CommandError, Kubernetes
from demo.steps import wait_for
from kind.native.state import State

Manifest = dict[str, Any]
Found = TypeVar("Found")

SYSTEM = "kmip-system"
OPERATOR_PODS = "app.kubernetes.io/name=kmip-operator"
PATIENCE = 120.0
"""Seconds for anything that pods or Jobs must start for; the machine may be busy."""

_MADE_BY_KUBERNETES = {"Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision", "PodMetrics"}


@dataclass(frozen=True)
class Cluster(Kubernetes):
    """One cluster, the folder of its state on this machine, and a folder for client certificates."""

    state: State
    work: Path

    def apply_objects(self, *manifests: Manifest) -> None:
        """Server-side apply."""
        self.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl says when it is refused; it must be."""
        try:
            output = self.kubectl(*arguments, stdin=stdin)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"not refused: kubectl {' '.join(arguments)}: {output}")

    def apply_refused(self, manifest: Manifest) -> str:
        """The refusal of ``manifest`` at apply."""
        return self.refused("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))

    def items(self, kind: str, namespace: str | None, selector: str = "") -> list[Manifest]:
        """Objects of one or more kinds (comma-separated); of all namespaces with ``None``."""
        where = ["-A"] if namespace is None else ["-n", namespace]
        chosen = ["-l", selector] if selector else []
        found: list[Manifest] = json.loads(
            self.kubectl("get", kind, *where, *chosen, "-o", "json", "--show-managed-fields")
        )["items"]
        return found

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or ``None``."""
        text = self.kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def condition(self, kind: str, namespace: str, name: str, condition: str) -> Manifest:
        """One condition as it is for the present generation, else empty."""
        found = self.find(kind, namespace, name) or {"metadata": {}}
        for each in found.get("status", {}).get("conditions", []):
            if each["type"] == condition and each.get("observedGeneration") == found["metadata"]["generation"]:
                return dict(each)
        return {}

    def until(
        self, kind: str, namespace: str, name: str, condition: str = "Ready", status: str = "True", reason: str = "",
        *, timeout: float = PATIENCE,
    ) -> str:  # fmt: skip
        """Wait for a condition of the present generation; its message."""
        last: Manifest = {}

        def probe() -> str | None:
            last.clear()
            last.update(self.condition(kind, namespace, name, condition))
            met = last.get("status") == status and (not reason or last.get("reason") == reason)
            return str(last["message"]) if met else None

        try:
            return wait_for(
                f"{kind} {namespace}/{name} {condition}={status} {reason}", probe, timeout=timeout, every=0.2
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {last}") from None

    def stalled(self, kind: str, namespace: str, name: str, reason: str, *, timeout: float = PATIENCE) -> str:
        """Wait until the object says that it is stalled for ``reason``; the message."""
        return self.until(kind, namespace, name, "Stalled", "True", reason, timeout=timeout)

    def quiet_for(self, seconds: float, happened: Callable[[], list[Found]]) -> list[Found]:
        """Watch for ``seconds`` whether anything happens: what did, or nothing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = happened()
            if found:
                return found
            time.sleep(0.5)
        return []

    def until_none(self, there: Callable[[], Sized], *, timeout: float = PATIENCE) -> None:
        """Wait until nothing of it is there."""
        wait_for("nothing left", lambda: None if len(there()) else True, timeout=timeout, every=0.2)

    def wait_for_field(self, kind: str, namespace: str, name: str, field: str, *, timeout: float = PATIENCE) -> Any:
        """Wait until the status has a field; its value."""
        return wait_for(
            f"{kind} {namespace}/{name} status.{field}",
            lambda: (self.find(kind, namespace, name) or {}).get("status", {}).get(field),
            timeout=timeout,
            every=0.2,
        )

    def until_gone_from_status(self, kind: str, namespace: str, name: str, field: str) -> None:
        """Wait until the status no longer has a field."""
        self.until_none(lambda: str((self.find(kind, namespace, name) or {}).get("status", {}).get(field, "")))

    def wait_for_label(self, kind: str, namespace: str, name: str, label: str, value: str) -> None:
        """Wait until an object has a label with this value."""
        wait_for(
            f"{kind} {namespace}/{name} labelled {label}={value}",
            lambda: self._metadata(kind, namespace, name).get("labels", {}).get(label) == value or None,
            timeout=PATIENCE,
            every=0.2,
        )

    def until_owned(self, kind: str, namespace: str, name: str) -> None:
        """Wait until an object goes with an owner."""
        wait_for(
            f"{kind} {namespace}/{name} owned",
            lambda: self._metadata(kind, namespace, name).get("ownerReferences") or None,
            timeout=PATIENCE,
            every=0.2,
        )

    def _metadata(self, kind: str, namespace: str, name: str) -> Manifest:
        found: Manifest = (self.find(kind, namespace, name) or {}).get("metadata", {})
        return found

    def until_reachable(self, endpoint: Endpoint, identity: ClientIdentity, *, timeout: float = PATIENCE) -> None:
        """Wait until a new connection of ``identity`` is served."""
        until_accepted(endpoint, identity, since=0.0, timeout=timeout)

    def delete(self, kind: str, namespace: str, *names: str) -> None:
        """Delete and wait until they are gone."""
        self.kubectl("-n", namespace, "delete", kind, *names, "--timeout=60s")

    def delete_without_policies(self, kind: str, namespace: str, name: str) -> None:
        """Delete once admission policies that were just removed are out of force: the API server takes a moment."""

        def probe() -> bool | None:
            try:
                self.delete(kind, namespace, name)
            except CommandError as error:
                if "ValidatingAdmissionPolicy" not in str(error):
                    raise
                return None
            return True

        wait_for(f"{kind} {namespace}/{name} may be deleted", probe, timeout=PATIENCE, every=0.2)

    def objects(self, namespace: str) -> set[str]:
        """Everything in a namespace as ``Kind/name``, but what Kubernetes itself writes there."""
        kinds = self.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        listed = self.items(",".join(kind for kind in kinds if not kind.startswith("events")), namespace)
        return {
            f"{item['kind']}/{item['metadata']['name']}" for item in listed if item["kind"] not in _MADE_BY_KUBERNETES
        }

    def pods(self, namespace: str, instance: str) -> list[Manifest]:
        """An instance's serving pods that are not on their way out."""
        found = self.items("pods", namespace, f"kmip.dev/instance={instance},app.kubernetes.io/component=server")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def endpoints(self, namespace: str, instance: str) -> list[Endpoint]:
        """Where clients connect, region by region."""
        return endpoints(self, namespace, instance, self.work)

    def endpoint(self, namespace: str, instance: str) -> Endpoint:
        """Where clients connect, of an instance with one endpoint."""
        (only,) = self.endpoints(namespace, instance)
        return only

    def pod_endpoints(self, namespace: str, instance: str) -> list[Endpoint]:
        """Every serving pod by itself; the region is the pod's name."""
        ca_file = self.endpoints(namespace, instance)[0].ca_file
        return [
            Endpoint(pod["metadata"]["name"], pod["status"]["podIP"], 5696, ca_file)
            for pod in self.pods(namespace, instance)
        ]

    def secret_text(self, namespace: str, name: str, key: str) -> str:
        """One value of a Secret."""
        return base64.b64decode(self.get("secret", namespace, name)["data"][key]).decode()

    def operator_pods(self, namespace: str = SYSTEM) -> list[Manifest]:
        """The operator's pods."""
        return self.items("pods", namespace, OPERATOR_PODS)

    def leader(self, namespace: str = SYSTEM, lease: str = "kmip-operator") -> str:
        """Name of the leading operator pod as the Lease says it; empty while there is none."""
        found = self.find("lease", namespace, lease) or {"spec": {}}
        return str(found["spec"].get("holderIdentity") or "").partition("_")[0]

    def native(self, *arguments: str) -> None:
        """``python3 kind/native ARGUMENTS`` for this cluster."""
        command = [sys.executable, "kind/native", arguments[0], "--name", self.state.name, *arguments[1:]]
        subprocess.run(command, check=True, cwd=ROOT)

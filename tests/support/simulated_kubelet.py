"""A stand-in for what only nodes do, so that the operator can be run whole against a bare API server.

It is NOT a kubelet: no container runs. For each Job it makes the pod that the Job controller would make and writes the status
a finished pod would have, with a result as custody would give it; for each StatefulSet it makes the pod and marks it Ready.
The pods' status port is real: mutual TLS with the certificates of the instance's control Secret, and a real ``KmipdStatus``
whose allowlist revision is read from the allowlist Secret.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from aiohttp import web

from kmip_contract.allowlist import ALLOWLIST_KEY, Allowlist
from kmip_contract.custody import RootKeyState
from kmip_contract.kmipd import KmipdStatus, StorageStatus
from kmip_contract.rootkey import (
    ProviderFacts,
    RootKeyAction,
    RootKeyRef,
    RootKeyRequest,
    RootKeyResult,
    RootKeyVersion,
)

Manifest = dict[str, Any]

NODE: Manifest = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "simulated",
        "labels": {"topology.kubernetes.io/region": "jp-tok", "topology.kubernetes.io/zone": "jp-tok-1"},
    },
}
CREDENTIAL_HMAC = "5e" * 32
KEYSPACE = UUID("0b5f1a52-8f3e-4c55-9d0a-5f3f2f1f0a11")
STATUS_PORT = 8443


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class SimulatedKubelet:
    """Call :meth:`step` often. ``kubectl`` is the API server's; ``folder`` takes the TLS files of status ports."""

    kubectl: Any
    namespace: str
    folder: Path
    keyspace: UUID = KEYSPACE
    ports: dict[str, StatusPort] = field(default_factory=dict)

    def start(self) -> None:
        """A node, and the namespace's default ServiceAccount, which a controller would make."""
        self.apply(NODE)
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now()}]}}
        self.kubectl(
            "patch", "node", "simulated", "--subresource=status", "--type=merge", f"--patch={json.dumps(ready)}"
        )
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})

    def stop(self) -> None:
        """Close the status ports."""
        for port in self.ports.values():
            port.stop()

    def items(self, kinds: str) -> dict[str, list[Manifest]]:
        """All objects of these kinds in the namespace, by kind."""
        found: dict[str, list[Manifest]] = {}
        for item in json.loads(self.kubectl("get", kinds, "-n", self.namespace, "-o", "json"))["items"]:
            found.setdefault(item["kind"], []).append(item)
        return found

    def apply(self, manifest: Manifest) -> None:
        """Create or change an object."""
        self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))

    def step(self) -> None:
        """Do once what nodes and workload controllers would do now."""
        found = self.items("pods,jobs,statefulsets")
        pods = {pod["metadata"]["name"] for pod in found.get("Pod", ())}
        for job in found.get("Job", ()):
            name = f"{job['metadata']['name']}-pod"
            if name not in pods:
                self._finish(job, name)
        for workload in found.get("StatefulSet", ()):
            name = f"{workload['metadata']['name']}-0"
            if name not in pods:
                self._run(workload, name)
        for port in self.ports.values():
            port.refresh(self._allowlist(port.instance))

    def _finish(self, job: Manifest, name: str) -> None:
        template = job["spec"]["template"]["metadata"]
        pod = self._pod(job, name, template)
        request = RootKeyRequest.model_validate_json(_request_text(job))
        action = request.action
        key = RootKeyRef(key_id=request.key_id or "", versions=(RootKeyVersion(version=1, handle="01"),))
        result = RootKeyResult(
            action=action,
            facts=ProviderFacts(manufacturer="simulated"),
            root_key=key if action is not RootKeyAction.PROBE else None,
            created=action is RootKeyAction.CREATE,
            credential_hmac=CREDENTIAL_HMAC,
        )
        ended = {"exitCode": 0, "reason": "Completed", "message": result.model_dump_json(exclude_none=True)}
        status = {"phase": "Succeeded", "containerStatuses": [_container(pod, {"terminated": ended})]}
        self._status("pod", name, status)
        done = [
            {"type": kind, "status": "True", "lastTransitionTime": now()} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        self._status(
            "job",
            job["metadata"]["name"],
            {"conditions": done, "startTime": now(), "completionTime": now(), "succeeded": 1},
        )

    def _run(self, workload: Manifest, name: str) -> None:
        template = workload["spec"]["template"]["metadata"]
        pod = self._pod(workload, name, template, node="simulated")
        instance = template["labels"]["kmip.dev/instance"]
        address = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        self.ports[name] = StatusPort(instance, address, self._control(instance), self.folder / name, self.keyspace)
        self.ports[name].start()
        ready = [{"type": "Ready", "status": "True", "lastTransitionTime": now()}]
        running = _container(pod, {"running": {"startedAt": now()}})
        self._status(
            "pod",
            name,
            {
                "phase": "Running",
                "conditions": ready,
                "podIP": address,
                "podIPs": [{"ip": address}],
                "containerStatuses": [running],
            },
        )
        generation = workload["metadata"]["generation"]
        counts = dict.fromkeys(
            ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas"), 1
        )
        self._status("statefulset", workload["metadata"]["name"], {"observedGeneration": generation, **counts})

    def _pod(self, owner: Manifest, name: str, template: Manifest, node: str = "") -> Manifest:
        metadata = owner["metadata"]
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        pod: Manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": template["labels"],
                "annotations": template.get("annotations", {}),
                "ownerReferences": [reference],
            },
            "spec": {"containers": [{"name": "main", "image": "simulated"}], **({"nodeName": node} if node else {})},
        }
        self.apply(pod)
        return pod

    def _status(self, kind: str, name: str, status: Manifest) -> None:
        patch = json.dumps({"status": status})
        self.kubectl(
            "patch", kind, name, "-n", self.namespace, "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    def _secret(self, name: str) -> dict[str, bytes]:
        secret = json.loads(self.kubectl("get", "secret", name, "-n", self.namespace, "-o", "json"))
        return {key: base64.b64decode(value) for key, value in secret["data"].items()}

    def _control(self, instance: str) -> dict[str, bytes]:
        return self._secret(f"{instance}-control")

    def _allowlist(self, instance: str) -> Allowlist:
        return Allowlist.model_validate_json(self._secret(f"{instance}-allowlist")[ALLOWLIST_KEY])


def _request_text(job: Manifest) -> str:
    text: str = job["spec"]["template"]["metadata"]["annotations"]["kmip.dev/request"]
    return text


def _container(pod: Manifest, state: Manifest) -> Manifest:
    name = pod["spec"]["containers"][0]["name"]
    return {
        "name": name,
        "image": "simulated",
        "imageID": "",
        "restartCount": 0,
        "ready": "running" in state,
        "state": state,
    }


class StatusPort:
    """A real mutual-TLS /status on an address of the loopback network, in a thread of its own."""

    def __init__(self, instance: str, address: str, control: dict[str, bytes], folder: Path, keyspace: UUID) -> None:
        self.instance = instance
        self._address = address
        self._control = control
        self._folder = folder
        self._keyspace = keyspace
        self._revision = 0
        self._allowlist = Allowlist(revision=0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.asked = 0

    def start(self) -> None:
        """Listen."""
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = {}
        for key, content in self._control.items():
            paths[key] = self._folder / key
            descriptor = os.open(paths[key], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                target.write(content)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(paths["ca.crt"]))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(paths["tls.crt"], paths["tls.key"])
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(context), self._loop).result(10)

    async def _serve(self, context: ssl.SSLContext) -> None:
        application = web.Application()
        application.add_routes([web.get("/status", self._answer)])
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, STATUS_PORT, ssl_context=context).start()

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        status = KmipdStatus(
            program_version="simulated",
            instance=self.instance,
            region="",
            config_id="",
            keyspace=self._keyspace,
            serving=self._allowlist.serving,
            allowlist_revision=self._allowlist.revision,
            root_key_version=1,
            root_key_state=RootKeyState.USABLE,
            storage=StorageStatus(type="SQLite", durable=False, message="one copy"),
            connections=self.asked,
        )
        return web.Response(text=status.model_dump_json(), content_type="application/json")

    def refresh(self, allowlist: Allowlist) -> None:
        """What the kubelet's refreshed volume would bring."""
        self._allowlist = allowlist

    def stop(self) -> None:
        """Close the port."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

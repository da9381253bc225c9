"""Looks for secrets in everything of a cluster that is not a Secret."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.e2e_cluster import SYSTEM, Cluster, Manifest

METRICS_PORTS = {"kmipd": 8080, "custody": 8081, "operator": 8080}


@dataclass(frozen=True)
class Needle:
    """A secret and what it looks like when it is written somewhere."""

    name: str
    forms: tuple[bytes, ...]

    @classmethod
    def of_bytes(cls, name: str, secret: bytes) -> Needle:
        """Raw, hexadecimal of both cases and with colons, base64 of both alphabets, as a list of numbers."""
        plain = secret.hex()
        forms = {
            secret,
            plain.encode(),
            plain.upper().encode(),
            secret.hex(":").encode(),
            repr(secret)[2:-1].encode(),
            ", ".join(map(str, secret)).encode(),
            *_base64_forms(secret),
        }
        return cls(name, tuple(forms))

    @classmethod
    def of_text(cls, name: str, secret: str) -> Needle:
        """As it is, and in every form of its bytes."""
        return cls.of_bytes(name, secret.encode())

    def within(self, data: bytes) -> bool:
        """Whether any form is in ``data``."""
        return any(form in data for form in self.forms)


def _base64_forms(secret: bytes) -> Iterator[bytes]:
    """Wherever the secret begins within what was encoded: the characters that it alone decides."""
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        yield base64.b64encode(bytes(before) + secret)[first:end]
        yield base64.urlsafe_b64encode(bytes(before) + secret)[first:end]


def places(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    """Every place and its content: objects, logs of all pods that ever ran and are still known, processes, metrics, volumes."""
    yield from _objects(cluster)
    yield from _files("log of", cluster.state.folder.glob("nodes/*/log/pods/*/*/*.log*"))
    yield from _files("log of the cluster's", [path for path in cluster.state.logs.rglob("*") if path.is_file()])
    yield from _files("volume", _volume_files(cluster))
    yield from _processes()
    yield from _metrics(cluster)


def _objects(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    for kind in kinds:
        namespaced = cluster.kubectl("get", kind, "-A", "-o", "json", "--show-managed-fields", "--ignore-not-found")
        if not namespaced.strip():
            continue
        for item in json.loads(namespaced)["items"]:
            metadata = item["metadata"]
            where = f"{item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
            yield where, json.dumps(metadata if item["kind"] == "Secret" else item, ensure_ascii=False).encode()


def _files(title: str, paths: Iterator[Path] | list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        try:
            yield f"{title} {path}", path.read_bytes()
        except FileNotFoundError:
            continue


def _volume_files(cluster: Cluster) -> Iterator[Path]:
    """Files of persistent volumes; a software token's own files are its key store."""
    return (path for path in cluster.state.folder.glob("nodes/*/volumes/**/*") if path.is_file())


def _processes() -> Iterator[tuple[str, bytes]]:
    """Arguments and environment of every process in a pod."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if "pod" not in (folder / "cgroup").read_text():
                continue
            for name in ("cmdline", "environ"):
                yield f"{name} of process {folder.name}", (folder / name).read_bytes()
        except OSError:
            continue


def _metrics(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    serving = cluster.items("pods", None, "app.kubernetes.io/name=kmipd,app.kubernetes.io/component=server")
    for pod in [*serving, *cluster.items("pods", SYSTEM, "app.kubernetes.io/name=kmip-operator")]:
        for port in sorted(_ports(pod)):
            address = f"http://{pod['status'].get('podIP')}:{port}/metrics"
            try:
                with urllib.request.urlopen(address, timeout=10) as answer:
                    yield f"metrics of {pod['metadata']['name']}:{port}", answer.read()
            except OSError:
                continue


def _ports(pod: Manifest) -> set[int]:
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return {METRICS_PORTS[each["name"]] for each in containers if each["name"] in METRICS_PORTS}

"""Every cached resource with its indexes, and the Secrets: what observation reads and what the applier compares with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kmip_operator.kube.apply import MANAGED_BY
from kmip_operator.kube.client import FIELD_MANAGER, Client, Manifest
from kmip_operator.kube.metadata_watch import SecretIndex, SecretMeta
from kmip_operator.kube.resources import (
    CHILDREN,
    CLIENT_CERTIFICATES,
    JOBS,
    KEY_MANAGERS,
    KINDS,
    KMIP_INSTANCES,
    NODES,
    PODS,
    ROOT_KEYS,
    SECRETS,
    Resource,
)
from kmip_operator.kube.store import Indexer, Store, Trim
from kmip_operator.naming import LABEL_INSTANCE, LABEL_ROOT_KEY, label_value

SELECTOR = f"{MANAGED_BY}={FIELD_MANAGER}"
"""Server-side selector of the watches on children: what others made never reaches this process."""


BY_CONTROLLER = "controller"
BY_INSTANCE = "instance"
BY_ROOT_KEY = "root key"
BY_KEY_MANAGER = "key manager"
BY_FINGERPRINT = "fingerprint"
BY_REFERENCE = "references"
BY_LABEL_VALUE = "label value"


class Key(NamedTuple):
    """Names one custom resource: what the work queue holds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Caches:
    """The stores of all watched resources and the index of Secrets."""

    def __init__(self, *, nodes: bool) -> None:
        watched = (*KINDS, *CHILDREN, *((NODES,) if nodes else ()))
        self.stores: dict[Resource, Store] = {
            resource: Store(resource, _INDEXERS.get(resource), _TRIMS.get(resource)) for resource in watched
        }
        self.secrets = SecretIndex(self._referred)

    @property
    def has_nodes(self) -> bool:
        """Whether nodes may be read (not in the namespaced mode)."""
        return NODES in self.stores

    def referring(self, namespace: str, secret: str) -> tuple[Key, ...]:
        """The custom resources whose spec names this Secret."""
        return tuple(
            Key(resource.kind, *name)
            for resource in KINDS
            for name in self.stores[resource].indexed_names(BY_REFERENCE, namespace, secret)
        )

    def _referred(self, namespace: str, secret: str) -> bool:
        return any(self.stores[resource].indexed_names(BY_REFERENCE, namespace, secret) for resource in KINDS)

    def holds(self, resource: Resource) -> bool:
        """Whether the content of this resource's objects is cached."""
        return resource in self.stores

    def current(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """The cached object."""
        return self.stores[resource].get(namespace, name)

    def version(self, resource: Resource, namespace: str, name: str) -> int | None:
        """The last seen version of a watched object."""
        if resource == SECRETS:
            meta = self.secrets.get(namespace, name)
            return None if meta is None else meta.version
        store = self.stores.get(resource)
        identity = None if store is None else store.identity(namespace, name)
        return None if identity is None else identity[1]

    def learn(self, resource: Resource, manifest: Manifest) -> None:
        """Take in the API's answer to a write, so that the next look does not act on the past."""
        if resource == SECRETS:
            self.secrets.put(manifest)
        elif resource in self.stores:
            self.stores[resource].put(manifest)

    def forget(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """The object is gone."""
        if resource == SECRETS:
            self.secrets.remove(namespace, name, uid)
        elif resource in self.stores:
            self.stores[resource].remove(namespace, name, uid=uid)

    async def secret(self, client: Client, namespace: str, name: str) -> SecretMeta | None:
        """Metadata of a Secret: from the watch, or asked for when the watch had no reason to keep it."""
        known = self.secrets.get(namespace, name)
        if known is not None:
            return known
        manifest = await client.get_metadata(SECRETS, namespace, name)
        if manifest is None:
            return None
        self.secrets.put(manifest)
        return SecretMeta.of(manifest)


def _by_label_value(manifest: Manifest) -> Iterable[str]:
    """The object's name as its children's labels carry it."""
    return (label_value(manifest["metadata"]["name"]),)


def _by_controller(manifest: Manifest) -> Iterable[str]:
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or () if owner.get("controller")]


def _by_label(label: str) -> Indexer:
    def index(manifest: Manifest) -> Iterable[str]:
        value = (manifest["metadata"].get("labels") or {}).get(label)
        return () if value is None else (value,)

    return index


def _by_reference(field: str) -> Indexer:
    def index(manifest: Manifest) -> Iterable[str]:
        name = ((manifest.get("spec") or {}).get(field) or {}).get("name")
        return () if name is None else (name,)

    return index


def _by_fingerprint(manifest: Manifest) -> Iterable[str]:
    """A ClientCertificate's fingerprint within its instance."""
    fingerprint = (manifest.get("status") or {}).get("sha256")
    instance = ((manifest.get("spec") or {}).get("instanceRef") or {}).get("name")
    return (f"{instance}/{fingerprint}",) if fingerprint and instance else ()


def _by_secret(manifest: Manifest) -> Iterable[str]:
    """Every Secret the spec names, wherever: each reference field's name ends in ``secretRef``."""
    return frozenset(_secret_names(manifest.get("spec") or {}))


def _secret_names(part: Any) -> Iterable[str]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key.lower().endswith("secretref") and isinstance(value, Mapping) and isinstance(value.get("name"), str):
                yield value["name"]
            else:
                yield from _secret_names(value)
    elif isinstance(part, list):
        for item in part:
            yield from _secret_names(item)


def _trim_node(node: Manifest) -> Manifest:
    """Labels, addresses, whether it is cordoned and its conditions; image lists make nodes large."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    kept = ("name", "uid", "resourceVersion", "labels")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"unschedulable": True} if spec.get("unschedulable") else {},
        "status": {
            "addresses": status.get("addresses") or [],
            "conditions": [
                {key: item.get(key) for key in ("type", "status")} for item in status.get("conditions") or ()
            ],
        },
    }


def _trim_pod(pod: Manifest) -> Manifest:
    """Everything but the spec, of which the node is kept: pods are made from templates, and those are looked at."""
    return {**pod, "spec": {"nodeName": (pod.get("spec") or {}).get("nodeName")}}


def _trim_job(job: Manifest) -> Manifest:
    """Jobs are created and never changed: their spec is not compared."""
    return {key: value for key, value in job.items() if key != "spec"}


_TRIMS: dict[Resource, Trim] = {NODES: _trim_node, PODS: _trim_pod, JOBS: _trim_job}

_CHILD: dict[str, Indexer] = {
    BY_CONTROLLER: _by_controller,
    BY_INSTANCE: _by_label(LABEL_INSTANCE),
    BY_ROOT_KEY: _by_label(LABEL_ROOT_KEY),
}

_INDEXERS: dict[Resource, dict[str, Indexer]] = {
    **dict.fromkeys(CHILDREN, _CHILD),
    KEY_MANAGERS: {BY_REFERENCE: _by_secret, BY_LABEL_VALUE: _by_label_value},
    ROOT_KEYS: {BY_LABEL_VALUE: _by_label_value, BY_KEY_MANAGER: _by_reference("keyManagerRef")},
    KMIP_INSTANCES: {
        BY_REFERENCE: _by_secret,
        BY_LABEL_VALUE: _by_label_value,
        BY_ROOT_KEY: _by_reference("rootKeyRef"),
    },
    CLIENT_CERTIFICATES: {
        BY_REFERENCE: _by_secret,
        BY_INSTANCE: _by_reference("instanceRef"),
        BY_FINGERPRINT: _by_fingerprint,
    },
}

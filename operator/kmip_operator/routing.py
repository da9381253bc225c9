"""Which custom resources must be looked at when something changes. Reads the caches, decides nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from kmip_operator.kube.cache import (
    BY_FINGERPRINT,
    BY_INSTANCE,
    BY_KEY_MANAGER,
    BY_LABEL_VALUE,
    BY_ROOT_KEY,
    Caches,
    Key,
)
from kmip_operator.kube.client import Manifest
from kmip_operator.kube.resources import (
    CLIENT_CERTIFICATES,
    KEY_MANAGERS,
    KINDS,
    KMIP_INSTANCES,
    NODES,
    ROOT_KEYS,
    Resource,
)
from kmip_operator.naming import LABEL_INSTANCE, LABEL_KIND, LABEL_NAME, LABEL_ROOT_KEY

_RESOURCE = {resource.kind: resource for resource in KINDS}


class Router:
    """Turns changes into keys."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._generations: dict[Key, tuple[str, int]] = {}
        self._nodes: dict[str, object] = {}

    def affected(self, resource: Resource, manifest: Manifest, *, gone: bool) -> set[Key]:
        """The keys that a change (or the end) of ``manifest`` makes due."""
        if resource == NODES:
            return self._by_node(manifest, gone=gone)
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        if resource in KINDS:
            key = Key(resource.kind, namespace, name)
            return {key, *self._related(key, manifest, gone=gone)}
        return self.by_labels(namespace, manifest["metadata"].get("labels") or {})

    def by_labels(self, namespace: str, labels: dict[str, str]) -> set[Key]:
        """The owners that a child's labels name."""
        keys: set[Key] = set()
        owner = _RESOURCE.get(labels.get(LABEL_KIND, ""))
        if owner is not None and LABEL_NAME in labels:
            keys |= self._labelled(owner, namespace, labels[LABEL_NAME])
        if LABEL_INSTANCE in labels:
            keys |= self._labelled(KMIP_INSTANCES, namespace, labels[LABEL_INSTANCE])
        if LABEL_ROOT_KEY in labels:
            keys |= self._labelled(ROOT_KEYS, namespace, labels[LABEL_ROOT_KEY])
        return keys

    def certificates_of(self, namespace: str, instance: str) -> set[Key]:
        """The ClientCertificates of an instance."""
        return self._indexed(CLIENT_CERTIFICATES, BY_INSTANCE, namespace, instance)

    def everything(self) -> Iterable[Key]:
        """Every known custom resource, in the order in which they depend on each other."""
        for resource in KINDS:
            for name in self._caches.stores[resource].names():
                yield Key(resource.kind, *name)

    def _related(self, key: Key, manifest: Manifest, *, gone: bool) -> set[Key]:
        namespace, spec = key.namespace, manifest.get("spec") or {}
        if key.kind == KEY_MANAGERS.kind:
            root_keys = self._indexed(ROOT_KEYS, BY_KEY_MANAGER, namespace, key.name)
            instances = {one for root in root_keys for one in self._instances(namespace, root.name)}
            return root_keys | instances
        if key.kind == ROOT_KEYS.kind:
            return self._named(KEY_MANAGERS, namespace, spec, "keyManagerRef") | self._instances(namespace, key.name)
        if key.kind == KMIP_INSTANCES.kind:
            root_keys = self._named(ROOT_KEYS, namespace, spec, "rootKeyRef")
            # Its status changes often and concerns no certificate; that a pod enforces something comes from the pods.
            known = (manifest["metadata"]["uid"], manifest["metadata"].get("generation", 0))
            if not gone and self._generations.get(key) == known:
                return root_keys
            self._generations[key] = known
            if gone:
                del self._generations[key]
            return root_keys | self.certificates_of(namespace, key.name)
        return self._same_certificate(namespace, manifest) | self._named(KMIP_INSTANCES, namespace, spec, "instanceRef")

    def _same_certificate(self, namespace: str, manifest: Manifest) -> set[Key]:
        """Certificates of the same instance with the same fingerprint: one of them was refused as the younger."""
        fingerprint = (manifest.get("status") or {}).get("sha256")
        instance = ((manifest.get("spec") or {}).get("instanceRef") or {}).get("name")
        if not fingerprint or not instance:
            return set()
        return self._indexed(CLIENT_CERTIFICATES, BY_FINGERPRINT, namespace, f"{instance}/{fingerprint}")

    def _instances(self, namespace: str, root_key: str) -> set[Key]:
        return self._indexed(KMIP_INSTANCES, BY_ROOT_KEY, namespace, root_key)

    def _labelled(self, resource: Resource, namespace: str, value: str) -> set[Key]:
        return self._indexed(resource, BY_LABEL_VALUE, namespace, value)

    def _indexed(self, resource: Resource, index: str, namespace: str, value: str) -> set[Key]:
        return {
            Key(resource.kind, *name) for name in self._caches.stores[resource].indexed_names(index, namespace, value)
        }

    def _named(self, resource: Resource, namespace: str, spec: Manifest, field: str) -> set[Key]:
        name = (spec.get(field) or {}).get("name")
        return {Key(resource.kind, namespace, name)} if name else set()

    def _by_node(self, node: Manifest, *, gone: bool) -> set[Key]:
        """Nodes report all the time; only labels and whether pods can go there matter."""
        name = node["metadata"]["name"]
        conditions = (node.get("status") or {}).get("conditions") or ()
        ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
        seen = (node["metadata"].get("labels"), (node.get("spec") or {}).get("unschedulable"), ready)
        if not gone and self._nodes.get(name) == seen:
            return set()
        self._nodes[name] = seen
        if gone:
            del self._nodes[name]
        return {Key(KMIP_INSTANCES.kind, *instance) for instance in self._caches.stores[KMIP_INSTANCES].names()}

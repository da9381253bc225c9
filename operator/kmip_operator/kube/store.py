"""What the watches have said so far: a compact cache of objects with the indexes that observation needs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kmip_operator.kube.client import FIELD_MANAGER, Manifest
from kmip_operator.kube.resources import Resource

_NOISE = ("kubectl.kubernetes.io/last-applied-configuration",)

Indexer = Callable[[Manifest], Iterable[str]]
"""Index values of an object, looked up together with its namespace."""

Trim = Callable[[Manifest], Manifest]
"""Leaves out what nobody reads."""


class Name(NamedTuple):
    """Where an object lives; the namespace of cluster-scoped objects is empty."""

    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    uid: str
    version: int
    raw: bytes
    indexed: tuple[tuple[str, str], ...]


class Store:
    """The cached objects of one resource.

    Objects are kept as compressed JSON text (a parsed one takes many times the memory) without the parts nobody reads. An older
    version never replaces a newer one, so answers to the operator's own writes may be put in as well.
    """

    def __init__(
        self, resource: Resource, indexers: Mapping[str, Indexer] | None = None, trim: Trim | None = None
    ) -> None:
        self.resource = resource
        self._trim = trim
        self._indexers = dict(indexers or {})
        self._objects: dict[Name, _Entry] = {}
        self._index: dict[tuple[str, str, str], set[Name]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, manifest: Manifest) -> bool:
        """Remember the object unless a newer version (or a newer object of its name) is known; whether it was news."""
        metadata = manifest["metadata"]
        name = Name(metadata.get("namespace", ""), metadata["name"])
        version = _version(metadata)
        known = self._objects.get(name)
        if known is not None and known.version >= version:
            return False
        if known is not None:
            self._unindex(name, known)
        slim = _slim(manifest if self._trim is None else self._trim(manifest), self.resource)
        indexed = tuple((index, value) for index, function in self._indexers.items() for value in function(slim))
        self._objects[name] = _Entry(metadata["uid"], version, _dump(slim), indexed)
        for index, value in indexed:
            self._index.setdefault((index, name.namespace, value), set()).add(name)
        return True

    def remove(self, namespace: str, name: str, *, uid: str | None = None) -> bool:
        """Forget the object (only if it is the one with ``uid``); whether it was known."""
        key = Name(namespace, name)
        known = self._objects.get(key)
        if known is None or (uid is not None and known.uid != uid):
            return False
        self._unindex(key, known)
        del self._objects[key]
        return True

    def get(self, namespace: str, name: str) -> Manifest | None:
        """A fresh copy of the object, or ``None``."""
        known = self._objects.get(Name(namespace, name))
        return None if known is None else _load(known.raw)

    def identity(self, namespace: str, name: str) -> tuple[str, int] | None:
        """Uid and version of the object, or ``None``."""
        known = self._objects.get(Name(namespace, name))
        return None if known is None else (known.uid, known.version)

    def names(self) -> Iterator[Name]:
        """Every known name (a snapshot)."""
        return iter(tuple(self._objects))

    def all(self) -> Iterator[Manifest]:
        """Every object, parsed one by one."""
        for entry in tuple(self._objects.values()):
            yield _load(entry.raw)

    def indexed_names(self, index: str, namespace: str, value: str) -> tuple[Name, ...]:
        """Names with this index value, sorted."""
        return tuple(sorted(self._index.get((index, namespace, value), ())))

    def indexed(self, index: str, namespace: str, value: str) -> tuple[Manifest, ...]:
        """Objects with this index value, sorted by name."""
        return tuple(_load(self._objects[name].raw) for name in self.indexed_names(index, namespace, value))

    def _unindex(self, name: Name, entry: _Entry) -> None:
        for index, value in entry.indexed:
            members = self._index[(index, name.namespace, value)]
            members.discard(name)
            if not members:
                del self._index[(index, name.namespace, value)]


def _dump(manifest: Manifest) -> bytes:
    # The fastest level: certificates hardly compress, the rest compresses well at any.
    return zlib.compress(json.dumps(manifest, separators=(",", ":")).encode(), level=1)


def _load(raw: bytes) -> Manifest:
    loaded: Manifest = json.loads(zlib.decompress(raw))
    return loaded


def _version(metadata: Mapping[str, Any]) -> int:
    """Resource versions are comparable integers (KEP-5504)."""
    return int(metadata["resourceVersion"])


def _slim(manifest: Manifest, resource: Resource) -> Manifest:
    """The object without other managers' field sets and without what kubectl keeps for itself."""
    metadata = dict(manifest["metadata"])
    own = [
        {**entry, "time": None}
        for entry in metadata.pop("managedFields", None) or ()
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")
    ]
    if own:
        metadata["managedFields"] = own
    annotations = metadata.get("annotations")
    if annotations and any(key in annotations for key in _NOISE):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key not in _NOISE}
    return {"apiVersion": resource.api_version, "kind": resource.kind, **manifest, "metadata": metadata}

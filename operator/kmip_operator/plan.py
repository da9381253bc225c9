"""What a decision says must be done: objects to apply, create and delete, the status, Events, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kmip_operator.reasons import Reason

Manifest = dict[str, Any]
"""A Kubernetes object as its JSON says it."""


@dataclass(frozen=True)
class Ref:
    """Names one object."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> Ref:
        """The reference of an object that has at least apiVersion, kind and metadata.name."""
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event on the object that was decided about. ``type`` is ``Normal`` or ``Warning``."""

    type: str
    reason: Reason
    message: str


@dataclass(frozen=True)
class PodPatch:
    """Labels and annotations to merge into one pod (``None`` removes a key)."""

    name: str
    labels: dict[str, str | None] = field(default_factory=dict)
    annotations: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The outcome of one decision.

    apply: server-side apply with the operator's field manager, never forced over another's.
    create: in this order, created if absent, never changed. Where one turns out to exist already, somebody else was faster:
        nothing further of this plan may be done; observe again (its random parts belong together).
    replace: Secrets that exist and get new content: a JSON merge patch of ``data`` and ``metadata.annotations``, with
        ``metadata.resourceVersion`` as its precondition (a conflict means: observe again). Not an apply, which would give this
        field manager the ownership of key material that later applies leave out.
    delete: must not exist; only objects that carry the operator's labels.
    pod_patches: merged into running pods.
    status: the whole desired status; written when it differs from the object's.
    events: transitions only.
    requeue_after: seconds until something is due even if nothing happens; ``None``: nothing to wait for.
    poll_pods: a pod must confirm something: ask the pods' /status soon and decide again.

    Order of execution: create, replace, apply, delete, pod_patches, status, events.
    """

    status: Manifest
    apply: tuple[Manifest, ...] = ()
    create: tuple[Manifest, ...] = ()
    replace: tuple[Manifest, ...] = ()
    delete: tuple[Ref, ...] = ()
    pod_patches: tuple[PodPatch, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    poll_pods: bool = False

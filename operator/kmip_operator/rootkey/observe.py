"""Observes a RootKey: its key manager, its Jobs, the instances it serves and what is retained of former ones."""

from __future__ import annotations

from kmip_operator.facts import ObjectMeta
from kmip_operator.keymanager.observe import referred
from kmip_operator.kube.cache import BY_ROOT_KEY
from kmip_operator.kube.resources import KEY_MANAGERS, KMIP_INSTANCES, VOLUME_CLAIMS
from kmip_operator.kube.workloads import object_meta, secret_meta
from kmip_operator.naming import LABEL_ROOT_KEY, label_value
from kmip_operator.observing import Sources
from kmip_operator.plan import Manifest
from kmip_operator.rootkey.snapshot import RootKeySnapshot


async def observe(sources: Sources, manifest: Manifest) -> RootKeySnapshot:
    """One snapshot; reads only."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    key_manager = sources.named(KEY_MANAGERS, namespace, manifest["spec"].get("keyManagerRef"))
    return RootKeySnapshot(
        object=manifest,
        images=sources.images,
        key_manager=key_manager,
        secrets=await sources.secrets(namespace, referred(key_manager)),
        jobs=sources.jobs(manifest),
        instances=sources.caches.stores[KMIP_INSTANCES].indexed(BY_ROOT_KEY, namespace, name),
        retained=_retained(sources, namespace, label_value(name)),
    )


def _retained(sources: Sources, namespace: str, label: str) -> tuple[ObjectMeta, ...]:
    claims = sources.caches.stores[VOLUME_CLAIMS].indexed(BY_ROOT_KEY, namespace, label)
    secrets = (meta for meta in sources.caches.secrets.ours(namespace) if meta.labels.get(LABEL_ROOT_KEY) == label)
    return (*(object_meta(claim) for claim in claims), *(secret_meta(meta) for meta in secrets))

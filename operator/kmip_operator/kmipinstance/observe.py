"""Observes a KmipInstance: what it refers to, its Secrets, its certificates, its children, its pods and the nodes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from kmip_operator import naming
from kmip_operator.keymanager.children import credential_check_name
from kmip_operator.keymanager.observe import referred
from kmip_operator.kmipinstance import children
from kmip_operator.kmipinstance.prepare import wants_authority_key
from kmip_operator.kmipinstance.snapshot import Authority, CertificateInput, KmipInstanceSnapshot, ServerLeaf
from kmip_operator.kube.cache import BY_INSTANCE
from kmip_operator.kube.resources import (
    CLIENT_CERTIFICATES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    KEY_MANAGERS,
    NODES,
    ROOT_KEYS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
)
from kmip_operator.kube.workloads import node_facts, object_meta
from kmip_operator.observing import Sources
from kmip_operator.plan import Manifest

_CHILDREN = (DEPLOYMENTS, STATEFUL_SETS, SERVICES, CONFIG_MAPS, DISRUPTION_BUDGETS, SERVICE_ACCOUNTS)


async def observe(sources: Sources, manifest: Manifest) -> KmipInstanceSnapshot:
    """One snapshot; reads only."""
    caches = sources.caches
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    root_key = sources.named(ROOT_KEYS, namespace, manifest["spec"].get("rootKeyRef"))
    key_manager = sources.named(KEY_MANAGERS, namespace, root_key["spec"].get("keyManagerRef")) if root_key else None
    label = naming.label_value(name)
    control = (children.control_name(manifest), children.control_client_name(manifest))
    certificates = caches.stores[CLIENT_CERTIFICATES].indexed(BY_INSTANCE, namespace, name)
    allowlist = children.allowlist_name(manifest)
    snapshot = KmipInstanceSnapshot(
        object=manifest,
        images=sources.images,
        root_key=root_key,
        key_manager=key_manager,
        certificates=tuple([CertificateInput(item, await sources.certificate(item)) for item in certificates]),
        secrets=await sources.secrets(namespace, _users_secrets(manifest, key_manager)),
        authority=await _authority(sources, manifest),
        server=await _server(sources, manifest),
        control=await sources.secrets(namespace, control),
        allowlist=await sources.allowlist(namespace, allowlist),
        allowlist_changed=await _published(sources, namespace, allowlist),
        children=tuple(
            child for resource in _CHILDREN for child in caches.stores[resource].indexed(BY_INSTANCE, namespace, label)
        ),
        volume_claims=tuple(
            object_meta(claim) for claim in caches.stores[VOLUME_CLAIMS].indexed(BY_INSTANCE, namespace, label)
        ),
        pods=sources.pods(namespace, name),
        nodes=tuple(node_facts(node) for node in caches.stores[NODES].all()) if caches.has_nodes else None,
    )
    return await _with_authority_key(sources, snapshot)


def _users_secrets(manifest: Manifest, key_manager: Manifest | None) -> tuple[str, ...]:
    """Secrets that the pods mount and the operator never reads; none of its own when the spec cannot be read."""
    try:
        own = children.secret_names(manifest)
    except ValidationError:
        own = ()
    check = (credential_check_name(key_manager["metadata"]["name"]),) if key_manager is not None else ()
    return tuple(sorted({*own, *check, *referred(key_manager)}))


async def _server(sources: Sources, manifest: Manifest) -> ServerLeaf | None:
    namespace, name = manifest["metadata"]["namespace"], children.server_name(manifest)
    meta = (await sources.secrets(namespace, (name,))).get(name)
    if meta is None:
        return None
    return ServerLeaf(meta, await sources.texts.text(namespace, name, "tls.crt") or "")


async def _authority(sources: Sources, manifest: Manifest) -> Authority | None:
    namespace, name = manifest["metadata"]["namespace"], children.authority_name(manifest)
    meta = (await sources.secrets(namespace, (name,))).get(name)
    if meta is None:
        return None
    return Authority(meta, await sources.texts.text(namespace, name, "ca.crt") or "")


async def _with_authority_key(sources: Sources, snapshot: KmipInstanceSnapshot) -> KmipInstanceSnapshot:
    """The CA's key is read only when a leaf must be signed now."""
    if snapshot.authority is None or not wants_authority_key(snapshot):
        return snapshot
    namespace = snapshot.object["metadata"]["namespace"]
    found = await sources.texts.secret_bytes(namespace, snapshot.authority.meta.name, "ca.key")
    return replace(snapshot, authority=replace(snapshot.authority, key=found[0])) if found else snapshot


async def _published(sources: Sources, namespace: str, allowlist: str) -> datetime | None:
    meta = (await sources.secrets(namespace, (allowlist,))).get(allowlist)
    moment = meta.annotations.get(naming.ANNOTATION_PUBLISHED_AT) if meta is not None else None
    try:
        return datetime.fromisoformat(moment) if moment else None
    except ValueError:
        return None

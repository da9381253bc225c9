"""Observes a KeyManager: its Secrets' metadata, its Jobs and who uses it."""

from __future__ import annotations

from pydantic import ValidationError

from kmip_operator.facts import ObjectMeta
from kmip_operator.keymanager.children import credential_check_name, secret_names
from kmip_operator.keymanager.snapshot import KeyManagerSnapshot
from kmip_operator.kube.cache import BY_KEY_MANAGER
from kmip_operator.kube.resources import ROOT_KEYS, VOLUME_CLAIMS
from kmip_operator.kube.workloads import object_meta
from kmip_operator.observing import Sources
from kmip_operator.plan import Manifest


async def observe(sources: Sources, manifest: Manifest) -> KeyManagerSnapshot:
    """One snapshot; reads only."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    check = credential_check_name(name)
    secrets = await sources.secrets(namespace, (check, *referred(manifest)))
    users = sources.caches.stores[ROOT_KEYS].indexed_names(BY_KEY_MANAGER, namespace, name)
    return KeyManagerSnapshot(
        object=manifest,
        images=sources.images,
        credential_check=secrets.pop(check, None),
        secrets=secrets,
        volume_claims=await _volume_claims(sources, manifest),
        jobs=sources.jobs(manifest),
        root_keys=tuple(user.name for user in users),
    )


def referred(manifest: Manifest | None) -> tuple[str, ...]:
    """Names of the users' Secrets of a key manager; none when there is no key manager or its spec cannot be read."""
    try:
        return secret_names(manifest) if manifest is not None else ()
    except ValidationError:
        return ()


async def _volume_claims(sources: Sources, manifest: Manifest) -> dict[str, ObjectMeta]:
    """The claim of the module's files is the user's own, so no watch carries it."""
    reference = (manifest["spec"].get("pkcs11") or {}).get("volumeClaimRef") or {}
    name = reference.get("name")
    if not name:
        return {}
    claim = await sources.client.get_metadata(VOLUME_CLAIMS, manifest["metadata"]["namespace"], name)
    return {name: object_meta(claim)} if claim is not None else {}

"""What an instance refers to: whether it is there, whether its use is permitted, and what pods need of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from kmip_operator import naming
from kmip_operator.conditions import READY, STALLED, Problem, find, holds
from kmip_operator.keymanager.custody import secret_key
from kmip_operator.keymanager.model import KeyManagerSpec, KeyManagerStatus
from kmip_operator.kmipinstance.children import postgresql
from kmip_operator.kmipinstance.configuration import CONNECTION_FILE
from kmip_operator.kmipinstance.keyspace import wrapped_by_another
from kmip_operator.kmipinstance.model import KmipInstanceSpec
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason
from kmip_operator.rootkey.model import RootKeySpec, RootKeyStatus


@dataclass(frozen=True)
class Material:
    """What pods are built from."""

    key_manager_name: str
    key_manager: KeyManagerSpec
    root_key: RootKeyStatus
    credential_hmac: str


@dataclass(frozen=True)
class References:
    """The outcome.

    permitted: the root key does not refuse this instance. While it does, nothing may serve.
    material: ``None`` when pods cannot be built now; those that run stay as they are.
    problems: most important first.
    """

    permitted: bool
    material: Material | None
    problems: tuple[Problem, ...]


def resolve(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec) -> References:
    """Follow the instance's references."""
    try:
        return _resolve(snapshot, spec)
    except ValidationError:
        problem = Problem(
            Reason.ROOT_KEY_NOT_READY,
            "spec.rootKeyRef: this release cannot read the RootKey or its KeyManager. Upgrade the operator.",
            stalled=True,
        )
        return References(True, None, (problem,))


def _resolve(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec) -> References:
    name = spec.root_key_ref.name
    if snapshot.root_key is None:
        problem = Problem(
            Reason.ROOT_KEY_MISSING,
            f"spec.rootKeyRef: there is no RootKey {name} in this namespace. Create it.",
            stalled=True,
        )
        return References(True, None, (problem,))
    root_spec = RootKeySpec.model_validate(snapshot.root_key["spec"])
    allowed = root_spec.allowed_instances
    if allowed is not None and not allowed.matches(naming.labels_of(snapshot.object)):
        problem = Problem(
            Reason.REFERENCE_NOT_PERMITTED,
            f"spec.rootKeyRef: RootKey {name} does not permit this instance (its spec.allowedInstances does not choose the "
            "instance's labels). No key is served. Have the RootKey's owner permit it, or label the instance.",
            stalled=True,
        )
        return References(False, None, (problem,))
    foreign = wrapped_by_another(snapshot)
    if foreign is not None:
        return References(True, None, (foreign,))
    material, waiting = _material(snapshot, root_spec)
    # While the key manager is not ready, its own status says what it lacks.
    lacking = _missing_credential(snapshot, material) if material is not None else ()
    return References(True, material, (*waiting, *_missing_connection(snapshot, spec), *lacking))


def _material(snapshot: KmipInstanceSnapshot, root_spec: RootKeySpec) -> tuple[Material | None, tuple[Problem, ...]]:
    root_key = snapshot.root_key or {}
    root_status = RootKeyStatus.model_validate(root_key.get("status") or {})
    if root_status.key_id is None:
        return None, (_not_ready(Reason.ROOT_KEY_NOT_READY, "RootKey", root_key),)
    manager = snapshot.key_manager
    if manager is None:
        return None, (
            Problem(
                Reason.KEY_MANAGER_MISSING,
                f"spec.rootKeyRef: RootKey {root_key['metadata']['name']} needs KeyManager {root_spec.key_manager_ref.name}, "
                "which does not exist. Create it.",
                stalled=True,
            ),
        )
    confirmed = KeyManagerStatus.model_validate(manager.get("status") or {}).credentials
    if confirmed is None or confirmed.use is None:
        return None, (_not_ready(Reason.KEY_MANAGER_NOT_READY, "KeyManager", manager),)
    material = Material(
        manager["metadata"]["name"],
        KeyManagerSpec.model_validate(manager["spec"]),
        root_status,
        confirmed.use.hmac,
    )
    return material, ()


def _not_ready(reason: Reason, kind: str, manifest: Manifest) -> Problem:
    ready = find(manifest, READY)
    why = f": {ready['message']}" if ready else "."
    name = manifest["metadata"]["name"]
    return Problem(reason, f"spec.rootKeyRef: {kind} {name} is not ready{why}", stalled=holds(manifest, STALLED))


def _missing_connection(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec) -> Iterator[Problem]:
    database = postgresql(spec)
    if database is not None and database.connection_secret_ref.name not in snapshot.secrets:
        reference = database.connection_secret_ref
        yield Problem(
            Reason.SECRET_MISSING,
            f"spec.storage.postgresql.connectionSecretRef: there is no Secret {reference.name} in this namespace. Create it "
            f"with the connection URI in its key {reference.key or CONNECTION_FILE}.",
            stalled=True,
        )


def _missing_credential(snapshot: KmipInstanceSnapshot, material: Material) -> Iterator[Problem]:
    name, key = secret_key(material.key_manager, material.key_manager.credentials.use)
    if name not in snapshot.secrets:
        yield Problem(
            Reason.SECRET_MISSING,
            f"spec.rootKeyRef: KeyManager {material.key_manager_name} needs Secret {name}, which does not "
            f"exist. Create it with the credential in its key {key}.",
            stalled=True,
        )

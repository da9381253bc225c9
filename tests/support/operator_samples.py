"""The four kinds as their users write them, and what a cluster makes of a plan, for tests of decisions."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from kmip_contract.allowlist import Allowlist, Serving
from kmip_contract.custody import RootKeyState
from kmip_contract.kmipd import KmipdStatus, StorageStatus
from kmip_contract.rootkey import (
    CustodyErrorKind,
    CustodyFailure,
    ProviderFacts,
    RootKeyAction,
    RootKeyRef,
    RootKeyResult,
    RootKeyVersion,
)
from kmip_operator import naming
from kmip_operator.clientcertificate.snapshot import ClientCertificateSnapshot
from kmip_operator.facts import Images, JobFacts, NodeFacts, ObjectMeta, PemSource, PodFacts
from kmip_operator.keymanager.snapshot import KeyManagerSnapshot
from kmip_operator.kmipinstance import children
from kmip_operator.kmipinstance.snapshot import (
    Authority,
    CertificateInput,
    KmipInstanceSnapshot,
    NewMaterial,
    ServerLeaf,
)
from kmip_operator.plan import Manifest, Plan
from kmip_operator.rootkey.snapshot import RootKeySnapshot

NOW = datetime.now(UTC).replace(microsecond=0)
IMAGES = Images("registry.example/kmipd:1", "registry.example/custody:1")
NAMESPACE = "vsphere"
KEYSPACE = "0b5f1a52-8f3e-4c55-9d0a-5f3f2f1f0a11"
HMAC = "ab" * 32


def resource(kind: str, name: str, spec: Manifest, **metadata: Any) -> Manifest:
    """A custom resource as it comes from the API server."""
    return {
        "apiVersion": naming.API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-of-{kind.lower()}-{name}",
            "generation": 1,
            "creationTimestamp": "2026-11-01T10:00:00Z",
            **metadata,
        },
        "spec": copy.deepcopy(spec),
    }


PKCS11_SPEC: Manifest = {
    "type": "PKCS11",
    "pkcs11": {
        "tokenLabel": "kmip",
        "module": {"path": "/usr/lib/softhsm/libsofthsm2.so"},
        "configSecretRef": {"name": "hsm-conf"},
        "environment": [{"name": "SOFTHSM2_CONF", "value": "/etc/kmip/module/softhsm2.conf"}],
        "volumeClaimRef": {"name": "tokens", "mountPath": "/var/lib/softhsm/tokens"},
    },
    "credentials": {
        "use": {"secretRef": {"name": "hsm-user"}},
        "manage": {"secretRef": {"name": "hsm-officer", "key": "pin"}},
    },
    "location": {"region": "jp-tok", "zones": ["jp-tok-1", "jp-tok-2"]},
}


def meta(name: str, version: str = "1", **more: Any) -> ObjectMeta:
    """Metadata of a user's Secret or claim."""
    return ObjectMeta(name=name, uid=f"uid-of-{name}", resource_version=version, **more)


def key_manager(name: str = "luna", **changes: Any) -> Manifest:
    """A KeyManager with two credentials, a configuration and a volume."""
    return resource("KeyManager", name, {**PKCS11_SPEC, **changes})


def key_manager_snapshot(**changes: Any) -> KeyManagerSnapshot:
    """A KeyManager whose Secrets and volume are all there."""
    return KeyManagerSnapshot(
        object=changes.pop("object", key_manager()),
        images=IMAGES,
        secrets=changes.pop("secrets", {name: meta(name) for name in ("hsm-user", "hsm-officer", "hsm-conf")}),
        volume_claims=changes.pop("volume_claims", {"tokens": meta("tokens")}),
        **changes,
    )


def probed(error: CustodyErrorKind | None = None, message: str = "it was so") -> RootKeyResult:
    """The answer of a Probe Job."""
    if error is not None:
        return RootKeyResult(action=RootKeyAction.PROBE, error=CustodyFailure(kind=error, message=message))
    facts = ProviderFacts(manufacturer="SoftHSM project", model="SoftHSM v2", firmware="2.6")
    return RootKeyResult(action=RootKeyAction.PROBE, facts=facts, credential_hmac=HMAC)


def job_facts(job: Manifest, now: datetime) -> JobFacts:
    """A Job that was just created."""
    metadata = job["metadata"]
    return JobFacts(
        name=metadata["name"],
        uid=f"uid-of-{metadata['name']}",
        created=now,
        labels=metadata["labels"],
        annotations=metadata["annotations"],
    )


def jobs_after(jobs: Sequence[JobFacts], plan: Plan, now: datetime) -> tuple[JobFacts, ...]:
    """The Jobs when a plan was carried out."""
    gone = {ref.name for ref in plan.delete if ref.kind == "Job"}
    made = [job_facts(item, now) for item in plan.create if item["kind"] == "Job"]
    return (*(job for job in jobs if job.name not in gone), *made)


def with_status(manifest: Manifest, plan: Plan) -> Manifest:
    """The object with the status that a plan wrote."""
    return {**manifest, "status": json.loads(json.dumps(plan.status))}


def key_manager_after(snapshot: KeyManagerSnapshot, plan: Plan, now: datetime) -> KeyManagerSnapshot:
    """What is observed when a plan was carried out."""
    made = next((item for item in plan.create if item["kind"] == "Secret"), None)
    return replace(
        snapshot,
        object=with_status(snapshot.object, plan),
        jobs=jobs_after(snapshot.jobs, plan, now),
        credential_check=meta(made["metadata"]["name"]) if made else snapshot.credential_check,
        new_credential_check=None,
    )


def answered(jobs: Sequence[JobFacts], result: RootKeyResult, now: datetime) -> tuple[JobFacts, ...]:
    """The Jobs when those that ran have answered."""
    return tuple(replace(job, result=result, finished=now) if job.finished is None else job for job in jobs)


def confirmed(secret: str) -> Manifest:
    """A confirmed credential in a KeyManager's status."""
    return {"secretUid": f"uid-of-{secret}", "secretResourceVersion": "1", "hmac": HMAC, "request": "r"}


def ready_key_manager(**changes: Any) -> Manifest:
    """A KeyManager that is ready."""
    manifest = key_manager(**changes)
    manifest["status"] = {
        "observedGeneration": 1,
        "credentials": {"use": confirmed("hsm-user"), "manage": confirmed("hsm-officer")},
        "conditions": [condition("Ready", "True", "Ready")],
    }
    return manifest


def condition(kind: str, status: str, reason: str, message: str = "so it is") -> Manifest:
    """A condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-01T10:00:00Z",
        "observedGeneration": 1,
    }


def root_key(name: str = "crk", **changes: Any) -> Manifest:
    """A RootKey to create."""
    spec = {
        "keyManagerRef": {"name": "luna"},
        "source": {"type": "Create", "create": {"algorithm": "AES", "length": 256}},
        **changes,
    }
    return resource("RootKey", name, spec)


def ready_root_key(**changes: Any) -> Manifest:
    """A RootKey with a key."""
    manifest = root_key(**changes)
    manifest["status"] = {
        "observedGeneration": 1,
        "keyID": "0102",
        "currentVersion": 1,
        "versions": [{"version": 1, "handle": "0102", "state": "Active"}],
        "conditions": [condition("Ready", "True", "Ready")],
    }
    return manifest


def obtained(*, created: bool = True, action: RootKeyAction = RootKeyAction.CREATE) -> RootKeyResult:
    """The answer of a Job that made or found the key."""
    key = RootKeyRef(key_id="0102", versions=(RootKeyVersion(version=1, handle="0102"),))
    return RootKeyResult(action=action, root_key=key, created=created, credential_hmac=HMAC)


def root_key_snapshot(**changes: Any) -> RootKeySnapshot:
    """A RootKey whose KeyManager is ready."""
    return RootKeySnapshot(
        object=changes.pop("object", root_key()),
        images=IMAGES,
        key_manager=changes.pop("key_manager", ready_key_manager()),
        secrets=changes.pop("secrets", {name: meta(name) for name in ("hsm-user", "hsm-officer", "hsm-conf")}),
        **changes,
    )


def root_key_after(snapshot: RootKeySnapshot, plan: Plan, now: datetime) -> RootKeySnapshot:
    """What is observed when a plan was carried out."""
    return replace(snapshot, object=with_status(snapshot.object, plan), jobs=jobs_after(snapshot.jobs, plan, now))


SQLITE: Manifest = {"rootKeyRef": {"name": "crk"}}
POSTGRESQL: Manifest = {
    "rootKeyRef": {"name": "crk"},
    "regions": [
        {
            "name": "jp-tok",
            "replicas": 2,
            "service": {"type": "LoadBalancer", "hostNames": ["kms1.corp.example"]},
        },
        {"name": "jp-osa", "replicas": 1},
    ],
    "storage": {"type": "PostgreSQL", "postgresql": {"connectionSecretRef": {"name": "pg"}}},
    "tls": {"profile": "VSphere7"},
}


def instance(spec: Manifest | None = None, name: str = "vc", **metadata: Any) -> Manifest:
    """A KmipInstance."""
    return resource("KmipInstance", name, SQLITE if spec is None else spec, **metadata)


def nodes(*regions: str) -> tuple[NodeFacts, ...]:
    """One node in each region."""
    return tuple(
        NodeFacts(f"node-{region}", {"topology.kubernetes.io/region": region}, address=f"192.0.2.{number}")
        for number, region in enumerate(regions, start=1)
    )


def instance_snapshot(**changes: Any) -> KmipInstanceSnapshot:
    """A KmipInstance whose references are all ready and that has no children yet."""
    return KmipInstanceSnapshot(
        object=changes.pop("object", instance()),
        images=IMAGES,
        root_key=changes.pop("root_key", ready_root_key()),
        key_manager=changes.pop("key_manager", ready_key_manager()),
        secrets=changes.pop("secrets", {name: meta(name) for name in ("hsm-user", "hsm-conf", "pg")}),
        nodes=changes.pop("nodes", nodes("jp-tok", "jp-osa")),
        **changes,
    )


def pod_status(revision: int, **changes: Any) -> KmipdStatus:
    """A pod's answer to /status."""
    fields: dict[str, Any] = {
        "program_version": "0.1.0",
        "instance": "vc",
        "region": "",
        "config_id": "c",
        "keyspace": UUID(KEYSPACE),
        "serving": Serving.ENABLED,
        "allowlist_revision": revision,
        "root_key_state": RootKeyState.USABLE,
        "storage": StorageStatus(type="SQLite", durable=False, message="One volume holds the only copy."),
        **changes,
    }
    return KmipdStatus(**fields)


def pod(name: str, region: str = "default", **changes: Any) -> PodFacts:
    """A serving pod that is ready."""
    return PodFacts(
        name=name,
        uid=f"uid-of-{name}",
        created=changes.pop("created", NOW - timedelta(minutes=5)),
        labels={naming.LABEL_REGION: region, naming.LABEL_IN_SERVICE: "true", **changes.pop("labels", {})},
        ready=changes.pop("ready", True),
        ready_since=changes.pop("ready_since", NOW - timedelta(minutes=4)),
        **changes,
    )


def instance_after(snapshot: KmipInstanceSnapshot, plan: Plan, now: datetime) -> KmipInstanceSnapshot:
    """What is observed when a plan was carried out; pods and load balancers are left to the test."""
    created = {item["metadata"]["name"]: item for item in plan.create}
    made = {(item["kind"], item["metadata"]["name"]): item for item in plan.apply}
    obj = snapshot.object
    authority, server = snapshot.authority, snapshot.server
    if (secret := created.get(children.authority_name(obj))) is not None:
        authority = Authority(_secret_meta(secret), _decoded(secret, "ca.crt").decode(), _decoded(secret, "ca.key"))
    if (secret := created.get(children.server_name(obj))) is not None:
        server = ServerLeaf(_secret_meta(secret), _decoded(secret, "tls.crt").decode())
    for secret in plan.replace:
        chain = _decoded(secret, "tls.crt").decode()
        before = server.meta if server else meta(children.server_name(obj))
        server = ServerLeaf(replace(before, annotations=secret["metadata"]["annotations"]), chain)
    control = dict(snapshot.control)
    for name in (children.control_name(obj), children.control_client_name(obj)):
        if name in created:
            control[name] = meta(name)
    if authority is not None and ("Secret", authority.meta.name) in made:
        labels = made["Secret", authority.meta.name]["metadata"]["labels"]
        authority = replace(authority, meta=replace(authority.meta, labels=labels))
    gone = {(ref.kind, ref.name) for ref in plan.delete}
    allowlist = made.get(("Secret", children.allowlist_name(obj)))
    kept = {
        (child["kind"], child["metadata"]["name"]): child
        for child in snapshot.children
        if (child["kind"], child["metadata"]["name"]) not in gone
    }
    for key_, item in made.items():
        if item["kind"] in {"Secret", "PersistentVolumeClaim"}:
            continue
        before_status = kept.get(key_, {}).get("status", {})
        stamped = {**item["metadata"], "creationTimestamp": "2026-11-01T10:00:00Z", "generation": 1}
        kept[key_] = {**item, "metadata": stamped, "status": before_status}
    claims = snapshot.volume_claims
    for item in plan.apply:
        if item["kind"] == "StatefulSet" and not claims:
            name = f"data-{item['metadata']['name']}-0"
            labels = item["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]
            claims = (meta(name, labels=labels),)
    return replace(
        snapshot,
        object=with_status(obj, plan),
        authority=authority,
        server=server,
        control=control,
        allowlist=Allowlist.model_validate_json(_decoded(allowlist, "allowlist.json"))
        if allowlist
        else snapshot.allowlist,
        allowlist_changed=datetime.fromisoformat(allowlist["metadata"]["annotations"][naming.ANNOTATION_PUBLISHED_AT])
        if allowlist
        else snapshot.allowlist_changed,
        children=tuple(kept.values()),
        volume_claims=claims,
        pods=tuple(_patched(item, plan) for item in snapshot.pods),
        new=NewMaterial(),
    )


def _patched(item: PodFacts, plan: Plan) -> PodFacts:
    for patch in plan.pod_patches:
        if patch.name == item.name:
            labels = {**item.labels, **{key: value for key, value in patch.labels.items() if value is not None}}
            marks = {key: value for key, value in patch.annotations.items() if value is not None}
            item = replace(item, labels=labels, annotations={**item.annotations, **marks})
    return item


def _decoded(secret: Manifest, key: str) -> bytes:
    return base64.b64decode(secret["data"][key])


def _secret_meta(secret: Manifest) -> ObjectMeta:
    metadata = secret["metadata"]
    return meta(metadata["name"], labels=metadata["labels"], annotations=metadata.get("annotations", {}))


def client_certificate(pem: str | None = None, name: str = "vcenter", **changes: Any) -> Manifest:
    """A ClientCertificate with an inline leaf, or one in a Secret."""
    leaf: Manifest = {"pem": pem} if pem is not None else {"secretRef": {"name": "vcenter", "key": "tls.crt"}}
    metadata = changes.pop("metadata", {})
    spec = {"instanceRef": {"name": "vc"}, "type": "Leaf", "leaf": leaf, **changes}
    return resource(
        "ClientCertificate", name, {key: value for key, value in spec.items() if value is not None}, **metadata
    )


def certificate_input(pem: str, name: str = "vcenter", **changes: Any) -> CertificateInput:
    """A ClientCertificate of an instance."""
    return CertificateInput(client_certificate(pem, name, **changes), PemSource(pem=pem))


def certificate_snapshot(pem: str, **changes: Any) -> ClientCertificateSnapshot:
    """A ClientCertificate whose instance is there."""
    return ClientCertificateSnapshot(
        object=changes.pop("object", client_certificate(pem)),
        source=changes.pop("source", PemSource(pem=pem)),
        instance=changes.pop("instance", instance()),
        **changes,
    )

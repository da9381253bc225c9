"""What exists for a KeyManager: its HMAC key and its Jobs; RootKeys have the same kind of Job."""

from __future__ import annotations

import hashlib
import json

from kmip_contract.rootkey import (
    RootKeyAction,
    RootKeyRequest,
)
from kmip_operator import naming
from kmip_operator.facts import Images, ObjectMeta
from kmip_operator.keymanager.custody import (
    CHECK_KEY,
    connection,
    credential_check,
    custody_container,
    custody_image,
    custody_volumes,
    pod_security,
    pull_secrets,
    secret_key,
    uses,
)
from kmip_operator.keymanager.model import (
    Credential,
    KeyManagerSpec,
)
from kmip_operator.plan import Manifest

REQUEST_DIRECTORY = "/etc/kmip/request"
REQUEST_FILE = "request.json"
RESULT_FILE = "/dev/termination-log"
REQUEST_ANNOTATION = f"{naming.GROUP}/request"

JOB_DEADLINE = 600
"""Seconds a Job may take. The work itself takes seconds and has a shorter deadline in custody, but scheduling and a slow
first pull of the image count too, and a Job that ended without an answer is not repeated by itself."""


def secret_names(key_manager: Manifest) -> tuple[str, ...]:
    """The users' Secrets a KeyManager refers to, sorted; their content is never read."""
    spec = KeyManagerSpec.model_validate(key_manager["spec"])
    names = {secret_key(spec, use.credential)[0] for use in uses(spec)}
    if spec.pkcs11 and spec.pkcs11.config_secret_ref:
        names.add(spec.pkcs11.config_secret_ref.name)
    return tuple(sorted(names))


def credential_check_name(key_manager: str) -> str:
    """Name of the Secret with the random HMAC key."""
    return naming.object_name(key_manager, "credential-check")


def credential_check_secret(key_manager: Manifest, key: bytes) -> Manifest:
    """The Secret with the random HMAC key, made once."""
    name = key_manager["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": naming.metadata(key_manager, credential_check_name(name), _labels(key_manager, "credential-check")),
        "type": "Opaque",
        "immutable": True,
        "data": {CHECK_KEY: naming.base64_text(key)},
    }


def input_marks(spec: KeyManagerSpec, secrets: dict[str, ObjectMeta], *credentials: Credential) -> list[str]:
    """What identifies the content of the Secrets that a container mounts without reading them."""
    names = {secret_key(spec, credential)[0] for credential in credentials}
    if spec.pkcs11 and spec.pkcs11.config_secret_ref:
        names.add(spec.pkcs11.config_secret_ref.name)
    return [secret_mark(name, secrets) for name in sorted(names)]


def secret_mark(name: str, secrets: dict[str, ObjectMeta]) -> str:
    """Changes whenever the Secret does."""
    meta = secrets.get(name)
    return f"{name}/{meta.uid}/{meta.resource_version}" if meta else f"{name}/-"


def request_id(
    owner: Manifest,
    spec: KeyManagerSpec,
    images: Images,
    request: RootKeyRequest,
    credential: Credential,
    secrets: dict[str, ObjectMeta],
    credential_check: str = "",
) -> str:
    """What a root-key Job is a Job for: the same request with the same credential and the same program has the same id.

    ``credential_check``: uid of the Secret with the HMAC key, where the answer is worth nothing under another key.
    """
    content = {
        "owner": owner["metadata"]["uid"],
        "request": request.model_dump(mode="json", exclude_none=True),
        "keyManager": spec.model_dump(mode="json", exclude_none=True, include={"type", "pkcs11"}),
        "image": custody_image(spec, images),
        "credential": secret_key(spec, credential),
        "inputs": input_marks(spec, secrets, credential),
        "credentialCheck": credential_check,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def root_key_job(
    owner: Manifest,
    key_manager: str,
    spec: KeyManagerSpec,
    images: Images,
    request: RootKeyRequest,
    credential: Credential,
    *,
    identity: str,
    attempt: int,
) -> Manifest:
    """A Job that runs one root-key action once.

    Args:
        owner: the KeyManager or RootKey for whose sake it runs.
        key_manager: name of the KeyManager.
        spec: the KeyManager's.
        images: the operator's images.
        request: what to do; it travels in an annotation and is mounted as a file, and holds no secret.
        credential: what to log in with.
        identity: see :func:`request_id`.
        attempt: counts from 1.
    """
    action = request.action.lower()
    labels = {**_labels(owner, "root-key-job"), naming.LABEL_ACTION: action, naming.LABEL_REQUEST: identity}
    pod_spec: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(spec),
        "containers": [
            custody_container(
                spec,
                images,
                mounts=[{"name": "request", "mountPath": REQUEST_DIRECTORY, "readOnly": True}],
                command=["kmip-custody"],
                args=["job", "--request", f"{REQUEST_DIRECTORY}/{REQUEST_FILE}", "--result-file", RESULT_FILE],
                terminationMessagePolicy="FallbackToLogsOnError",
            )
        ],
        "volumes": [
            *custody_volumes(credential_check_name(key_manager), spec, credential),
            {
                "name": "request",
                "downwardAPI": {
                    "items": [
                        {
                            "path": REQUEST_FILE,
                            "fieldRef": {
                                "apiVersion": "v1",
                                "fieldPath": f"metadata.annotations['{REQUEST_ANNOTATION}']",
                            },
                        }
                    ]
                },
            },
        ],
    }
    if pull_secrets(spec):
        pod_spec["imagePullSecrets"] = pull_secrets(spec)
    name = naming.object_name(
        owner["metadata"]["name"], action, f"{identity[:8]}-{attempt}", limit=naming.WORKLOAD_LIMIT
    )
    metadata = naming.metadata(owner, name, labels)
    metadata["annotations"] = {naming.ANNOTATION_ATTEMPT: str(attempt)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_DEADLINE,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {REQUEST_ANNOTATION: request.model_dump_json(exclude_none=True)},
                },
                "spec": pod_spec,
            },
        },
    }


def probe_request(spec: KeyManagerSpec) -> RootKeyRequest:
    """Log in and describe."""
    return RootKeyRequest(action=RootKeyAction.PROBE, connection=connection(spec), credential=credential_check())


def _labels(owner: Manifest, component: str) -> dict[str, str]:
    labels = naming.common_labels(application="kmip-custody", instance=owner["metadata"]["name"], component=component)
    return {**labels, **naming.owner_labels(owner)}

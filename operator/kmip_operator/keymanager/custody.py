"""The custody container: it alone holds the module and the credentials, in serving pods and in Jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmip_contract.rootkey import (
    Connection,
    CredentialCheck,
    Pkcs11Connection,
    SoftwareConnection,
)
from kmip_operator.facts import Images
from kmip_operator.keymanager.model import (
    CONFIG_DIRECTORY,
    IMAGE_DIRECTORY,
    Credential,
    KeyManagerSpec,
    KeyManagerType,
)
from kmip_operator.plan import Manifest
from kmip_operator.quantity import canonical
from kmip_operator.resource import Resources

CREDENTIAL_DIRECTORY = "/etc/kmip/credential"
CREDENTIAL_FILE = "credential"
CHECK_DIRECTORY = "/etc/kmip/credential-check"
CHECK_KEY = "hmac.key"

DEFAULT_UID = 65532
# Group-readable for the pods' fsGroup, nobody else.
SECRET_MODE = 0o440


@dataclass(frozen=True)
class Use:
    """A credential and what it is for."""

    purpose: str
    path: str
    credential: Credential


def uses(spec: KeyManagerSpec) -> tuple[Use, ...]:
    """The distinct credentials: ``use``, and ``manage`` where it is another key or Secret."""
    use = Use("use", "spec.credentials.use.secretRef", spec.credentials.use)
    manage = spec.credentials.manage
    if manage is None or secret_key(spec, manage) == secret_key(spec, spec.credentials.use):
        return (use,)
    return (use, Use("manage", "spec.credentials.manage.secretRef", manage))


def managing(spec: KeyManagerSpec) -> Credential:
    """The credential of Jobs that create and adopt keys."""
    return spec.credentials.manage or spec.credentials.use


def secret_key(spec: KeyManagerSpec, credential: Credential) -> tuple[str, str]:
    """Name and key of the Secret that holds a credential."""
    default = "pin" if spec.type is KeyManagerType.PKCS11 else "seed"
    return credential.secret_ref.name, credential.secret_ref.key or default


def connection(spec: KeyManagerSpec) -> Connection:
    """The connection as custody sees it, with paths inside its container."""
    credential_file = Path(CREDENTIAL_DIRECTORY, CREDENTIAL_FILE)
    if spec.pkcs11 is None:
        return SoftwareConnection(seed_file=credential_file)
    module = spec.pkcs11.module
    path = f"{IMAGE_DIRECTORY}{module.path}" if module.image else module.path
    more: dict[str, Any] = {"mechanism": spec.pkcs11.mechanism} if spec.pkcs11.mechanism else {}
    return Pkcs11Connection(module=Path(path), token_label=spec.pkcs11.token_label, pin_file=credential_file, **more)


def credential_check(confirmed: str | None = None) -> CredentialCheck:
    """How custody compares its credential with the confirmed one."""
    return CredentialCheck(key_file=Path(CHECK_DIRECTORY, CHECK_KEY), hmac=confirmed)


def custody_image(spec: KeyManagerSpec, images: Images) -> str:
    """The image of the custody container."""
    return (spec.custody and spec.custody.image) or images.custody


def custody_container(spec: KeyManagerSpec, images: Images, *, mounts: Iterable[Manifest], **more: Any) -> Manifest:
    """The container that holds module and credential; ``more`` are further fields (command, probes, restartPolicy)."""
    custody = spec.custody
    pkcs11 = spec.pkcs11
    container: Manifest = {
        "name": "custody",
        "image": custody_image(spec, images),
        "imagePullPolicy": str((custody and custody.image_pull_policy) or images.pull_policy),
        **more,
        "resources": resources((custody and custody.resources) or Resources(requests={"cpu": "10m", "memory": "48Mi"})),
        "securityContext": container_security(),
        "volumeMounts": [*_mounts(spec), *mounts],
    }
    if pkcs11 and pkcs11.environment:
        container["env"] = [{"name": item.name, "value": item.value} for item in pkcs11.environment]
    return container


def _mounts(spec: KeyManagerSpec) -> list[Manifest]:
    mounts: list[Manifest] = [
        {"name": "credential", "mountPath": CREDENTIAL_DIRECTORY, "readOnly": True},
        {"name": "credential-check", "mountPath": CHECK_DIRECTORY, "readOnly": True},
        {"name": "custody-tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    if spec.pkcs11 and spec.pkcs11.config_secret_ref:
        mounts.append({"name": "module-config", "mountPath": CONFIG_DIRECTORY, "readOnly": True})
    if spec.pkcs11 and spec.pkcs11.module.image:
        mounts.append({"name": "module", "mountPath": IMAGE_DIRECTORY, "readOnly": True})
    if spec.pkcs11 and spec.pkcs11.volume_claim_ref:
        mounts.append({"name": "module-files", "mountPath": spec.pkcs11.volume_claim_ref.mount_path})
    return mounts


def custody_volumes(check_secret: str, spec: KeyManagerSpec, credential: Credential) -> list[Manifest]:
    """The volumes of :func:`custody_container`; ``check_secret`` names the Secret with the HMAC key.

    The credential's Secret is optional, so that a missing key becomes custody's clear answer and not a pod that never starts.
    """
    name, key = secret_key(spec, credential)
    volumes: list[Manifest] = [
        {
            "name": "credential",
            "secret": {
                "secretName": name,
                "items": [{"key": key, "path": CREDENTIAL_FILE}],
                "optional": True,
                "defaultMode": SECRET_MODE,
            },
        },
        {
            "name": "credential-check",
            "secret": {"secretName": check_secret, "defaultMode": SECRET_MODE},
        },
        {"name": "custody-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    if spec.pkcs11 is None:
        return volumes
    if spec.pkcs11.config_secret_ref:
        volumes.append(
            {
                "name": "module-config",
                "secret": {"secretName": spec.pkcs11.config_secret_ref.name, "defaultMode": SECRET_MODE},
            }
        )
    module = spec.pkcs11.module
    if module.image:
        source: Manifest = {"reference": module.image}
        if module.image_pull_policy:
            source["pullPolicy"] = str(module.image_pull_policy)
        volumes.append({"name": "module", "image": source})
    if spec.pkcs11.volume_claim_ref:
        volumes.append(
            {"name": "module-files", "persistentVolumeClaim": {"claimName": spec.pkcs11.volume_claim_ref.name}}
        )
    return volumes


def pod_security(spec: KeyManagerSpec) -> Manifest:
    """The pod's security context (restricted Pod Security Standard); one uid for all containers, as the socket demands."""
    custody = spec.custody
    uid = (custody and custody.run_as_user) or DEFAULT_UID
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": (custody and custody.fs_group) or uid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """A container's security context: the restricted Pod Security Standard and a read-only root file system."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pull_secrets(spec: KeyManagerSpec) -> list[Manifest]:
    """``imagePullSecrets`` of pods that use this key manager."""
    named = (spec.custody and spec.custody.image_pull_secrets) or []
    return [{"name": reference.name} for reference in named]


def resources(asked: Resources) -> Manifest:
    """Compute resources, as the API server writes them."""
    parts = {"requests": asked.requests, "limits": asked.limits}
    return {name: {key: canonical(value) for key, value in part.items()} for name, part in parts.items() if part}

"""The serving pods: a StatefulSet of one with SQLite, a Deployment for each region with PostgreSQL.

A change of what is built here restarts pods, so every part of the pod template is covered by a golden test.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from kmip_contract.kmipd import KMIP_PORT
from kmip_operator import naming
from kmip_operator.facts import Images
from kmip_operator.keymanager.children import credential_check_name
from kmip_operator.keymanager.custody import (
    SECRET_MODE,
    container_security,
    custody_container,
    custody_volumes,
    pod_security,
    pull_secrets,
    resources,
)
from kmip_operator.keymanager.model import KeyManagerSpec
from kmip_operator.kmipinstance.children import (
    Site,
    allowlist_name,
    control_name,
    headless_service_name,
    labels,
    postgresql,
    retained_labels,
    selector,
    server_name,
    service_account_name,
    site_name,
    storage_type,
)
from kmip_operator.kmipinstance.configuration import (
    ADMIN_PORT,
    ALLOWLIST_DIRECTORY,
    CONFIG_DIRECTORY,
    CONNECTION_FILE,
    CONTROL_DIRECTORY,
    CUSTODY_DIRECTORY,
    CUSTODY_FILE,
    CUSTODY_HEALTH_PORT,
    DATA_DIRECTORY,
    DRAIN,
    KMIPD_FILE,
    SERVER_DIRECTORY,
    SOCKET_DIRECTORY,
    STATUS_PORT,
    STORAGE_DIRECTORY,
)
from kmip_operator.kmipinstance.model import ZONE_LABEL, KmipInstanceSpec, PodSettings, Sqlite, StorageType
from kmip_operator.plan import Manifest
from kmip_operator.quantity import canonical
from kmip_operator.resource import Resources

# Seconds: endpoints and load balancers learn within this time that the pod is going, so that no new connection is refused.
_PRESTOP = 5
_GRACE = int(DRAIN) + _PRESTOP + 5

DATA_VOLUME = "data"


@dataclass(frozen=True)
class PodInputs:
    """What the pods of one region are made from.

    restart_id: see ``configuration.restart_id``.
    input_marks: identity and version of what takes effect only at a start and is not read: the module's configuration.
    """

    instance: Manifest
    spec: KmipInstanceSpec
    site: Site
    key_manager_name: str
    key_manager: KeyManagerSpec
    images: Images
    restart_id: str
    input_marks: tuple[str, ...]


def workload_name(instance: Manifest, spec: KmipInstanceSpec, site: Site) -> str:
    """Name of the StatefulSet or Deployment.

    A StatefulSet is named for the instance alone: the volume claim's name holds it, and naming a region must not lose the
    volume.
    """
    name = instance["metadata"]["name"]
    parts = [name] if storage_type(spec) is StorageType.SQLITE or not site.region else [name, site.region]
    return naming.object_name(*parts, limit=naming.WORKLOAD_LIMIT)


def workload(inputs: PodInputs) -> Manifest:
    """The workload of one region."""
    return _stateful_set(inputs) if storage_type(inputs.spec) is StorageType.SQLITE else _deployment(inputs)


def _deployment(inputs: PodInputs) -> Manifest:
    instance, site = inputs.instance, inputs.site
    chosen = selector(instance, site)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": naming.metadata(
            instance,
            workload_name(instance, inputs.spec, site),
            {**labels(instance, "server"), naming.LABEL_REGION: site.name},
        ),
        "spec": {
            "replicas": site.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": chosen},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": pod_template(inputs, chosen),
        },
    }


def _stateful_set(inputs: PodInputs) -> Manifest:
    instance = inputs.instance
    # Without the region: a selector cannot be changed, a region's name can.
    chosen = selector(instance)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": naming.metadata(
            instance, workload_name(instance, inputs.spec, inputs.site), labels(instance, "server")
        ),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "serviceName": headless_service_name(instance),
            "selector": {"matchLabels": chosen},
            # With OrderedReady a pod that never became ready would keep a corrected template from being tried.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": pod_template(inputs, chosen),
            "volumeClaimTemplates": [_volume_claim(inputs)],
        },
    }


def _volume_claim(inputs: PodInputs) -> Manifest:
    sqlite = (inputs.spec.storage and inputs.spec.storage.sqlite) or Sqlite()
    spec: Manifest = {
        "accessModes": [str(sqlite.access_mode or "ReadWriteOnce")],
        "resources": {"requests": {"storage": canonical(sqlite.size or "1Gi")}},
        "volumeMode": "Filesystem",
    }
    if sqlite.storage_class_name:
        spec["storageClassName"] = sqlite.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        # Templates cannot be changed; the keyspace's label is put on the claim itself.
        "metadata": {"name": DATA_VOLUME, "labels": retained_labels(inputs.instance, "server", None)},
        "spec": spec,
    }


def pod_template(inputs: PodInputs, chosen: dict[str, str]) -> Manifest:
    """The pod template. The allowlist and the server certificate are not in it: they change without a restart."""
    instance, spec, site = inputs.instance, inputs.spec, inputs.site
    settings = spec.pod or PodSettings()
    marks = hashlib.sha256("\n".join(inputs.input_marks).encode()).hexdigest()[:16]
    spread: Manifest = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": chosen}}
    pod: Manifest = {
        "serviceAccountName": service_account_name(instance),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE,
        "securityContext": pod_security(inputs.key_manager),
        "topologySpreadConstraints": [
            {**spread, "topologyKey": ZONE_LABEL},
            {**spread, "topologyKey": "kubernetes.io/hostname"},
        ],
        "initContainers": [_custody(inputs)],
        "containers": [_kmipd(inputs)],
        "volumes": _volumes(inputs),
    }
    if site.nodes:
        pod["nodeSelector"] = dict(site.nodes)
    if settings.priority_class_name:
        pod["priorityClassName"] = settings.priority_class_name
    if settings.tolerations:
        pod["tolerations"] = [toleration.to_manifest() for toleration in settings.tolerations]
    if pull_secrets(inputs.key_manager):
        pod["imagePullSecrets"] = pull_secrets(inputs.key_manager)
    return {
        "metadata": {
            "labels": {
                **(settings.labels or {}),
                **labels(instance, "server"),
                **selector(instance, site),
                naming.LABEL_IN_SERVICE: "true",
            },
            "annotations": {
                "kubectl.kubernetes.io/default-container": "kmipd",
                **(settings.annotations or {}),
                naming.ANNOTATION_CONFIG: inputs.restart_id,
                naming.ANNOTATION_INPUTS: marks,
            },
        },
        "spec": pod,
    }


def _custody(inputs: PodInputs) -> Manifest:
    """A native sidecar: started before kmipd, restarted alone when the vendor's library hangs, stopped after kmipd."""
    live: Manifest = {"httpGet": {"path": "/livez", "port": "custody"}, "timeoutSeconds": 2}
    return custody_container(
        inputs.key_manager,
        inputs.images,
        mounts=[
            {"name": "custody-config", "mountPath": CUSTODY_DIRECTORY, "readOnly": True},
            {"name": "socket", "mountPath": SOCKET_DIRECTORY},
        ],
        restartPolicy="Always",
        command=["kmip-custody"],
        args=["serve", "--config", f"{CUSTODY_DIRECTORY}/{CUSTODY_FILE}"],
        ports=[{"name": "custody", "containerPort": CUSTODY_HEALTH_PORT, "protocol": "TCP"}],
        startupProbe={**live, "periodSeconds": 1, "failureThreshold": 60},
        livenessProbe={**live, "periodSeconds": 5, "failureThreshold": 3},
    )


def _kmipd(inputs: PodInputs) -> Manifest:
    own = inputs.spec.kmipd
    mounts: list[Manifest] = [
        {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
        {"name": "server", "mountPath": SERVER_DIRECTORY, "readOnly": True},
        {"name": "control", "mountPath": CONTROL_DIRECTORY, "readOnly": True},
        {"name": "allowlist", "mountPath": ALLOWLIST_DIRECTORY, "readOnly": True},
        {"name": "socket", "mountPath": SOCKET_DIRECTORY},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    if postgresql(inputs.spec) is None:
        mounts.append({"name": DATA_VOLUME, "mountPath": DATA_DIRECTORY})
    else:
        mounts.append({"name": "storage", "mountPath": STORAGE_DIRECTORY, "readOnly": True})
    return {
        "name": "kmipd",
        "image": (own and own.image) or inputs.images.kmipd,
        "imagePullPolicy": str((own and own.image_pull_policy) or inputs.images.pull_policy),
        "command": ["kmipd"],
        "args": ["serve", "--config", f"{CONFIG_DIRECTORY}/{KMIPD_FILE}"],
        "ports": [
            {"name": "kmip", "containerPort": KMIP_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
            {"name": "status", "containerPort": STATUS_PORT, "protocol": "TCP"},
        ],
        # A database or key manager that is away makes a pod unready, never restarts it.
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": _PRESTOP}}},
        "resources": resources((own and own.resources) or Resources(requests={"cpu": "50m", "memory": "96Mi"})),
        "securityContext": container_security(),
        "volumeMounts": mounts,
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "admin"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _volumes(inputs: PodInputs) -> list[Manifest]:
    instance = inputs.instance
    configuration = site_name(instance, inputs.site)
    volumes = [
        _config_volume("config", configuration, KMIPD_FILE),
        _config_volume("custody-config", configuration, CUSTODY_FILE),
        _secret_volume("server", server_name(instance), "tls.crt", "tls.key"),
        _secret_volume("control", control_name(instance), "ca.crt", "tls.crt", "tls.key"),
        _secret_volume("allowlist", allowlist_name(instance), "allowlist.json"),
        {"name": "socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        *custody_volumes(
            credential_check_name(inputs.key_manager_name), inputs.key_manager, inputs.key_manager.credentials.use
        ),
    ]
    database = postgresql(inputs.spec)
    if database is not None:
        reference = database.connection_secret_ref
        key = reference.key or CONNECTION_FILE
        volumes.append(_secret_volume("storage", reference.name, (key, CONNECTION_FILE), optional=True))
    return volumes


def _config_volume(name: str, config_map: str, file: str) -> Manifest:
    return {
        "name": name,
        "configMap": {"name": config_map, "items": [{"key": file, "path": file}], "defaultMode": 0o444},
    }


def _secret_volume(name: str, secret: str, *keys: str | tuple[str, str], **more: Any) -> Manifest:
    pairs = [(key, key) if isinstance(key, str) else key for key in keys]
    items = [{"key": key, "path": path} for key, path in pairs]
    return {"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": SECRET_MODE, **more}}

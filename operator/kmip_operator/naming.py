"""Names, labels and annotations of what the operator makes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from kmip_operator.plan import Manifest

GROUP = "kmip.dev"
API_VERSION = f"{GROUP}/v1alpha1"
MANAGED_BY = "kmip-operator"

LABEL_INSTANCE = f"{GROUP}/instance"
LABEL_REGION = f"{GROUP}/region"
LABEL_KEYSPACE = f"{GROUP}/keyspace"
LABEL_ROOT_KEY = f"{GROUP}/rootkey"
LABEL_KIND = f"{GROUP}/kind"
LABEL_NAME = f"{GROUP}/name"
LABEL_IN_SERVICE = f"{GROUP}/in-service"
LABEL_ACTION = f"{GROUP}/action"
LABEL_REQUEST = f"{GROUP}/request"

ANNOTATION_CONFIRM_DELETE = f"{GROUP}/confirm-delete"
ANNOTATION_RENEW_SERVER = f"{GROUP}/renew-server-certificate"
ANNOTATION_RENEWED_FOR = f"{GROUP}/renewed-for"
ANNOTATION_ALLOWLIST = f"{GROUP}/allowlist-revision"
ANNOTATION_PUBLISHED_AT = f"{GROUP}/published-at"
ANNOTATION_MOUNTED = f"{GROUP}/mounted"
ANNOTATION_CONFIG = f"{GROUP}/config"
ANNOTATION_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_INPUTS = f"{GROUP}/inputs"

# RFC 1035 labels, which Service names and label values must fit.
LABEL_LIMIT = 63
# A Job's pods and a StatefulSet's pods get a suffix, and the controller-revision-hash label another.
WORKLOAD_LIMIT = 52


def object_name(*parts: str, limit: int = LABEL_LIMIT) -> str:
    """The parts joined by dashes as a DNS label (RFC 1035) of at most ``limit`` characters.

    Dots become dashes; whenever that or the length changes the name, a hash of the parts keeps it distinct.
    """
    plain = "-".join(parts)
    name = plain.replace(".", "-")
    if not name[:1].isalpha():
        name = f"k-{name}"
    if name == plain and len(name) <= limit:
        return name
    return f"{name[: limit - 9].rstrip('-')}-{_digest(*parts)[:8]}"


def label_value(name: str) -> str:
    """``name`` as a label value: itself where it fits 63 characters, else shortened with a hash of it."""
    if len(name) <= LABEL_LIMIT:
        return name
    return f"{name[: LABEL_LIMIT - 9].rstrip('-.')}-{_digest(name)[:8]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def common_labels(*, application: str, instance: str, component: str) -> dict[str, str]:
    """The recommended Kubernetes labels."""
    return {
        "app.kubernetes.io/name": application,
        "app.kubernetes.io/instance": label_value(instance),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": MANAGED_BY,
        "app.kubernetes.io/part-of": MANAGED_BY,
    }


def owner_labels(owner: Manifest) -> dict[str, str]:
    """Labels that name the custom resource for whose sake an object exists."""
    return {LABEL_KIND: owner["kind"], LABEL_NAME: label_value(owner["metadata"]["name"])}


def owner_reference(owner: Manifest) -> Manifest:
    """A controller reference: the object goes when its owner goes.

    ``blockOwnerDeletion`` is left false: it needs a permission on the owner's finalizers and serves foreground deletion only.
    """
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def metadata(owner: Manifest, name: str, labels: Mapping[str, str], *, owned: bool = True) -> Manifest:
    """Metadata of an object in the owner's namespace."""
    result: Manifest = {"name": name, "namespace": owner["metadata"]["namespace"], "labels": dict(labels)}
    if owned:
        result["ownerReferences"] = [owner_reference(owner)]
    return result


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """An object's annotations, empty when it has none."""
    return dict(manifest["metadata"].get("annotations") or {})


def labels_of(manifest: Manifest) -> dict[str, str]:
    """An object's labels, empty when it has none."""
    return dict(manifest["metadata"].get("labels") or {})


def base64_text(data: bytes) -> str:
    """Bytes as a Secret's ``data`` holds them."""
    return base64.b64encode(data).decode()


_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """A duration such as ``168h`` or ``1m30s`` in seconds.

    Raises:
        ValueError: it is not of that form.
    """
    if not re.fullmatch(r"([0-9]+(ms|s|m|h))+", duration):
        raise ValueError(f"not a duration: {duration!r}")
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(duration))

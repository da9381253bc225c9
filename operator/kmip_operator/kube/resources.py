"""The resources the operator reads or writes, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

GROUP = "kmip.dev"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource. The operator knows a closed set of them, so it needs no discovery."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` as manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The request path of the collection, one object or its subresource; no namespace means all of them."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


KEY_MANAGERS = Resource(GROUP, VERSION, "keymanagers", "KeyManager")
ROOT_KEYS = Resource(GROUP, VERSION, "rootkeys", "RootKey")
KMIP_INSTANCES = Resource(GROUP, VERSION, "kmipinstances", "KmipInstance")
CLIENT_CERTIFICATES = Resource(GROUP, VERSION, "clientcertificates", "ClientCertificate")
KINDS = (KEY_MANAGERS, ROOT_KEYS, KMIP_INSTANCES, CLIENT_CERTIFICATES)

PODS = Resource("", "v1", "pods", "Pod")
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SERVICES = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

CHILDREN = (
    PODS,
    CONFIG_MAPS,
    SERVICES,
    SERVICE_ACCOUNTS,
    VOLUME_CLAIMS,
    DEPLOYMENTS,
    STATEFUL_SETS,
    JOBS,
    DISRUPTION_BUDGETS,
)
"""Children that are watched with their content (Secrets are not: see :mod:`kmip_operator.kube.metadata_watch`)."""

_ALL = (*KINDS, *CHILDREN, SECRETS, NODES, NETWORK_POLICIES, LEASES, EVENTS, CUSTOM_RESOURCE_DEFINITIONS)
_BY_TYPE = {(resource.api_version, resource.kind): resource for resource in _ALL}


def resource_of(api_version: str, kind: str) -> Resource:
    """The resource of a manifest's type.

    Raises:
        KeyError: the operator does not handle that type.
    """
    return _BY_TYPE[(api_version, kind)]

"""The custom resources of the end-to-end tests, as small as they can be."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]

DATABASE = "postgresql://kmip:{password}@postgresql.regions.svc:5432/postgres"


def resource(kind: str, namespace: str, name: str, spec: Manifest, **metadata: Any) -> Manifest:
    """A custom resource."""
    return {
        "apiVersion": "kmip.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def secret(namespace: str, name: str, **values: str) -> Manifest:
    """A Secret with one text for each key; ``_`` in a key stands for a dot."""
    data = {key.replace("_", "."): value for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def software(namespace: str, name: str = "software", secret_name: str = "seed") -> Manifest:
    """A KeyManager with a seed in a Secret."""
    reference = {"secretRef": {"name": secret_name}}
    return resource("KeyManager", namespace, name, {"type": "Software", "credentials": {"use": reference}})


def root_key(namespace: str, name: str = "root", manager: str = "software", **spec: Any) -> Manifest:
    """A RootKey to create."""
    source = {"type": "Create", "create": {"algorithm": "AES", "length": 256}}
    return resource("RootKey", namespace, name, {"keyManagerRef": {"name": manager}, "source": source, **spec})


def sqlite(namespace: str, name: str = "kms", root: str = "root", *, metadata: Any = None, **spec: Any) -> Manifest:
    """A KmipInstance on a volume, with an address of a load balancer unless ``spec`` says otherwise."""
    body: Manifest = {"rootKeyRef": {"name": root}, **spec}
    if "regions" not in body:
        body.setdefault("service", {"type": "LoadBalancer"})
    return resource("KmipInstance", namespace, name, body, **(metadata or {}))


def postgresql(namespace: str, name: str = "kms", *, schema: str, regions: list[Manifest], **spec: Any) -> Manifest:
    """A KmipInstance on the database of the two-region example, in a schema of its own."""
    storage = {
        "type": "PostgreSQL",
        "postgresql": {"connectionSecretRef": {"name": "database"}, "schema": schema},
    }
    return resource(
        "KmipInstance",
        namespace,
        name,
        {"rootKeyRef": {"name": "root"}, "regions": regions, "storage": storage, **spec},
    )


def region(name: str, replicas: int = 1, **service: Any) -> Manifest:
    """A region with a load balancer."""
    return {"name": name, "replicas": replicas, "service": {"type": "LoadBalancer", **service}}


def leaf(
    namespace: str, name: str, pem: str | None = None, *, secret_name: str = "", instance: str = "kms", **spec: Any
) -> Manifest:
    """A ClientCertificate that trusts exactly one certificate, given or in a Secret, with all permissions."""
    source: Manifest = {"secretRef": {"name": secret_name}} if pem is None else {"pem": pem}
    body = {"instanceRef": {"name": instance}, "type": "Leaf", "leaf": source, "permissions": {"profile": "Full"}}
    return resource("ClientCertificate", namespace, name, {**body, **spec})


def authority(namespace: str, name: str, pem: str, match: Manifest, *, instance: str = "kms") -> Manifest:
    """A ClientCertificate that trusts an authority's certificates that match."""
    body = {
        "instanceRef": {"name": instance},
        "type": "Authority",
        "authority": {"pem": pem, "match": match},
        "permissions": {"profile": "Full"},
    }
    return resource("ClientCertificate", namespace, name, body)

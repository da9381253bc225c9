"""What exists for a KmipInstance beside its workloads: names, Services, Secrets, the disruption budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kmip_contract.kmipd import KMIP_PORT
from kmip_operator import naming, pki
from kmip_operator.kmipinstance.model import (
    Exposure,
    KmipInstanceSpec,
    Postgresql,
    Region,
    ServiceType,
    StorageType,
)
from kmip_operator.plan import Manifest

APPLICATION = "kmipd"

# The region of an instance without regions, in labels and status.
DEFAULT_REGION = "default"


@dataclass(frozen=True)
class Site:
    """One region as it is built: the defaults are filled in.

    ``name`` is ``default`` for an instance without regions, whose ``region`` is empty. ``path`` is its field in the spec.
    ``nodes``: the labels of the nodes to run on.
    """

    name: str
    region: str
    path: str
    replicas: int
    nodes: dict[str, str]
    exposure: Exposure


def sites(spec: KmipInstanceSpec) -> tuple[Site, ...]:
    """The regions of an instance, in the order of the spec."""
    replicas = 2 if storage_type(spec) is StorageType.POSTGRESQL else 1
    if not spec.regions:
        return (Site(DEFAULT_REGION, "", "spec", replicas, {}, spec.service or Exposure()),)
    return tuple(_site(index, region, replicas) for index, region in enumerate(spec.regions))


def _site(index: int, region: Region, replicas: int) -> Site:
    own = region.node_selector
    nodes = {"topology.kubernetes.io/region": region.name} if own is None else dict(own)
    return Site(
        name=region.name,
        region=region.name,
        path=f"spec.regions[{index}]",
        replicas=region.replicas or replicas,
        nodes=nodes,
        exposure=region.service or Exposure(),
    )


def storage_type(spec: KmipInstanceSpec) -> StorageType:
    """Where keys are kept."""
    return spec.storage.type if spec.storage else StorageType.SQLITE


def postgresql(spec: KmipInstanceSpec) -> Postgresql | None:
    """The database, ``None`` with SQLite."""
    return spec.storage.postgresql if spec.storage and storage_type(spec) is StorageType.POSTGRESQL else None


def _name(instance: Manifest, *parts: str) -> str:
    return naming.object_name(instance["metadata"]["name"], *parts)


def authority_name(instance: Manifest) -> str:
    """Name of the Secret with the instance's CA."""
    return _name(instance, "ca")


def server_name(instance: Manifest) -> str:
    """Name of the Secret with the server certificate."""
    return _name(instance, "server")


def control_name(instance: Manifest) -> str:
    """Name of the Secret with the server side of /status."""
    return _name(instance, "control")


def control_client_name(instance: Manifest) -> str:
    """Name of the Secret with the operator's client certificate for /status."""
    return _name(instance, "control-client")


def allowlist_name(instance: Manifest) -> str:
    """Name of the Secret with the allowlist."""
    return _name(instance, "allowlist")


def headless_service_name(instance: Manifest) -> str:
    """Name of the Service that governs the StatefulSet."""
    return _name(instance, "pods")


def service_account_name(instance: Manifest) -> str:
    """Name of the pods' ServiceAccount."""
    return _name(instance)


def site_name(instance: Manifest, site: Site) -> str:
    """Name of a region's Service and ConfigMap."""
    return _name(instance, site.region) if site.region else _name(instance)


def control_host(instance: Manifest) -> str:
    """The server name of /status (SNI and SAN): bound to the instance, so that no pod answers for another."""
    metadata = instance["metadata"]
    return f"status.{metadata['name']}.{metadata['namespace']}.kmip.internal"


def secret_names(instance: Manifest) -> tuple[str, ...]:
    """The users' Secrets that the instance itself refers to; their content is never read."""
    database = postgresql(KmipInstanceSpec.model_validate(instance["spec"]))
    return (database.connection_secret_ref.name,) if database else ()


def labels(instance: Manifest, component: str) -> dict[str, str]:
    """Labels of everything that belongs to an instance."""
    name = instance["metadata"]["name"]
    return {
        **naming.common_labels(application=APPLICATION, instance=name, component=component),
        **naming.owner_labels(instance),
        naming.LABEL_INSTANCE: naming.label_value(name),
    }


def retained_labels(instance: Manifest, component: str, keyspace: str | None) -> dict[str, str]:
    """Labels of what may outlive the instance: they lead back to its keys and to the root key that unwraps them."""
    result = labels(instance, component)
    result[naming.LABEL_ROOT_KEY] = naming.label_value(instance["spec"]["rootKeyRef"]["name"])
    if keyspace:
        result[naming.LABEL_KEYSPACE] = keyspace
    return result


def selector(instance: Manifest, site: Site | None = None) -> dict[str, str]:
    """Labels that choose an instance's serving pods, of one region or of all."""
    result = {
        "app.kubernetes.io/name": APPLICATION,
        naming.LABEL_INSTANCE: naming.label_value(instance["metadata"]["name"]),
        "app.kubernetes.io/component": "server",
    }
    if site is not None:
        result[naming.LABEL_REGION] = site.name
    return result


def service_account(instance: Manifest) -> Manifest:
    """The pods' ServiceAccount: no token, no rights."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": naming.metadata(instance, service_account_name(instance), labels(instance, "server")),
        "automountServiceAccountToken": False,
    }


def service(instance: Manifest, site: Site) -> Manifest:
    """The Service that clients connect to; only pods that are in service are behind it."""
    exposure = site.exposure
    kind = exposure.type or ServiceType.CLUSTER_IP
    port: Manifest = {"name": "kmip", "port": KMIP_PORT, "targetPort": "kmip", "protocol": "TCP"}
    if exposure.node_port and kind is not ServiceType.CLUSTER_IP:
        port["nodePort"] = exposure.node_port
    spec: Manifest = {
        "type": str(kind),
        "selector": {**selector(instance, site), naming.LABEL_IN_SERVICE: "true"},
        "ports": [port],
    }
    if exposure.external_traffic_policy and kind is not ServiceType.CLUSTER_IP:
        spec["externalTrafficPolicy"] = str(exposure.external_traffic_policy)
    if kind is ServiceType.LOAD_BALANCER:
        spec |= _load_balancer(exposure)
    metadata = naming.metadata(
        instance, site_name(instance, site), {**labels(instance, "server"), naming.LABEL_REGION: site.name}
    )
    if exposure.annotations:
        metadata["annotations"] = dict(exposure.annotations)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _load_balancer(exposure: Exposure) -> Manifest:
    fields = {
        "loadBalancerIP": exposure.load_balancer_ip,
        "loadBalancerClass": exposure.load_balancer_class,
        "loadBalancerSourceRanges": exposure.load_balancer_source_ranges,
    }
    return {name: value for name, value in fields.items() if value}


def headless_service(instance: Manifest, spec: KmipInstanceSpec) -> Manifest | None:
    """The Service that governs the StatefulSet; ``None`` without one."""
    if storage_type(spec) is not StorageType.SQLITE:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": naming.metadata(instance, headless_service_name(instance), labels(instance, "pods")),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(instance),
            "ports": [{"name": "kmip", "port": KMIP_PORT, "targetPort": "kmip", "protocol": "TCP"}],
        },
    }


def disruption_budget(instance: Manifest, site: Site) -> Manifest | None:
    """At most one pod of a region at a time is drained; ``None`` for a single pod, which a budget would pin to its node."""
    if site.replicas < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": naming.metadata(instance, site_name(instance, site), labels(instance, "server")),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(instance, site)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def server_names(instance: Manifest, spec: KmipInstanceSpec, services: list[Manifest]) -> tuple[str, ...]:
    """The names and addresses that the server certificate should have; the first one is what people see.

    Args:
        instance: the KmipInstance.
        spec: its spec.
        services: its Services as they are, for the addresses that load balancers have.
    """
    return tuple(dict.fromkeys(_server_names(instance, spec, services)))


def _server_names(instance: Manifest, spec: KmipInstanceSpec, services: list[Manifest]) -> Iterator[str]:
    places = sites(spec)
    for site in places:
        yield from site.exposure.host_names or []
    namespace = instance["metadata"]["namespace"]
    for site in places:
        name = site_name(instance, site)
        yield from (f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local", f"{name}.{namespace}", name)
    for site in places:
        if site.exposure.load_balancer_ip:
            yield site.exposure.load_balancer_ip
    for present in services:
        for ingress in ((present.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
            yield from (address for key in ("ip", "hostname") if (address := ingress.get(key)))


def authority_secret(instance: Manifest, pair: pki.KeyPair, keyspace: str | None) -> Manifest:
    """The instance's CA. It outlives the instance, so that clients need not be told to trust another."""
    return _secret(
        instance,
        authority_name(instance),
        retained_labels(instance, "authority", keyspace),
        {"ca.crt": pair.certificate, "ca.key": pair.key},
        owned=False,
    )


def server_secret(
    instance: Manifest, pair: pki.KeyPair, authority: bytes, keyspace: str | None, renewed_for: str
) -> Manifest:
    """The server certificate with its chain. It outlives the instance: administrators have accepted this very one."""
    made = _secret(
        instance,
        server_name(instance),
        retained_labels(instance, "server-certificate", keyspace),
        {"tls.crt": pair.certificate + authority, "tls.key": pair.key, "ca.crt": authority},
        owned=False,
    )
    if renewed_for:
        made["metadata"]["annotations"] = {naming.ANNOTATION_RENEWED_FOR: renewed_for}
    return made


def control_secrets(
    instance: Manifest, authority: bytes, server: pki.KeyPair, client: pki.KeyPair
) -> tuple[Manifest, Manifest]:
    """Both sides of /status; nobody has the key of their authority any more."""
    return (
        _secret(instance, control_name(instance), labels(instance, "control"), _pair(server, authority), owned=True),
        _secret(
            instance, control_client_name(instance), labels(instance, "control"), _pair(client, authority), owned=True
        ),
    )


def _pair(pair: pki.KeyPair, authority: bytes) -> dict[str, bytes]:
    return {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority}


def _secret(
    instance: Manifest, name: str, secret_labels: dict[str, str], data: dict[str, bytes], *, owned: bool
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": naming.metadata(instance, name, secret_labels, owned=owned),
        "type": "Opaque",
        "data": {key: naming.base64_text(value) for key, value in data.items()},
    }

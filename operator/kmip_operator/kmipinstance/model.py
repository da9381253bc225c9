"""The KmipInstance resource."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from kmip_contract.allowlist import Serving
from kmip_contract.kmipd import TlsProfile
from kmip_operator.resource import (
    SET_LIST,
    AnnotationText,
    ApiModel,
    DnsLabel,
    Duration,
    HostName,
    ImageReference,
    LabelText,
    ObjectName,
    PullPolicy,
    Quantity,
    Reference,
    Resources,
    SecretKeyReference,
    Status,
    map_list,
    rule,
    rules,
    union,
)

REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"


class ServiceType(StrEnum):
    """How clients outside the cluster reach a region."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class TrafficPolicy(StrEnum):
    """Where connections from outside may go."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class Exposure(ApiModel):
    """How clients reach the pods: a Service on port 5696."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.nodePort) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",
                "nodePort needs type NodePort or LoadBalancer",
            ),
            rule(
                "!(has(self.loadBalancerIP) || has(self.loadBalancerClass) || has(self.loadBalancerSourceRanges)) || "
                "(has(self.type) && self.type == 'LoadBalancer')",
                "loadBalancerIP, loadBalancerClass and loadBalancerSourceRanges need type LoadBalancer",
            ),
            rule(
                "!has(self.externalTrafficPolicy) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",
                "externalTrafficPolicy needs type NodePort or LoadBalancer",
            ),
        )
    )

    type: ServiceType | None = None
    """ClusterIP (default), NodePort or LoadBalancer."""
    host_names: (
        Annotated[
            list[HostName],
            Field(max_length=16, json_schema_extra=SET_LIST),
        ]
        | None
    ) = None
    """The names clients connect to, as your DNS has them. They are put into the server certificate and shown as the
    address."""
    annotations: Annotated[dict[str, AnnotationText], Field(max_length=64)] | None = None
    """Annotations of the Service, for load balancers and DNS controllers."""
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port on every node. Default: one that the cluster chooses."""
    load_balancer_ip: Annotated[str, Field(min_length=2, max_length=45, pattern=r"^[0-9a-fA-F:.]+$")] | None = Field(
        default=None, alias="loadBalancerIP"
    )
    """The address to ask the load balancer for, where it supports that."""
    load_balancer_class: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """Which load balancer implementation to use."""
    load_balancer_source_ranges: (
        Annotated[
            list[Annotated[str, Field(min_length=3, max_length=49, pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")]],
            Field(max_length=64, json_schema_extra=SET_LIST),
        ]
        | None
    ) = None
    """Address ranges (CIDR) that may connect."""
    external_traffic_policy: TrafficPolicy | None = None
    """Local keeps the client's address for the audit trail; Cluster (default) lets any node forward."""


class Region(ApiModel):
    """One workload and its Service, on the nodes of one region."""

    name: Annotated[
        DnsLabel,
        Field(
            json_schema_extra=rules(
                rule("self != 'pods'", "a region cannot be named pods: the Service <instance>-pods names the pods")
            )
        ),
    ]
    """Name of the region. Unless nodeSelector is given, pods run on nodes with topology.kubernetes.io/region of this
    value."""
    replicas: Annotated[int, Field(ge=1, le=16)] | None = None
    """How many pods. Default: 2 with PostgreSQL; with SQLite there is always 1."""
    node_selector: Annotated[dict[str, LabelText], Field(max_length=16)] | None = None
    """Labels of the nodes to run on, instead of the region's name. {} means any node."""
    service: Exposure | None = None
    """How clients reach this region. Default: a ClusterIP Service."""


class StorageType(StrEnum):
    """Where wrapped keys are kept."""

    SQLITE = "SQLite"
    POSTGRESQL = "PostgreSQL"


class AccessMode(StrEnum):
    """How a volume may be attached."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class Sqlite(ApiModel):
    """A database file on a volume of its own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.size) == has(oldSelf.size) && (!has(self.size) || self.size == oldSelf.size)",
                "size cannot be changed: enlarge the PersistentVolumeClaim itself",
            ),
            rule(
                "has(self.storageClassName) == has(oldSelf.storageClassName) && "
                "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
                "storageClassName cannot be changed",
            ),
            rule(
                "has(self.accessMode) == has(oldSelf.accessMode) && "
                "(!has(self.accessMode) || self.accessMode == oldSelf.accessMode)",
                "accessMode cannot be changed",
            ),
        )
    )

    size: Quantity | None = None
    """Size of the volume. Default: 1Gi; a key takes about 1 KiB."""
    storage_class_name: ObjectName | None = None
    """StorageClass of the volume. Default: the cluster's default. Network file systems are refused."""
    access_mode: AccessMode | None = None
    """ReadWriteOncePod keeps a second pod off the volume at the level of Kubernetes, where the StorageClass can. Default:
    ReadWriteOnce. The database is locked against a second process in both cases."""


class Postgresql(ApiModel):
    """A PostgreSQL database, shared by all replicas and regions."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(has(self.schema) ? self.schema : 'kmip') == (has(oldSelf.schema) ? oldSelf.schema : 'kmip')",
                "schema cannot be changed: the keys are in it",
            )
        )
    )

    connection_secret_ref: SecretKeyReference
    """The Secret with the connection URI (postgresql://user:password@host:5432/database?sslmode=verify-full). Default key:
    uri. The operator never reads it."""
    database_schema: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z_][a-z0-9_]*$")] | None = Field(
        default=None, alias="schema"
    )
    """The schema within the database. Default: kmip. One schema holds one instance."""


class Storage(ApiModel):
    """Where wrapped keys are kept."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.sqlite) || self.type == 'SQLite'", "sqlite can be given only when type is SQLite"),
            *union("type", PostgreSQL="postgresql"),
        )
    )

    type: StorageType
    """SQLite: a file on a volume, one pod. PostgreSQL: a database, any number of pods and regions."""
    sqlite: Sqlite | None = None
    """The volume. Only with type SQLite."""
    postgresql: Postgresql | None = None
    """The database. Only with type PostgreSQL."""


class Tls(ApiModel):
    """What the KMIP port offers."""

    profile: TlsProfile | None = None
    """Modern (default): TLS 1.2 and 1.3 with forward secrecy. VSphere7: also the two suites without it that vCenter before
    7.0.2 needs."""


class Cache(ApiModel):
    """Keys in the memory of serving pods."""

    max_age: (
        Annotated[
            Duration,
            Field(
                json_schema_extra=rules(rule("duration(self) <= duration('60s')", "maxAge must be at most 60s")),
            ),
        ]
        | None
    ) = None
    """How long an unwrapped key may be kept, at most (and by default) 60s; 0s means never. It bounds how long keys are
    served after the key manager became unreachable."""


class TolerationOperator(StrEnum):
    """How a taint is compared."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class Toleration(ApiModel):
    """A taint that the pods tolerate."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """The taint's key; empty with operator Exists: every taint."""
    operator: TolerationOperator | None = None
    """Equal (default) or Exists."""
    value: LabelText | None = None
    """The taint's value."""
    effect: Annotated[str, Field(max_length=32)] | None = None
    """NoSchedule, PreferNoSchedule or NoExecute; empty: all."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """For NoExecute: how long the pod stays."""


class PodSettings(ApiModel):
    """Further settings of the serving pods."""

    labels: (
        Annotated[
            dict[str, LabelText],
            Field(
                max_length=32,
                json_schema_extra=rules(
                    rule(
                        "self.all(key, !key.startsWith('kmip.dev/') && !key.startsWith('app.kubernetes.io/'))",
                        "labels of kmip.dev/ and app.kubernetes.io/ belong to the operator",
                    )
                ),
            ),
        ]
        | None
    ) = None
    """Labels of the pods, for network policies and cost allocation."""
    annotations: (
        Annotated[
            dict[str, AnnotationText],
            Field(
                max_length=32,
                json_schema_extra=rules(
                    rule(
                        "self.all(key, !key.startsWith('kmip.dev/'))", "annotations of kmip.dev/ belong to the operator"
                    )
                ),
            ),
        ]
        | None
    ) = None
    """Annotations of the pods."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods. Storage waits for keys: consider a high one."""
    tolerations: (
        Annotated[list[Toleration], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] | None
    ) = None
    """Taints the pods tolerate."""


class Kmipd(ApiModel):
    """The container that speaks KMIP."""

    image: ImageReference | None = None
    """Its image. Default: the operator's."""
    image_pull_policy: PullPolicy | None = None
    """When to fetch the image. Default: the operator's setting."""
    resources: Resources | None = None
    """Compute resources. Default: requests of 50m cpu and 96Mi memory, no limits."""


class DeletionPolicy(StrEnum):
    """What happens to keys when the instance is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


_SQLITE = "(!has(self.storage) || self.storage.type == 'SQLite')"


class KmipInstanceSpec(ApiModel):
    """What the user says."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.rootKeyRef.name == oldSelf.rootKeyRef.name",
                "rootKeyRef cannot be changed: the keys are wrapped by that root key",
            ),
            rule(
                "(has(self.storage) ? self.storage.type : 'SQLite') == "
                "(has(oldSelf.storage) ? oldSelf.storage.type : 'SQLite')",
                "storage.type cannot be changed: the keys are there",
            ),
            rule(
                f"!{_SQLITE} || !has(self.regions) || (self.regions.size() <= 1 && "
                "self.regions.all(r, !has(r.replicas) || r.replicas == 1))",
                "SQLite storage serves one region with one replica: use storage.type PostgreSQL for more",
            ),
            rule(
                "!(has(self.service) && has(self.regions) && self.regions.size() > 0)",
                "service is for an instance without regions: write it as regions[].service",
            ),
        )
    )

    root_key_ref: Reference
    """The RootKey that wraps every key of the instance."""
    regions: Annotated[list[Region], Field(max_length=16, json_schema_extra=map_list("name"))] | None = None
    """Where to serve: one workload and one Service each. Default: one workload on any node."""
    service: Exposure | None = None
    """How clients reach an instance without regions. Default: a ClusterIP Service."""
    storage: Storage | None = None
    """Where wrapped keys are kept. Default: SQLite on a volume of 1Gi."""
    tls: Tls | None = None
    """What the KMIP port offers."""
    serving: Serving | None = None
    """Enabled (default), or Fenced: every key is refused within seconds, and nothing is destroyed."""
    deletion_policy: DeletionPolicy | None = None
    """Retain (default): volumes and the CA outlive the instance, and applying it again takes them back. Delete: they go
    with it; that needs the annotation kmip.dev/confirm-delete with the keyspace as its value."""
    cache: Cache | None = None
    """Keys in the memory of serving pods."""
    kmipd: Kmipd | None = None
    """The container that speaks KMIP. The other one is set in the KeyManager."""
    pod: PodSettings | None = None
    """Further settings of the serving pods."""


class Endpoint(ApiModel):
    """Where to connect."""

    region: str | None = None
    """The region, absent for an instance without regions."""
    host: str
    """Host name or address."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """TCP port."""
    type: str
    """HostName: as the spec says. LoadBalancer: what the load balancer has. Node: a node's port. Cluster: within the
    cluster."""


class RegionStatus(ApiModel):
    """One region's pods."""

    name: str
    """The region; default for an instance without regions."""
    ready: Annotated[int, Field(ge=0)]
    """Pods that serve."""
    replicas: Annotated[int, Field(ge=0)]
    """Pods that should."""


class ServerCertificate(ApiModel):
    """The certificate that clients see."""

    sha256: Annotated[str, Field(pattern=r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$")]
    """SHA-256 fingerprint, as browsers and vCenter show it."""
    not_after: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """Until when it is valid."""
    names: Annotated[list[str], Field(json_schema_extra=SET_LIST)] | None = None
    """Host names and addresses it is valid for."""
    missing_names: Annotated[list[str], Field(json_schema_extra=SET_LIST)] | None = None
    """Names and addresses that clients use and that are not in it. Clients that check names need a new certificate:
    annotate the instance with kmip.dev/renew-server-certificate and any new value."""


class KmipInstanceStatus(Status):
    """What the operator answers."""

    address: str | None = None
    """Where to connect, in one line."""
    endpoints: Annotated[list[Endpoint], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})] | None = None
    """Where to connect, region by region."""
    ca_certificate: str | None = None
    """The CA certificate (PEM) that clients must trust."""
    server_certificate: ServerCertificate | None = None
    """The certificate that clients see."""
    keyspace: Annotated[str, Field(max_length=63)] | None = None
    """The identity of the keys: made when the storage was initialised, kept in it and in every backup."""
    allowlist_revision: Annotated[int, Field(ge=0)] | None = None
    """The revision of the list of client certificates that was published last."""
    pods: str | None = None
    """Pods that serve, of those that should."""
    regions: Annotated[list[RegionStatus], Field(json_schema_extra=map_list("name"))] | None = None
    """The pods, region by region."""


class KmipInstance(ApiModel):
    """A KMIP server: add status.address to vCenter as a key provider, trust status.caCertificate.

    Its keys are wrapped by a RootKey, and it serves the clients that ClientCertificates name.
    """

    spec: KmipInstanceSpec
    """What to serve, where, and where to keep the keys."""
    status: KmipInstanceStatus | None = None
    """Where to connect, and whether it works. Written by the operator."""

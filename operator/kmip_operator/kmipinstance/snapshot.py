"""Everything a decision about a KmipInstance looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kmip_contract.allowlist import Allowlist
from kmip_operator.facts import Images, NodeFacts, ObjectMeta, PemSource, PodFacts
from kmip_operator.plan import Manifest


@dataclass(frozen=True)
class CertificateInput:
    """A ClientCertificate of the instance and the certificate it gives."""

    object: Manifest
    source: PemSource


@dataclass(frozen=True)
class Authority:
    """The instance's CA Secret: the certificate (PEM), and the key for ``prepare`` alone."""

    meta: ObjectMeta
    certificate: str
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ServerLeaf:
    """The instance's server-certificate Secret: the chain (PEM); its key is not read."""

    meta: ObjectMeta
    certificate: str


@dataclass(frozen=True)
class NewMaterial:
    """Secrets that ``prepare`` made because they are absent or their renewal was asked for, as manifests; not printed.

    ``renewed_server`` replaces an existing server Secret (an act was asked for); the others are created once.
    """

    authority: Manifest | None = field(default=None, repr=False)
    server: Manifest | None = field(default=None, repr=False)
    renewed_server: Manifest | None = field(default=None, repr=False)
    control: tuple[Manifest, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class KmipInstanceSnapshot:
    """One observation.

    object: the KmipInstance.
    root_key, key_manager: what it refers to (the key manager through the root key), ``None`` when absent.
    certificates: every ClientCertificate of the namespace whose ``spec.instanceRef`` names the instance.
    secrets: metadata of the users' Secrets that exist, by name: the key manager's (``keymanager.children.secret_names``), its
        ``<km>-credential-check``, and the PostgreSQL connection Secret.
    authority, server: the instance's own Secrets of those names (``kmipinstance.children``), ``None`` when absent.
    control: metadata of ``<i>-control`` and ``<i>-control-client`` that exist, by name.
    allowlist: the content of the allowlist Secret, ``None`` when absent or unreadable; ``allowlist_changed`` is when its
        current revision was published (annotation ``kmip.dev/published-at`` of that Secret).
    children: the objects in the namespace with the labels ``kmip.dev/instance: <label value>`` and
        ``app.kubernetes.io/managed-by: kmip-operator`` of the kinds Deployment, StatefulSet, Service, ConfigMap,
        PodDisruptionBudget, ServiceAccount.
    volume_claims: metadata of the PersistentVolumeClaims with those labels.
    pods: its serving pods.
    nodes: ``None`` when nodes may not be read.
    """

    object: Manifest
    images: Images
    root_key: Manifest | None = None
    key_manager: Manifest | None = None
    certificates: tuple[CertificateInput, ...] = ()
    secrets: Mapping[str, ObjectMeta] = field(default_factory=dict)
    authority: Authority | None = None
    server: ServerLeaf | None = None
    control: Mapping[str, ObjectMeta] = field(default_factory=dict)
    allowlist: Allowlist | None = None
    allowlist_changed: datetime | None = None
    children: tuple[Manifest, ...] = ()
    volume_claims: tuple[ObjectMeta, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    nodes: tuple[NodeFacts, ...] | None = None
    new: NewMaterial = field(default_factory=NewMaterial)

"""Everything a decision about a ClientCertificate looks at."""

from __future__ import annotations

from dataclasses import dataclass

from kmip_contract.allowlist import Allowlist
from kmip_operator.facts import PemSource, PodFacts
from kmip_operator.plan import Manifest


@dataclass(frozen=True)
class ClientCertificateSnapshot:
    """One observation.

    object: the ClientCertificate.
    source: the certificate it gives.
    instance: the KmipInstance it names, ``None`` when absent.
    others: the other ClientCertificates of the same instance whose ``status.sha256`` equals this certificate's fingerprint.
    allowlist: the content of the instance's allowlist Secret, ``None`` when absent.
    pods: the instance's serving pods.
    """

    object: Manifest
    source: PemSource
    instance: Manifest | None = None
    others: tuple[Manifest, ...] = ()
    allowlist: Allowlist | None = None
    pods: tuple[PodFacts, ...] = ()

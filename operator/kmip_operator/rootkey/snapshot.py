"""Everything a decision about a RootKey looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kmip_operator.facts import Images, JobFacts, ObjectMeta
from kmip_operator.plan import Manifest


@dataclass(frozen=True)
class RootKeySnapshot:
    """One observation.

    object: the RootKey.
    key_manager: the KeyManager it refers to, ``None`` when there is none of that name.
    secrets: metadata of the key manager's Secrets that exist (``keymanager.children.secret_names``), by name.
    jobs: the Jobs that the RootKey controls.
    instances: the KmipInstances of the namespace whose ``spec.rootKeyRef`` names this RootKey.
    retained: volume claims and Secrets labelled ``kmip.dev/rootkey: <label value of the name>``, metadata only.
    """

    object: Manifest
    images: Images
    key_manager: Manifest | None = None
    secrets: Mapping[str, ObjectMeta] = field(default_factory=dict)
    jobs: tuple[JobFacts, ...] = ()
    instances: tuple[Manifest, ...] = ()
    retained: tuple[ObjectMeta, ...] = ()

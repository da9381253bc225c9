"""Everything a decision about a KeyManager looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kmip_operator.facts import Images, JobFacts, ObjectMeta
from kmip_operator.plan import Manifest


@dataclass(frozen=True)
class KeyManagerSnapshot:
    """One observation.

    object: the KeyManager.
    secrets: metadata of the Secrets in ``keymanager.children.secret_names(object)`` that exist, by name (never their content).
    volume_claims: metadata of the claim named by ``spec.pkcs11.volumeClaimRef``, by name, if it exists.
    jobs: the Jobs that the KeyManager controls.
    root_keys: names of the RootKeys in the namespace whose ``spec.keyManagerRef`` names this KeyManager, sorted.
    credential_check: the operator's own Secret with the random HMAC key (name from ``keymanager.children``), metadata only.
    new_credential_check: made by ``prepare`` when there is none yet; not printed.
    """

    object: Manifest
    images: Images
    secrets: Mapping[str, ObjectMeta] = field(default_factory=dict)
    volume_claims: Mapping[str, ObjectMeta] = field(default_factory=dict)
    jobs: tuple[JobFacts, ...] = ()
    root_keys: tuple[str, ...] = ()
    credential_check: ObjectMeta | None = None
    new_credential_check: Manifest | None = field(default=None, repr=False)

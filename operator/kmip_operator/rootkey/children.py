"""What exists for a RootKey: the Job that creates or adopts the key."""

from __future__ import annotations

import uuid

from kmip_contract.rootkey import RootKeyAction, RootKeyRequest
from kmip_operator.keymanager.custody import connection, credential_check
from kmip_operator.keymanager.model import KeyManagerSpec
from kmip_operator.plan import Manifest
from kmip_operator.rootkey.model import RootKeySpec

# Fixed for ever: the same namespace and name take the same key back, also in another cluster.
_KEY_IDS = uuid.UUID("5f0f5f0c-3a2b-5d0e-9a53-7b1f6c1f0a11")


def key_label(root_key: Manifest) -> str:
    """What a person sees in the key manager."""
    metadata = root_key["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"


def created_key_id(root_key: Manifest) -> str:
    """The identifier of the key a RootKey of this namespace and name creates (RFC 9562 UUID version 5)."""
    return str(uuid.uuid5(_KEY_IDS, key_label(root_key)))


def request(root_key: Manifest, spec: RootKeySpec, key_manager: KeyManagerSpec, confirmed: str) -> RootKeyRequest:
    """Find or create the key, or find and test it; with the credential that has the HMAC ``confirmed``."""
    if spec.source.adopt is not None:
        return RootKeyRequest(
            action=RootKeyAction.ADOPT,
            connection=connection(key_manager),
            credential=credential_check(confirmed),
            key_id=spec.source.adopt.key_id,
        )
    if spec.source.create is None:
        raise ValueError("source: neither create nor adopt is given")
    return RootKeyRequest(
        action=RootKeyAction.CREATE,
        connection=connection(key_manager),
        credential=credential_check(confirmed),
        key_id=created_key_id(root_key),
        label=key_label(root_key),
        algorithm=spec.source.create.algorithm,
        length=spec.source.create.length,
    )

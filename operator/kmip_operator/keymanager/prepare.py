"""Makes the random material of a KeyManager when there is none."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime

from kmip_operator.keymanager.children import credential_check_secret
from kmip_operator.keymanager.snapshot import KeyManagerSnapshot

# As long as the output of HMAC-SHA-256 (RFC 2104 §3).
_KEY_BYTES = 32


def prepare(snapshot: KeyManagerSnapshot, now: datetime) -> KeyManagerSnapshot:
    """The snapshot with a new HMAC key when the KeyManager has none; call it between observing and deciding."""
    if snapshot.credential_check is not None:
        return snapshot
    made = credential_check_secret(snapshot.object, secrets.token_bytes(_KEY_BYTES))
    return replace(snapshot, new_credential_check=made)

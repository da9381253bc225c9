"""Root keys in IBM Key Protect and the services that share its API."""

from __future__ import annotations

from pathlib import Path

from kmip_contract.rootkey import KeyProtectConnection
from kmip_custody.providers.api import ProviderType
from kmip_custody.providers.keyprotect.provider import KeyProtectProvider


def _credential_file(connection: KeyProtectConnection) -> Path:
    auth = connection.auth
    if auth.trusted_profile is not None:
        return auth.trusted_profile.token_file
    if auth.api_key_file is not None:
        return auth.api_key_file
    raise ValueError("the contract lets neither be missing")


PROVIDER = ProviderType(
    credential_file=_credential_file,
    text=True,
    make=lambda connection, credential, _: KeyProtectProvider(connection, credential),
    confirmable=lambda connection: connection.auth.trusted_profile is None,
)

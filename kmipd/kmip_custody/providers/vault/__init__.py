"""Root keys in the transit engine of HashiCorp Vault or OpenBao."""

from __future__ import annotations

from pathlib import Path

from kmip_contract.rootkey import VaultConnection
from kmip_custody.providers.api import ProviderType
from kmip_custody.providers.vault.provider import VaultProvider


def _credential_file(connection: VaultConnection) -> Path:
    auth = connection.auth
    if auth.kubernetes is not None:
        return auth.kubernetes.jwt_file
    if auth.token_file is not None:
        return auth.token_file
    raise ValueError("the contract lets neither be missing")


PROVIDER = ProviderType(
    credential_file=_credential_file,
    text=True,
    make=lambda connection, credential, _: VaultProvider(connection, credential),
    confirmable=lambda connection: connection.auth.kubernetes is None,
)

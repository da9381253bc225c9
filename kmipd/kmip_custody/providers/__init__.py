"""Key managers: one module and one line in :data:`PROVIDERS` each."""

from __future__ import annotations

from importlib import import_module

from kmip_contract.rootkey import Connection, CredentialCheck, CustodyErrorKind
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import Options, ProviderType, RootKeyProvider

PROVIDERS = {
    "KeyProtect": "kmip_custody.providers.keyprotect",
    "PKCS11": "kmip_custody.providers.pkcs11",
    "Software": "kmip_custody.providers.software",
    "Vault": "kmip_custody.providers.vault",
}
"""Connection type → module whose ``PROVIDER`` serves it; imported when used, since each has its own dependencies."""


def make_provider(
    connection: Connection, check: CredentialCheck | None, *, require_confirmed: bool, options: Options
) -> tuple[RootKeyProvider, Credential]:
    """The provider for ``connection`` (not yet opened) and its credential. Needs a running event loop.

    Raises:
        CustodyError: the provider's own dependencies are not installed (ConfigurationError).
    """
    try:
        kind: ProviderType = import_module(PROVIDERS[connection.type]).PROVIDER
    except ImportError as error:
        raise CustodyError(
            CustodyErrorKind.CONFIGURATION,
            f"key manager type {connection.type} needs the Python package {error.name}, which is not installed; "
            "install the extra of that name",
        ) from None
    credential = Credential(
        kind.credential_file(connection),
        text=kind.text,
        check=check if kind.confirmable(connection) else None,
        require_confirmed=require_confirmed,
    )
    return kind.make(connection, credential, options), credential

"""Root keys in an HSM behind a PKCS#11 module."""

from __future__ import annotations

from kmip_custody.providers.api import ProviderType
from kmip_custody.providers.pkcs11.provider import Pkcs11Provider

PROVIDER = ProviderType(
    credential_file=lambda connection: connection.pin_file,
    text=True,
    make=Pkcs11Provider,
)

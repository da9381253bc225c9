"""Root keys as the programs speak of them, key-manager connections, and the request and result of a root-key Job."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kmip_contract.model import Model


class KeyVersionState(StrEnum):
    """The state of one root-key version (NIST SP 800-57 Part 1 §7: protect and process, process only, gone)."""

    ACTIVE = "Active"
    DEACTIVATED = "Deactivated"
    SUSPENDED = "Suspended"
    DESTROYED = "Destroyed"


class RootKeyVersion(Model):
    """One version: ``version`` counts from 1, ``handle`` is the key manager's name of it (PKCS#11: CKA_ID in hex)."""

    version: int = Field(ge=1)
    handle: str
    state: KeyVersionState = KeyVersionState.ACTIVE


class RootKeyRef(Model):
    """A root key: ``key_id`` names it in its key manager; the highest active version wraps, every version unwraps."""

    key_id: str
    versions: tuple[RootKeyVersion, ...] = ()


class Pkcs11Connection(Model):
    """A PKCS#11 module and token. ``pin_file`` holds the user PIN (a trailing newline is not part of it)."""

    type: Literal["PKCS11"] = "PKCS11"
    module: Path
    token_label: str
    pin_file: Path
    mechanism: Literal["Auto", "AES_GCM", "AES_KEY_WRAP_PAD", "AES_CBC_PAD_HMAC"] = "Auto"


class SoftwareConnection(Model):
    """Evaluation only: root keys are derived (RFC 5869 HKDF-SHA-256) from the seed in ``seed_file`` (at least 32 bytes)."""

    type: Literal["Software"] = "Software"
    seed_file: Path


Connection = Annotated[Pkcs11Connection | SoftwareConnection, Field(discriminator="type")]


class CredentialCheck(Model):
    """The credential that a Job confirmed.

    ``hmac`` is HMAC-SHA-256 (hex) of the credential under the key in ``key_file``. A serving custody whose mounted credential
    has another HMAC does not log in: a mistyped PIN reaches a token once, by the Job.
    """

    key_file: Path
    hmac: str | None = None


class RootKeyAction(StrEnum):
    """What a root-key Job does. Probe logs in and describes; Create finds or creates; Adopt finds and tests."""

    PROBE = "Probe"
    CREATE = "Create"
    ADOPT = "Adopt"


class RootKeyRequest(Model):
    """The input file of ``kmip-custody job``.

    ``key_id``: for Create the identifier to find or create; for Adopt the identifier to find. ``label`` is what a person sees
    in the key manager. ``length`` in bits.
    """

    version: Literal[1] = 1
    action: RootKeyAction
    connection: Connection
    credential: CredentialCheck | None = None
    key_id: str | None = None
    label: str | None = None
    algorithm: Literal["AES"] = "AES"
    length: Literal[128, 192, 256] = 256


class CustodyErrorKind(StrEnum):
    """Why a key manager could not do what was asked; decides what kmipd, the operator and a person do next."""

    CONFIGURATION = "ConfigurationError"
    MODULE_NOT_FOUND = "ModuleNotFound"
    TOKEN_NOT_FOUND = "TokenNotFound"  # noqa: S105
    CREDENTIAL_REFUSED = "CredentialRefused"
    CREDENTIAL_UNCONFIRMED = "CredentialUnconfirmed"
    AUTHORIZATION_LOST = "AuthorizationLost"
    ROOT_KEY_NOT_FOUND = "RootKeyNotFound"
    ROOT_KEY_UNSUITABLE = "RootKeyUnsuitable"
    ROOT_KEY_DISABLED = "RootKeyDisabled"
    ROOT_KEY_DESTROYED = "RootKeyDestroyed"
    INTEGRITY = "IntegrityError"
    THROTTLED = "Throttled"
    UNAVAILABLE = "Unavailable"
    DEADLINE_EXCEEDED = "DeadlineExceeded"

    @property
    def revoked(self) -> bool:
        """Whether the root key was taken away (fence and flush now), as opposed to merely out of reach."""
        return self in {
            CustodyErrorKind.AUTHORIZATION_LOST,
            CustodyErrorKind.ROOT_KEY_NOT_FOUND,
            CustodyErrorKind.ROOT_KEY_DISABLED,
            CustodyErrorKind.ROOT_KEY_DESTROYED,
        }


class CustodyFailure(Model):
    """An error with its kind; ``message`` says what was wrong, where, and what to do, and holds no secret."""

    kind: CustodyErrorKind
    message: str


class ProviderFacts(Model):
    """What a person wants to know of the key manager behind a connection."""

    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    mechanism: str = ""


class RootKeyResult(Model):
    """The output of a root-key Job: its last line on standard output, and its termination message (at most 4096 bytes)."""

    version: Literal[1] = 1
    action: RootKeyAction
    facts: ProviderFacts = ProviderFacts()
    root_key: RootKeyRef | None = None
    created: bool = False
    credential_hmac: str | None = None
    error: CustodyFailure | None = None

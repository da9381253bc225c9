"""Root keys as the programs speak of them, key-manager connections, and the request and result of a root-key Job."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

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


def _origin(value: str) -> str:
    """``https://host[:port]``; plain ``http`` to this machine's loopback alone, since keys pass there."""
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be https://HOST or https://HOST:PORT")
    if parts.username or parts.password:
        raise ValueError("must not hold credentials")
    if parts.scheme == "http" and not _loopback(parts.hostname):
        raise ValueError("must be https: keys would pass in the clear (http is for a proxy on 127.0.0.1 alone)")
    return value.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Origin = Annotated[str, AfterValidator(_origin)]
PathPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")]
"""One or more segments of a URL's path."""


class VaultKubernetes(Model):
    """Log-in by a service-account token that the kubelet keeps fresh in ``jwt_file``, at the auth method at ``mount``."""

    role: str = Field(min_length=1)
    jwt_file: Path
    mount: PathPart = "kubernetes"


class VaultAuth(Model):
    """One of: a token in a file (a final newline is not part of it; renewed where renewable), or Kubernetes."""

    token_file: Path | None = None
    kubernetes: VaultKubernetes | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.token_file is None) == (self.kubernetes is None):
            raise ValueError("give either token_file or kubernetes")
        return self


class VaultConnection(Model):
    """The transit engine at ``mount`` of a HashiCorp Vault (1.12 or later) or OpenBao at ``address``.

    ``ca_file``: PEM certificates to trust in place of the public ones.
    """

    type: Literal["Vault"] = "Vault"
    address: Origin
    ca_file: Path | None = None
    mount: PathPart = "transit"
    namespace: PathPart | None = None
    auth: VaultAuth


class TrustedProfile(Model):
    """Log-in as an IAM trusted profile by the service-account token in ``token_file``, which the kubelet keeps fresh."""

    profile_id: str | None = None
    profile_name: str | None = None
    token_file: Path = Path("/var/run/secrets/tokens/sa-token")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.profile_id is None) == (self.profile_name is None):
            raise ValueError("give either profile_id or profile_name")
        return self


class KeyProtectAuth(Model):
    """One of: an IAM API key in a file (a final newline is not part of it), or a trusted profile, which needs no secret."""

    api_key_file: Path | None = None
    trusted_profile: TrustedProfile | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.api_key_file is None) == (self.trusted_profile is None):
            raise ValueError("give either api_key_file or trusted_profile")
        return self


class KeyProtectConnection(Model):
    """IBM Key Protect, Key Protect Dedicated or Hyper Protect Crypto Services: one API at ``endpoint``, public or private.

    ``instance_id``: the service instance's GUID. ``key_ring``: where keys are made and looked for. ``region``: for facts alone.
    """

    type: Literal["KeyProtect"] = "KeyProtect"
    service: Literal["Standard", "Dedicated", "HyperProtect"] = "Standard"
    endpoint: Origin
    instance_id: str = Field(min_length=1)
    key_ring: str = Field(default="default", pattern=r"^[A-Za-z0-9-]{2,100}$")
    region: str | None = None
    iam_endpoint: Origin = "https://iam.cloud.ibm.com"
    ca_file: Path | None = None
    auth: KeyProtectAuth


Connection = Annotated[
    Pkcs11Connection | SoftwareConnection | VaultConnection | KeyProtectConnection, Field(discriminator="type")
]


class CredentialCheck(Model):
    """The credential that a Job confirmed.

    ``hmac`` is HMAC-SHA-256 (hex) of the credential under the key in ``key_file``. A serving custody whose mounted credential
    has another HMAC does not log in: a mistyped PIN reaches a token once, by the Job.
    """

    key_file: Path
    hmac: str | None = None


class RootKeyAction(StrEnum):
    """What a root-key Job does.

    Probe logs in and describes; Create finds or creates; Adopt finds and tests. The others act on a root key that is there:
    Describe reads its versions and states, Rotate adds a version (or finds one added elsewhere, also by a Job that did not
    live to say so), Disable suspends, Enable lets it serve again (and restores
    one that was destroyed and still can be), Destroy takes it away and proves that by a canary.
    """

    PROBE = "Probe"
    CREATE = "Create"
    ADOPT = "Adopt"
    DESCRIBE = "Describe"
    ROTATE = "Rotate"
    DISABLE = "Disable"
    ENABLE = "Enable"
    DESTROY = "Destroy"


class RootKeyRequest(Model):
    """The input file of ``kmip-custody job``.

    ``key_id``: for Create the identifier to find or create; for Adopt the identifier to find. ``label`` is what a person sees
    in the key manager. ``length`` in bits. ``root_key``: for the other actions, the root key as it was last reported;
    ``target``: the one version to disable, enable or destroy, where the key manager can (all of them when not given).
    ``purge``: Destroy makes a destruction final that could still be undone. ``canary``: of an earlier result's
    ``destruction``, to be refused again.
    """

    version: Literal[1] = 1
    action: RootKeyAction
    connection: Connection
    credential: CredentialCheck | None = None
    key_id: str | None = None
    label: str | None = None
    algorithm: Literal["AES"] = "AES"
    length: Literal[128, 192, 256] = 256
    root_key: RootKeyRef | None = None
    target: int | None = Field(default=None, ge=1)
    purge: bool | None = None
    canary: str | None = None


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


class RootKeyFacts(Model):
    """What a person wants to know of a root key; ``None`` where the key manager does not say.

    ``exportable``: its value can leave the key manager, or could once; ``imported``: its value came from outside. Of either, a
    copy may exist, so its destruction proves nothing. ``deletion_allowed``: the key manager would destroy it if asked.
    """

    exportable: bool | None = None
    imported: bool | None = None
    deletion_allowed: bool | None = None


class Destruction(Model):
    """What a Destroy Job found.

    ``canaries`` records were wrapped by the versions before, and each was refused afterwards as ``refused_as``. ``proven``:
    there was one for every version asked for, no copy of the key can exist outside, and it cannot be restored.
    ``restorable_until``: the key manager can bring the key back until then; ``purgeable_at``: from then on it can be made
    final. ``canary`` (base64) is one of the records, for the same proof elsewhere and later; the context it is bound to is
    that of no object. ``note`` says to a person what is less than perfect.
    """

    canaries: int = 0
    refused_as: CustodyErrorKind | None = None
    proven: bool = False
    restorable_until: datetime | None = None
    purgeable_at: datetime | None = None
    canary: str | None = None
    note: str = ""


class RootKeyResult(Model):
    """The output of a root-key Job: its last line on standard output, and its termination message (at most 4096 bytes).

    ``supported`` is false, beside an error, where this key manager has no such action at all: trying again is of no use.
    """

    version: Literal[1] = 1
    action: RootKeyAction
    facts: ProviderFacts = ProviderFacts()
    root_key: RootKeyRef | None = None
    root_key_facts: RootKeyFacts | None = None
    destruction: Destruction | None = None
    supported: bool = True
    created: bool = False
    credential_hmac: str | None = None
    error: CustodyFailure | None = None

"""Every reason a condition or an Event of the four kinds can carry: part of the API, never renamed."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word for why a condition has its status. Grouped as a person meets them."""

    # All is well.
    READY = "Ready"
    RECONCILED = "Reconciled"
    PROGRESSING = "Progressing"

    # The spec asks for something that cannot be.
    INVALID_SPEC = "InvalidSpec"
    REFERENCE_NOT_PERMITTED = "ReferenceNotPermitted"

    # Something that is referred to.
    SECRET_MISSING = "SecretMissing"  # noqa: S105
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    VOLUME_CLAIM_MISSING = "VolumeClaimMissing"
    KEY_MANAGER_MISSING = "KeyManagerMissing"
    KEY_MANAGER_NOT_READY = "KeyManagerNotReady"
    ROOT_KEY_MISSING = "RootKeyMissing"
    ROOT_KEY_NOT_READY = "RootKeyNotReady"
    INSTANCE_MISSING = "InstanceMissing"
    INSTANCE_NOT_READY = "InstanceNotReady"

    # What a key manager answered; the names of kmip_contract.rootkey.CustodyErrorKind.
    CONFIGURATION_ERROR = "ConfigurationError"
    MODULE_NOT_FOUND = "ModuleNotFound"
    TOKEN_NOT_FOUND = "TokenNotFound"  # noqa: S105
    CREDENTIAL_REFUSED = "CredentialRefused"
    CREDENTIAL_UNCONFIRMED = "CredentialUnconfirmed"
    AUTHORIZATION_LOST = "AuthorizationLost"
    ROOT_KEY_NOT_FOUND = "RootKeyNotFound"
    ROOT_KEY_UNSUITABLE = "RootKeyUnsuitable"
    ROOT_KEY_DISABLED = "RootKeyDisabled"
    ROOT_KEY_DESTROYED = "RootKeyDestroyed"
    INTEGRITY_ERROR = "IntegrityError"
    THROTTLED = "Throttled"
    UNAVAILABLE = "Unavailable"
    DEADLINE_EXCEEDED = "DeadlineExceeded"

    # Work at the key manager.
    PROBING = "Probing"
    REACHABLE = "Reachable"
    INITIALIZED = "Initialized"
    AUTHORIZED = "Authorized"
    JOB_NOT_STARTED = "JobNotStarted"
    JOB_FAILED = "JobFailed"
    KEY_CREATING = "KeyCreating"
    KEY_ADOPTING = "KeyAdopting"
    KEY_CREATED = "KeyCreated"
    KEY_TAKEN_BACK = "KeyTakenBack"
    KEY_ADOPTED = "KeyAdopted"
    USABLE = "Usable"
    NOT_IN_USE = "NotInUse"
    REVOKED = "Revoked"
    UNREACHABLE = "Unreachable"
    UNKNOWN = "Unknown"

    # Serving.
    AVAILABLE = "Available"
    PARTIALLY_AVAILABLE = "PartiallyAvailable"
    NOT_AVAILABLE = "NotAvailable"
    FENCED = "Fenced"
    ROLLING_OUT = "RollingOut"
    REGION_UNKNOWN = "RegionUnknown"
    POD_NOT_STARTED = "PodNotStarted"
    POD_OUT_OF_SERVICE = "PodOutOfService"
    POD_IN_SERVICE = "PodInService"
    ADDRESS_PENDING = "AddressPending"
    KEYSPACE_MISMATCH = "KeyspaceMismatch"
    KEYSPACE_BOUND = "KeyspaceBound"
    DURABLE = "Durable"
    ONE_COPY = "OneCopy"
    NOT_DURABLE = "NotDurable"
    SERVER_CERTIFICATE_RENEWED = "ServerCertificateRenewed"
    SERVER_CERTIFICATE_NAMES_DIFFER = "ServerCertificateNamesDiffer"
    SERVER_CERTIFICATE_EXPIRING = "ServerCertificateExpiring"
    ALLOWLIST_PUBLISHED = "AllowlistPublished"
    ALLOWLIST_APPLIED = "AllowlistApplied"
    ALLOWLIST_TOO_LARGE = "AllowlistTooLarge"

    # Client certificates.
    ACCEPTED = "Accepted"
    APPLIED = "Applied"
    APPLYING = "Applying"
    BLOCKED = "Blocked"
    NOT_A_CERTIFICATE = "NotACertificate"
    PRIVATE_KEY_GIVEN = "PrivateKeyGiven"
    SEVERAL_CERTIFICATES = "SeveralCertificates"
    NOT_AN_AUTHORITY = "NotAnAuthority"
    WEAK_KEY = "WeakKey"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    CERTIFICATE_NOT_YET_VALID = "CertificateNotYetValid"
    CERTIFICATE_EXPIRING = "CertificateExpiring"
    DUPLICATE_CERTIFICATE = "DuplicateCertificate"
    VALID = "Valid"

    # Posted by the apply step.
    DRIFT_CORRECTED = "DriftCorrected"
    FIELD_CONFLICT = "FieldConflict"

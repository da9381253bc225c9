"""The table of attributes: type, objects, versions, and what a client may do to each (KMIP 1.4 §3)."""

from __future__ import annotations

from typing import Final, NamedTuple

from kmipd.wire import enums, tags
from kmipd.wire.enum_table import ENUMERATIONS
from kmipd.wire.enums import ObjectType
from kmipd.wire.tag_table import BY_TAG
from kmipd.wire.ttlv import ItemType
from kmipd.wire.versions import V1_0, V1_1, V1_2, V1_3, V1_4, Version

Types = frozenset[ObjectType]


class AttributeRule(NamedTuple):
    """One attribute. ``set``, ``modify`` and ``delete`` say what a client may do; the life cycle may narrow it further.

    ``since`` and ``last`` bound the versions that show it; ``types`` the objects that have it.
    """

    name: str
    tag: int
    type: ItemType
    multiple: bool
    set: bool
    modify: bool
    delete: bool
    types: Types
    since: Version = V1_0
    last: Version | None = V1_4


_ALL: Final = frozenset(ObjectType)
_CRYPTOGRAPHIC: Final = _ALL - {ObjectType.OpaqueObject, ObjectType.Template}
_KEYS: Final = frozenset(
    {ObjectType.SymmetricKey, ObjectType.PublicKey, ObjectType.PrivateKey, ObjectType.SplitKey, ObjectType.PGPKey}
)
_NOT_TEMPLATE: Final = _ALL - {ObjectType.Template}
_CERTIFICATES: Final = frozenset({ObjectType.Certificate, ObjectType.PGPKey})

STATEFUL: Final = _CRYPTOGRAPHIC
"""Objects that have a state (KMIP 1.4 §3.22)."""


def _rule(
    name: str,
    flags: str,
    types: Types = _NOT_TEMPLATE,
    since: Version = V1_0,
    *,
    last: Version | None = V1_4,
    tag: int | None = None,
) -> AttributeRule:
    """``flags``: n = multiple instances; a client may s = set, m = modify, d = delete."""
    number = tag if tag is not None else _TAG_OF[name]
    kind = BY_TAG[number].type
    if kind is None:
        raise ValueError(f"{name} has no single item type")
    return AttributeRule(name, number, kind, "n" in flags, "s" in flags, "m" in flags, "d" in flags, types, since, last)


_TAG_OF: Final = {
    "Unique Identifier": tags.UNIQUE_IDENTIFIER,
    "Name": tags.NAME,
    "Object Type": tags.OBJECT_TYPE,
    "Cryptographic Algorithm": tags.CRYPTOGRAPHIC_ALGORITHM,
    "Cryptographic Length": tags.CRYPTOGRAPHIC_LENGTH,
    "Cryptographic Parameters": tags.CRYPTOGRAPHIC_PARAMETERS,
    "Cryptographic Domain Parameters": tags.CRYPTOGRAPHIC_DOMAIN_PARAMETERS,
    "Certificate Type": tags.CERTIFICATE_TYPE,
    "Certificate Length": tags.CERTIFICATE_LENGTH,
    "X.509 Certificate Identifier": tags.X_509_CERTIFICATE_IDENTIFIER,
    "X.509 Certificate Subject": tags.X_509_CERTIFICATE_SUBJECT,
    "X.509 Certificate Issuer": tags.X_509_CERTIFICATE_ISSUER,
    "Certificate Identifier": tags.CERTIFICATE_IDENTIFIER,
    "Certificate Subject": tags.CERTIFICATE_SUBJECT,
    "Certificate Issuer": tags.CERTIFICATE_ISSUER,
    "Digital Signature Algorithm": tags.DIGITAL_SIGNATURE_ALGORITHM,
    "Digest": tags.DIGEST,
    "Operation Policy Name": tags.OPERATION_POLICY_NAME,
    "Cryptographic Usage Mask": tags.CRYPTOGRAPHIC_USAGE_MASK,
    "Lease Time": tags.LEASE_TIME,
    "Usage Limits": tags.USAGE_LIMITS,
    "State": tags.STATE,
    "Initial Date": tags.INITIAL_DATE,
    "Activation Date": tags.ACTIVATION_DATE,
    "Process Start Date": tags.PROCESS_START_DATE,
    "Protect Stop Date": tags.PROTECT_STOP_DATE,
    "Deactivation Date": tags.DEACTIVATION_DATE,
    "Destroy Date": tags.DESTROY_DATE,
    "Compromise Occurrence Date": tags.COMPROMISE_OCCURRENCE_DATE,
    "Compromise Date": tags.COMPROMISE_DATE,
    "Revocation Reason": tags.REVOCATION_REASON,
    "Archive Date": tags.ARCHIVE_DATE,
    "Object Group": tags.OBJECT_GROUP,
    "Fresh": tags.FRESH,
    "Link": tags.LINK,
    "Application Specific Information": tags.APPLICATION_SPECIFIC_INFORMATION,
    "Contact Information": tags.CONTACT_INFORMATION,
    "Last Change Date": tags.LAST_CHANGE_DATE,
    "Alternative Name": tags.ALTERNATIVE_NAME,
    "Key Value Present": tags.KEY_VALUE_PRESENT,
    "Key Value Location": tags.KEY_VALUE_LOCATION,
    "Original Creation Date": tags.ORIGINAL_CREATION_DATE,
    "Random Number Generator": tags.RANDOM_NUMBER_GENERATOR,
    "PKCS#12 Friendly Name": tags.PKCS_12_FRIENDLY_NAME,
    "Description": tags.DESCRIPTION,
    "Comment": tags.COMMENT,
    "Sensitive": tags.SENSITIVE,
    "Always Sensitive": tags.ALWAYS_SENSITIVE,
    "Extractable": tags.EXTRACTABLE,
    "Never Extractable": tags.NEVER_EXTRACTABLE,
}

RULES: Final[tuple[AttributeRule, ...]] = (
    _rule("Unique Identifier", "", _ALL),
    _rule("Name", "nsmd", _ALL),
    _rule("Object Type", "", _ALL),
    _rule("Cryptographic Algorithm", "s", _CRYPTOGRAPHIC),
    _rule("Cryptographic Length", "s", _CRYPTOGRAPHIC),
    _rule("Cryptographic Parameters", "nsmd", _CRYPTOGRAPHIC),
    _rule("Cryptographic Domain Parameters", "s", _KEYS),
    _rule("Certificate Type", "s", _CERTIFICATES),
    _rule("Certificate Length", "", _CERTIFICATES, V1_1),
    _rule("X.509 Certificate Identifier", "", frozenset({ObjectType.Certificate}), V1_1),
    _rule("X.509 Certificate Subject", "", frozenset({ObjectType.Certificate}), V1_1),
    _rule("X.509 Certificate Issuer", "", frozenset({ObjectType.Certificate}), V1_1),
    _rule("Certificate Identifier", "", _CERTIFICATES),
    _rule("Certificate Subject", "", _CERTIFICATES),
    _rule("Certificate Issuer", "", _CERTIFICATES),
    _rule("Digital Signature Algorithm", "n", _CERTIFICATES, V1_1),
    _rule("Digest", "n"),
    _rule("Operation Policy Name", "s", _ALL),
    _rule("Cryptographic Usage Mask", "s", _CRYPTOGRAPHIC),
    _rule("Lease Time", "", _ALL),
    _rule("Usage Limits", "smd", _KEYS),
    _rule("State", "", _CRYPTOGRAPHIC),
    _rule("Initial Date", "", _ALL),
    _rule("Activation Date", "sm", _CRYPTOGRAPHIC),
    _rule("Process Start Date", "sm", _KEYS),
    _rule("Protect Stop Date", "sm", _KEYS),
    _rule("Deactivation Date", "sm", _CRYPTOGRAPHIC),
    _rule("Destroy Date", ""),
    _rule("Compromise Occurrence Date", ""),
    _rule("Compromise Date", ""),
    _rule("Revocation Reason", ""),
    _rule("Archive Date", "", _ALL),
    _rule("Object Group", "nsmd", _ALL),
    _rule("Fresh", "s", _CRYPTOGRAPHIC, V1_1),
    _rule("Link", "nsmd"),
    _rule("Application Specific Information", "nsmd", _ALL),
    _rule("Contact Information", "smd", _ALL),
    _rule("Last Change Date", "", _ALL),
    _rule("Alternative Name", "nsmd", _ALL, V1_2),
    _rule("Key Value Present", "", _KEYS | {ObjectType.SecretData}, V1_2),
    _rule("Key Value Location", "nsmd", _KEYS | {ObjectType.SecretData}, V1_2),
    _rule("Original Creation Date", "s", _ALL, V1_2),
    _rule("Random Number Generator", "s", _CRYPTOGRAPHIC, V1_3),
    _rule("PKCS#12 Friendly Name", "smd", _NOT_TEMPLATE, V1_4),
    _rule("Description", "smd", _ALL, V1_4),
    _rule("Comment", "smd", _ALL, V1_4),
    _rule("Sensitive", "sm", _NOT_TEMPLATE, V1_4),
    _rule("Always Sensitive", "", _NOT_TEMPLATE, V1_4),
    _rule("Extractable", "sm", _NOT_TEMPLATE, V1_4),
    _rule("Never Extractable", "", _NOT_TEMPLATE, V1_4),
)

BY_NAME: Final = {rule.name: rule for rule in RULES}
BY_ATTRIBUTE_TAG: Final = {rule.tag: rule for rule in RULES}

IGNORED_IN_TEMPLATES: Final = frozenset({"Storage Status Mask"})
"""Not attributes; some clients nevertheless send them as such when they create objects."""

MAX_INSTANCES: Final = 256
MAX_ATTRIBUTES: Final = 512
"""Instances of one attribute and attributes of one object: far above any client's need, far below what hurts."""

CLIENT_PREFIX: Final = "x-"
SERVER_PREFIX: Final = "y-"

REQUIRED_FIELDS: Final[dict[int, tuple[int, ...]]] = {
    tags.NAME: (tags.NAME_VALUE,),
    tags.APPLICATION_SPECIFIC_INFORMATION: (tags.APPLICATION_NAMESPACE,),
    tags.LINK: (tags.LINK_TYPE, tags.LINKED_OBJECT_IDENTIFIER),
    tags.ALTERNATIVE_NAME: (tags.ALTERNATIVE_NAME_VALUE, tags.ALTERNATIVE_NAME_TYPE),
    tags.KEY_VALUE_LOCATION: (tags.KEY_VALUE_LOCATION_VALUE, tags.KEY_VALUE_LOCATION_TYPE),
    tags.USAGE_LIMITS: (tags.USAGE_LIMITS_TOTAL, tags.USAGE_LIMITS_UNIT),
}
"""Fields that a structured attribute cannot do without."""


def known_values(enumeration: str) -> frozenset[int] | None:
    """The defined values of an enumeration, ``None`` when the tables have none of it."""
    cls = getattr(enums, enumeration, None)
    if cls is not None:
        return frozenset(int(value) for value in cls)
    table = ENUMERATIONS.get(enumeration)
    return None if table is None else frozenset(table.values())


ENUMERATION_VALUES: Final = {
    row.tag: values
    for row in BY_TAG.values()
    if row.type is ItemType.ENUMERATION and (values := known_values(row.values))
}
"""Defined values by tag; 0x8xxxxxxx are extensions and always allowed (KMIP 1.4 §9.1.3.2)."""

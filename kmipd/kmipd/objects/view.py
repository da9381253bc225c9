"""What of an object a client sees: all attributes, computed ones included, gated by protocol version."""

from __future__ import annotations

from typing import Any, Final

from kmipd.objects.managed import ManagedObject
from kmipd.objects.rules import BY_NAME, RULES, STATEFUL, AttributeRule
from kmipd.objects.values import Instance
from kmipd.wire.attributes import Attribute
from kmipd.wire.enums import ObjectType
from kmipd.wire.versions import Version

LEASE_TIME: Final = 3600
"""Seconds a client may use what it fetched before it looks again (KMIP 1.4 §3.20); nothing expires by it."""

DEFAULT_POLICY: Final = "default"
"""The one operation policy: what a client may do is decided by its certificate."""

DIGEST_ON_DEMAND: Final = frozenset({ObjectType.SecretData, ObjectType.OpaqueObject})
"""Objects that may hold guessable secrets: a stored digest of one would let a thief of the database test guesses."""

_DEFAULTS: Final = {"Sensitive": False, "Always Sensitive": False, "Extractable": True, "Never Extractable": False}


def _computed(managed: ManagedObject, name: str, now: int) -> Any:  # noqa: C901 - one case for each computed attribute
    """The value of an attribute that is not stored as such, or ``None``."""
    match name:
        case "Unique Identifier":
            return managed.uid
        case "Object Type":
            return managed.object_type
        case "Cryptographic Algorithm":
            return managed.algorithm or None
        case "Cryptographic Length":
            return managed.length or None
        case "Cryptographic Usage Mask":
            return managed.usage_mask
        case "State":
            return managed.state_at(now) or None
        case "Initial Date":
            return managed.initial_date
        case "Last Change Date":
            return managed.last_change_date
        case "Lease Time":
            return LEASE_TIME
        case "Fresh":
            return managed.fresh
        case "Key Value Present":
            return managed.value_present and not managed.destroyed
        case "Operation Policy Name":
            return DEFAULT_POLICY
    return _DEFAULTS.get(name)


def visible(rule: AttributeRule, managed: ManagedObject, version: Version) -> bool:
    """Whether objects of this type have the attribute in this version."""
    return rule.since <= version and (rule.last is None or version <= rule.last) and managed.object_type in rule.types


def instances(managed: ManagedObject, name: str, version: Version, now: int) -> list[Instance]:
    """All instances of one attribute that ``version`` shows; empty when the object has none."""
    rule = BY_NAME.get(name)
    stored = managed.attributes.get(name)
    if rule is None:
        return stored or []
    if not visible(rule, managed, version):
        return []
    if stored:
        return stored
    if rule.name == "State" and managed.object_type not in STATEFUL:
        return []
    value = _computed(managed, name, now)
    return [] if value is None else [Instance(0, rule.type, value)]


def names(managed: ManagedObject, version: Version, now: int) -> list[str]:
    """The names of all attributes the object has for ``version``; the standard ones first."""
    standard = [rule.name for rule in RULES if instances(managed, rule.name, version, now)]
    return standard + [name for name in managed.attributes if name not in BY_NAME]


def attributes(managed: ManagedObject, name: str, version: Version, now: int) -> list[Attribute]:
    """One attribute as messages carry it, an element for each instance."""
    return [Attribute(name, number, kind, value) for number, kind, value in instances(managed, name, version, now)]

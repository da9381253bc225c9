"""Attribute values: checking those a client sends, comparing, and the shapes the server itself sets."""

from __future__ import annotations

from typing import Any, NamedTuple

from kmipd.objects.errors import OperationFailed
from kmipd.objects.rules import BY_NAME, CLIENT_PREFIX, ENUMERATION_VALUES, REQUIRED_FIELDS, AttributeRule
from kmipd.wire import tags
from kmipd.wire.enums import NameType, ResultReason
from kmipd.wire.tag_table import BY_TAG
from kmipd.wire.ttlv import Item, ItemType

_EXTENSION = 0x80000000

MAX_TEXT = 64 * 1024
"""Characters of one attribute's text; the longest known ones (certificates' names) are below 4 kB."""


class Instance(NamedTuple):
    """One instance of an attribute: its Attribute Index, item type, and value."""

    number: int
    type: int
    value: Any


def invalid(message: str) -> OperationFailed:
    """A field of the request that cannot be."""
    return OperationFailed(ResultReason.InvalidField, message)


def check_value(name: str, kind: int, value: Any) -> Any:
    """The value of attribute ``name``, ready to store.

    Raises:
        OperationFailed: InvalidField when its type or content is not the attribute's.
    """
    rule = BY_NAME.get(name)
    if rule is None:
        if kind == ItemType.STRUCTURE and any(word & 0xFF == ItemType.STRUCTURE for word, _ in value):
            raise invalid(f"{_quote(name)}: a structure in a custom attribute may not hold structures")
        if kind == ItemType.TEXT_STRING and len(value) > MAX_TEXT:
            raise invalid(f"{_quote(name)} is too long")
        return value
    if kind != rule.type:
        raise invalid(f"{name} has the wrong type")
    if kind == ItemType.STRUCTURE:
        return _check_structure(rule, value)
    if kind == ItemType.ENUMERATION:
        _check_enumeration(name, rule.tag, value)
    elif kind == ItemType.TEXT_STRING and len(value) > MAX_TEXT:
        raise invalid(f"{name} is too long")
    return value


def _quote(name: str) -> str:
    return repr(name[:100])


def _check_enumeration(name: str, tag: int, value: int) -> None:
    known = ENUMERATION_VALUES.get(tag)
    if known is not None and value not in known and value < _EXTENSION:
        raise invalid(f"{name} has an unknown value")


def check_fields(rule: AttributeRule, items: list[Item]) -> set[int]:
    """The fields that a structured value has, each of its own type; a Locate need not give all of them.

    Raises:
        OperationFailed: InvalidField.
    """
    present = set()
    for word, value in items:
        tag = word >> 8
        row = BY_TAG.get(tag)
        if row is not None and row.type is not None and row.type != word & 0xFF:
            raise invalid(f"{row.name} in {rule.name} has the wrong type")
        if word & 0xFF == ItemType.ENUMERATION and row is not None:
            _check_enumeration(f"{row.name} in {rule.name}", tag, value)
        elif word & 0xFF == ItemType.TEXT_STRING and len(value) > MAX_TEXT:
            raise invalid(f"{rule.name} is too long")
        present.add(tag)
    return present


def _check_structure(rule: AttributeRule, items: list[Item]) -> list[Item]:
    present = check_fields(rule, items)
    for tag in REQUIRED_FIELDS.get(rule.tag, ()):
        if tag not in present:
            raise invalid(f"{rule.name} needs {BY_TAG[tag].name}")
    return _complete(rule.tag, items, present)


def _complete(tag: int, items: list[Item], present: set[int]) -> list[Item]:
    """The structure with what the server adds: a name's type, the count left of usage limits (KMIP 1.4 §3.2, §3.21)."""
    if tag == tags.NAME and tags.NAME_TYPE not in present:
        return [*items, (tags.NAME_TYPE << 8 | ItemType.ENUMERATION, int(NameType.UninterpretedTextString))]
    if tag == tags.USAGE_LIMITS and tags.USAGE_LIMITS_COUNT not in present:
        total = field_of(items, tags.USAGE_LIMITS_TOTAL)
        count: Item = (tags.USAGE_LIMITS_COUNT << 8 | ItemType.LONG_INTEGER, total)
        return [item for old in items for item in ((old, count) if old[0] >> 8 == tags.USAGE_LIMITS_TOTAL else (old,))]
    return items


def is_custom(name: str) -> bool:
    """Whether a client may make up this attribute."""
    return name.startswith(CLIENT_PREFIX)


def field_of(items: list[Item], tag: int) -> Any:
    """The first field ``tag`` of a structure, or ``None``."""
    for word, value in items:
        if word >> 8 == tag:
            return value
    return None


def covers(wanted: Any, present: Any, kind: int) -> bool:
    """Whether a value satisfies a Locate: equal, and a structure in every field that was given (KMIP 1.4 §4.9)."""
    if kind != ItemType.STRUCTURE:
        return bool(wanted == present)
    return all(item in present for item in wanted)

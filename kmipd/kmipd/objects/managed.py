"""A managed object in memory, and how it becomes a row and comes back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from kmipd.objects.lifecycle import DESTROYED, Dates, effective_state
from kmipd.objects.rules import BY_ATTRIBUTE_TAG, BY_NAME
from kmipd.objects.values import Instance
from kmipd.storage.api import StorageError, StoredObject
from kmipd.wire import tags
from kmipd.wire.attributes import Attribute, encode_attribute, read_attribute
from kmipd.wire.ttlv import Item, ItemType, decode_items, encode_item

_FORMAT: Final = 1
_ATTRIBUTE: Final = tags.ATTRIBUTE << 8 | ItemType.STRUCTURE

FRESH: Final = 1
NO_VALUE: Final = 2
RESTRICTED: Final = 4
"""Flags in the second byte of the stored attributes, so that Get need not decode the rest: never served, registered without
key value, Sensitive or not Extractable."""


@dataclass(slots=True)
class ManagedObject:
    """One managed object. ``attributes`` holds what is not a column, by KMIP's names; ``extra`` what a newer release wrote."""

    uid: str
    object_type: int
    state: int
    algorithm: int
    length: int
    usage_mask: int
    initial_date: int
    last_change_date: int
    fresh: bool = False
    value_present: bool = True
    attributes: dict[str, list[Instance]] = field(default_factory=dict)
    extra: list[Item] = field(default_factory=list)
    stored: StoredObject | None = None

    @property
    def dates(self) -> Dates:
        """The dates that bound the object's use."""
        return Dates(
            self.date("Activation Date"),
            self.date("Process Start Date"),
            self.date("Protect Stop Date"),
            self.date("Deactivation Date"),
        )

    def date(self, name: str) -> int | None:
        """A date attribute in Unix seconds, or ``None``."""
        instances = self.attributes.get(name)
        return instances[0].value if instances else None

    def flag(self, name: str, default: bool) -> bool:
        """A boolean attribute, or ``default``."""
        instances = self.attributes.get(name)
        return bool(instances[0].value) if instances else default

    def set_single(self, name: str, value: object) -> None:
        """Set an attribute of one instance."""
        self.attributes[name] = [Instance(0, BY_NAME[name].type, value)]

    def state_at(self, now: int) -> int:
        """The state at ``now``."""
        return effective_state(self.state, self.dates, now)

    @property
    def destroyed(self) -> bool:
        """Whether only the attributes are left."""
        return self.state in DESTROYED

    @property
    def restricted(self) -> bool:
        """Whether Get must look closer before it hands the material out (KMIP 1.4 §3.47, §3.49)."""
        return self.flag("Sensitive", False) or not self.flag("Extractable", True)


def encode_attributes(managed: ManagedObject) -> bytes:
    """The row's ``attributes``: format, flags, then TTLV items under each attribute's own tag.

    An Attribute structure stands where a name has no tag (custom attributes) or an instance's number is not its place.
    """
    flags = (
        (FRESH if managed.fresh else 0)
        | (0 if managed.value_present else NO_VALUE)
        | (RESTRICTED if managed.restricted else 0)
    )
    parts = [bytes((_FORMAT, flags))]
    for name, instances in managed.attributes.items():
        rule = BY_NAME.get(name)
        for place, (number, kind, value) in enumerate(instances):
            if rule is not None and number == place:
                parts.append(encode_item((rule.tag << 8 | kind, value)))
            else:
                parts.append(encode_attribute(Attribute(name, number, kind, value)))
    parts.extend([encode_item(item) for item in managed.extra])
    return b"".join(parts)


def from_stored(stored: StoredObject) -> ManagedObject:
    """The object a row holds.

    Raises:
        StorageError: a newer release wrote it in a format this one does not know.
    """
    blob = stored.attributes
    if blob[0] != _FORMAT:
        raise StorageError(
            f"object {stored.uid} is stored in format {blob[0]}: a newer release of this program is needed"
        )
    attributes: dict[str, list[Instance]] = {}
    extra: list[Item] = []
    for item in decode_items(blob, 2):
        word, value = item
        if word == _ATTRIBUTE:
            attribute = read_attribute(value)
            instance = Instance(attribute.instance or 0, attribute.type, attribute.value)
            attributes.setdefault(attribute.name, []).append(instance)
            continue
        rule = BY_ATTRIBUTE_TAG.get(word >> 8)
        if rule is None:
            extra.append(item)
            continue
        instances = attributes.setdefault(rule.name, [])
        instances.append(Instance(len(instances), word & 0xFF, value))
    flags = blob[1]
    return ManagedObject(
        stored.uid,
        stored.object_type,
        stored.state,
        stored.algorithm,
        stored.length,
        stored.usage_mask,
        stored.initial_date,
        stored.last_change_date,
        bool(flags & FRESH),
        not flags & NO_VALUE,
        attributes,
        extra,
        stored,
    )


def to_stored(managed: ManagedObject) -> StoredObject:
    """The row that replaces the one ``managed`` was read from (same revision, same material)."""
    if managed.stored is None:
        raise ValueError("the object was not read from storage")
    return replace(
        managed.stored,
        state=managed.state,
        algorithm=managed.algorithm,
        length=managed.length,
        usage_mask=managed.usage_mask,
        last_change_date=managed.last_change_date,
        attributes=encode_attributes(managed),
    )

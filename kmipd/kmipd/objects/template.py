"""From the attributes of a request's template to those of a new object."""

from __future__ import annotations

from typing import Any

from kmipd.objects.errors import OperationFailed
from kmipd.objects.lifecycle import NO_STATE, check_order, effective_state
from kmipd.objects.managed import ManagedObject
from kmipd.objects.rules import BY_NAME, IGNORED_IN_TEMPLATES, MAX_ATTRIBUTES, MAX_INSTANCES, STATEFUL
from kmipd.objects.values import Instance, check_value, invalid, is_custom
from kmipd.wire.attributes import Attribute
from kmipd.wire.enums import ObjectType, ResultReason, State

_COLUMNS = {
    "Cryptographic Algorithm": "algorithm",
    "Cryptographic Length": "length",
    "Cryptographic Usage Mask": "usage_mask",
}


class NewAttributes:
    """The attributes of an object being made: columns apart, everything else as instances."""

    def __init__(self, object_type: int) -> None:
        self.object_type = object_type
        self.columns: dict[str, int] = {}
        self.attributes: dict[str, list[Instance]] = {}
        self.fresh: bool = True

    def add(self, attributes: list[Attribute]) -> None:
        """Add attributes of one source. A single one replaces what an earlier source said, and may not repeat in this one.

        Raises:
            OperationFailed: InvalidField for an attribute that is unknown, not the client's to set, given twice, or malformed.
        """
        seen: set[str] = set()
        for name, number, kind, value in attributes:
            if name in IGNORED_IN_TEMPLATES:
                continue
            multiple = self._check(name)
            if not kind:
                raise invalid(f"{name[:100]} has no value")
            value = check_value(name, kind, value)
            if not multiple:
                if number:
                    raise invalid(f"{name} has one instance, its index is 0")
                if name in seen:
                    raise invalid(f"{name} is given twice")
            seen.add(name)
            self._set(name, multiple, Instance(number or 0, kind, value))

    def add_settable(self, attributes: list[Attribute]) -> None:
        """Add those that a client may set; the others describe the object where it came from."""
        self.add([attribute for attribute in attributes if self._settable(attribute.name)])

    def _settable(self, name: str) -> bool:
        rule = BY_NAME.get(name)
        return is_custom(name) if rule is None else rule.set and self.object_type in rule.types

    def _check(self, name: str) -> bool:
        rule = BY_NAME.get(name)
        if rule is None:
            if not is_custom(name):
                raise invalid(f"{name[:100]!r} is not an attribute a client can set")
            return True
        if not rule.set:
            raise invalid(f"{name} is set by the server")
        if self.object_type not in rule.types:
            raise invalid(f"{name} does not apply to this object type")
        return rule.multiple

    def _set(self, name: str, multiple: bool, instance: Instance) -> None:
        column = _COLUMNS.get(name)
        if column is not None:
            self.columns[column] = instance.value
        elif name == "Fresh":
            self.fresh = instance.value
        elif multiple:
            present = self.attributes.setdefault(name, [])
            if len(present) >= MAX_INSTANCES or len(self.attributes) > MAX_ATTRIBUTES:
                raise invalid("an object has fewer attributes than that")
            if any(other.value == instance.value and other.type == instance.type for other in present):
                return
            present.append(Instance(len(present), instance.type, instance.value))
        else:
            self.attributes[name] = [instance]

    def required(self, column: str) -> int:
        """The value of a column attribute.

        Raises:
            OperationFailed: MissingData.
        """
        value = self.columns.get(column)
        if value is None:
            name = next(name for name, known in _COLUMNS.items() if known == column)
            raise OperationFailed(ResultReason.MissingData, f"{name} is required")
        return value


def new_object(uid: str, new: NewAttributes, now: int, **columns: Any) -> ManagedObject:
    """The object that a template describes, in the state its dates put it in.

    Raises:
        OperationFailed: InvalidField when dates contradict each other.
    """
    managed = ManagedObject(
        uid,
        new.object_type,
        int(State.PreActive) if new.object_type in STATEFUL else NO_STATE,
        columns.get("algorithm", 0),
        columns.get("length", 0),
        new.columns.get("usage_mask", 0),
        now,
        now,
        new.fresh and new.object_type in STATEFUL,
        attributes=new.attributes,
    )
    dates = managed.dates
    check_order(dates)
    managed.state = effective_state(managed.state, dates, now)
    _set_exposure(managed)
    return managed


def _set_exposure(managed: ManagedObject) -> None:
    """Always Sensitive and Never Extractable say what has been so since the object was made (KMIP 1.4 §3.48, §3.50)."""
    if managed.object_type == ObjectType.Template:
        return
    if managed.flag("Sensitive", False):
        managed.set_single("Always Sensitive", True)
    if not managed.flag("Extractable", True):
        managed.set_single("Never Extractable", True)

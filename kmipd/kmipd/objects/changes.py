"""What clients change on an existing object: adding, modifying and deleting attributes by the rules."""

from __future__ import annotations

from kmipd.objects.errors import OperationFailed
from kmipd.objects.lifecycle import check_date_change, check_order
from kmipd.objects.managed import ManagedObject
from kmipd.objects.rules import BY_NAME, MAX_ATTRIBUTES, MAX_INSTANCES, AttributeRule
from kmipd.objects.values import Instance, check_value, invalid, is_custom
from kmipd.objects.view import DEFAULT_POLICY
from kmipd.wire.attributes import Attribute
from kmipd.wire.enums import ResultReason

_DATES = frozenset({"Activation Date", "Process Start Date", "Protect Stop Date", "Deactivation Date"})


def _read_only(name: str, verb: str) -> OperationFailed:
    return OperationFailed(ResultReason.AttributeReadOnly, f"{name} cannot be {verb} by a client")


def _rule_of(managed: ManagedObject, name: str) -> AttributeRule | None:
    """The rule of a standard attribute, ``None`` for a custom one.

    Raises:
        OperationFailed: no such attribute, or not on this object.
    """
    rule = BY_NAME.get(name)
    if rule is None:
        if not is_custom(name):
            raise OperationFailed(
                ResultReason.AttributeReadOnly, f"{name[:100]!r} is not an attribute a client can change"
            )
        return None
    if managed.object_type not in rule.types:
        raise OperationFailed(ResultReason.AttributeReadOnly, f"{name} does not apply to this object type")
    return rule


def _settle(managed: ManagedObject, name: str, now: int) -> None:
    """After a change: dates agree, a date that has come has its effect, what follows from Sensitive and Extractable follows."""
    if name in _DATES:
        dates = managed.dates
        check_order(dates)
        managed.state = managed.state_at(now)
    elif name == "Sensitive" and not managed.flag(name, False):
        managed.set_single("Always Sensitive", False)
    elif name == "Extractable" and managed.flag(name, True):
        managed.set_single("Never Extractable", False)
    managed.last_change_date = now


def add(managed: ManagedObject, attribute: Attribute, now: int) -> Attribute:
    """Add an attribute, or an instance of it; returns it with its index.

    Raises:
        OperationFailed: not the client's to add, already there, too many, or malformed.
    """
    name, number, kind, value = attribute
    rule = _rule_of(managed, name)
    if not kind:
        raise invalid(f"{name[:100]} has no value")
    value = check_value(name, kind, value)
    present = managed.attributes.get(name, [])
    if rule is not None and not rule.multiple:
        if name == "Operation Policy Name" and value == (present[0].value if present else DEFAULT_POLICY):
            return Attribute(name, 0, kind, value)
        if not rule.set or name in {
            "Fresh",
            "Cryptographic Algorithm",
            "Cryptographic Length",
            "Cryptographic Usage Mask",
        }:
            raise _read_only(name, "added")
        if present:
            raise OperationFailed(ResultReason.AttributeSingleValued, f"{name} is already set")
        if name in _DATES:
            check_date_change(name, managed.state_at(now), None, now)
    elif rule is not None and not rule.set:
        raise _read_only(name, "added")
    return _append(managed, attribute, value, number, now)


def _append(managed: ManagedObject, attribute: Attribute, value: object, number: int | None, now: int) -> Attribute:
    name, _, kind, _ = attribute
    present = managed.attributes.get(name, [])
    place = present[-1].number + 1 if present else 0
    if number not in {None, 0, place}:
        raise invalid("the server numbers the instances of an attribute")
    if len(present) >= MAX_INSTANCES or (not present and len(managed.attributes) >= MAX_ATTRIBUTES):
        raise OperationFailed(ResultReason.IndexOutOfBounds, f"{name[:100]} has as many instances as this server keeps")
    if any(other.value == value and other.type == kind for other in present):
        raise OperationFailed(ResultReason.IllegalOperation, f"{name[:100]} already has this value")
    managed.attributes[name] = [*present, Instance(place, kind, value)]
    _settle(managed, name, now)
    return Attribute(name, place, kind, value)


def _place(managed: ManagedObject, name: str, number: int | None) -> int:
    """Where in its list an instance stands; without a number the first, or the only one."""
    present = managed.attributes.get(name, [])
    for place, instance in enumerate(present):
        if instance.number == (number or 0):
            return place
    if number is None and len(present) == 1:
        return 0
    raise OperationFailed(ResultReason.AttributeInstanceNotFound, f"the object has no such instance of {name[:100]!r}")


def modify(managed: ManagedObject, attribute: Attribute, now: int) -> Attribute:
    """Change the value of an attribute's instance.

    Raises:
        OperationFailed: not the client's to change, not there, not now, or malformed.
    """
    name, number, kind, value = attribute
    rule = _rule_of(managed, name)
    if rule is not None and not rule.modify:
        raise _read_only(name, "modified")
    if not kind:
        raise invalid(f"{name[:100]} has no value")
    value = check_value(name, kind, value)
    if name in _DATES:
        check_date_change(name, managed.state_at(now), managed.date(name), now)
    if rule is not None and name in {"Sensitive", "Extractable"} and not managed.attributes.get(name):
        managed.set_single(name, value)
        _settle(managed, name, now)
        return Attribute(name, 0, kind, value)
    place = _place(managed, name, number)
    present = managed.attributes[name]
    if any(other.value == value and other.type == kind for at, other in enumerate(present) if at != place):
        raise OperationFailed(ResultReason.IllegalOperation, f"another instance of {name[:100]} has this value")
    changed = Instance(present[place].number, kind, value)
    managed.attributes[name] = [*present[:place], changed, *present[place + 1 :]]
    _settle(managed, name, now)
    return Attribute(name, changed.number, kind, value)


def delete(managed: ManagedObject, name: str, number: int | None, now: int) -> Attribute:
    """Delete an attribute's instance; returns what was deleted.

    Raises:
        OperationFailed: not the client's to delete, or not there.
    """
    rule = _rule_of(managed, name)
    if rule is not None and not rule.delete:
        raise _read_only(name, "deleted")
    place = _place(managed, name, number)
    present = managed.attributes[name]
    gone = present[place]
    left = [*present[:place], *present[place + 1 :]]
    if left:
        managed.attributes[name] = left
    else:
        del managed.attributes[name]
    managed.last_change_date = now
    return Attribute(name, gone.number, gone.type, gone.value)

"""Objects as rows: nothing is lost on the way there and back, not even what a newer release wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmipd.objects.index import DATED, index_entry, index_of, storage_entry
from kmipd.objects.lifecycle import NO_STATE
from kmipd.objects.managed import FRESH, NO_VALUE, RESTRICTED, ManagedObject, encode_attributes, from_stored, to_stored
from kmipd.objects.rules import BY_NAME, RULES
from kmipd.objects.values import Instance
from kmipd.storage.api import StorageError, StoredObject
from kmipd.wire import tags
from kmipd.wire.enums import State
from kmipd.wire.ttlv import ItemType, encode_item

_VALUES: dict[ItemType, st.SearchStrategy[Any]] = {
    ItemType.INTEGER: st.integers(-(2**31), 2**31 - 1),
    ItemType.ENUMERATION: st.integers(0, 2**32 - 1),
    ItemType.BOOLEAN: st.booleans(),
    ItemType.TEXT_STRING: st.text(max_size=30),
    ItemType.DATE_TIME: st.integers(-(2**40), 2**40),
    ItemType.INTERVAL: st.integers(0, 2**32 - 1),
    ItemType.LONG_INTEGER: st.integers(-(2**63), 2**63 - 1),
    ItemType.BYTE_STRING: st.binary(max_size=30),
    ItemType.STRUCTURE: st.lists(
        st.tuples(st.integers(0x420001, 0x4201FF).map(lambda tag: tag << 8 | 7), st.text(max_size=10)), max_size=4
    ),
}


def numbered(instances: list[tuple[int, Any]], gaps: list[int]) -> list[Instance]:
    numbers, number = [], -1
    for _, gap in zip(instances, gaps, strict=False):
        number += gap
        numbers.append(number)
    return [Instance(at, kind, value) for at, (kind, value) in zip(numbers, instances, strict=False)]


def instances_of(name: str) -> st.SearchStrategy[tuple[str, list[Instance]]]:
    rule = BY_NAME.get(name)
    kinds = [rule.type] if rule is not None else list(_VALUES)
    one = st.sampled_from(kinds).flatmap(lambda kind: st.tuples(st.just(int(kind)), _VALUES[kind]))
    many = st.lists(one, min_size=1, max_size=4 if rule is None or rule.multiple else 1)
    gaps = st.lists(st.integers(1, 3), min_size=4, max_size=4)
    if rule is not None and not rule.multiple:
        gaps = st.just([1] * 4)
    return st.tuples(st.just(name), st.builds(numbered, many, gaps))


NAMES = st.sampled_from([rule.name for rule in RULES if rule.name not in {"Sensitive", "Extractable"}]) | st.text(
    max_size=20
).map(lambda rest: "x-" + rest)
ATTRIBUTES = st.lists(NAMES.flatmap(instances_of), max_size=6).map(dict)


def stored(attributes: bytes = b"\1\0") -> StoredObject:
    return StoredObject("u", 2, 1, 3, 256, 12, 100, 100, attributes, b"record", "root", 1)


def managed(attributes: dict[str, list[Instance]] | None = None, **changes: Any) -> ManagedObject:
    made = ManagedObject(
        "u", 2, int(State.PreActive), 3, 256, 12, 100, 100, attributes=attributes or {}, stored=stored()
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@given(ATTRIBUTES, st.booleans(), st.booleans())
def test_objects_survive_storage(attributes: dict[str, list[Instance]], fresh: bool, present: bool) -> None:
    before = managed(attributes, fresh=fresh, value_present=present)
    row = to_stored(before)
    after = from_stored(row)
    assert (after.attributes, after.fresh, after.value_present, after.extra) == (attributes, fresh, present, [])
    assert encode_attributes(after) == row.attributes
    assert row.attributes[1] & FRESH == (FRESH if fresh else 0)
    assert row.attributes[1] & NO_VALUE == (0 if present else NO_VALUE)


@pytest.mark.parametrize(("name", "value"), [("Sensitive", True), ("Extractable", False)])
def test_restrictions_show_without_decoding(name: str, value: bool) -> None:
    guarded = managed()
    guarded.set_single(name, value)
    assert encode_attributes(guarded)[1] & RESTRICTED
    guarded.set_single(name, not value)
    assert not encode_attributes(guarded)[1] & RESTRICTED


def test_what_a_newer_release_added_is_kept() -> None:
    newer = encode_item((tags.ROTATE_INTERVAL << 8 | ItemType.INTERVAL, 3600))
    read = from_stored(stored(b"\1\0" + newer))
    assert read.extra
    read.set_single("Contact Information", "admin")
    assert newer in to_stored(read).attributes


def test_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(StorageError, match="newer release"):
        from_stored(stored(b"\2\0"))


def test_only_a_stored_object_can_replace_one() -> None:
    with pytest.raises(ValueError, match="not read from storage"):
        to_stored(managed(stored=None))


def test_the_index_of_an_object() -> None:
    name = [(tags.NAME_VALUE << 8 | 7, "key"), (tags.NAME_TYPE << 8 | 5, 1)]
    described = managed(
        {
            "Name": [Instance(0, ItemType.STRUCTURE, name)],
            "x-Tag": [Instance(0, ItemType.TEXT_STRING, "a"), Instance(1, ItemType.TEXT_STRING, "a")],
            "Activation Date": [Instance(0, ItemType.DATE_TIME, 500)],
        }
    )
    entries = index_of(described, 100)
    assert [entry.attribute for entry in entries] == ["Storage Status Mask", "Name", "x-Tag", "State"]
    assert DATED in entries
    assert DATED not in index_of(described, 600)
    described.state = int(State.Destroyed)
    assert index_of(described, 100) == [storage_entry(4)]


@given(st.sampled_from(list(_VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), _VALUES[kind], _VALUES[kind])))
def test_index_entries_are_equal_when_values_are(case: tuple[ItemType, Any, Any]) -> None:
    kind, first, second = case
    same = sorted(first) == sorted(second) if kind is ItemType.STRUCTURE else first == second
    one, other = index_entry("x-A", kind, first), index_entry("x-A", kind, second)
    assert one is not None
    assert (one == other) == same or kind is ItemType.STRUCTURE
    assert len(one.value) <= 128


def test_stateless_objects_never_wait_for_a_date() -> None:
    assert DATED not in index_of(managed(state=NO_STATE), 0)

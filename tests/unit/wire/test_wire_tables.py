"""The tables agree with each other and with what KMIP says of itself."""

from __future__ import annotations

import dataclasses

import pytest

from kmipd.objects.rules import RULES
from kmipd.wire import tags
from kmipd.wire.enum_table import ENUMERATIONS, MASKS
from kmipd.wire.enums import ObjectType, Operation, ResultReason, State
from kmipd.wire.payload_table import ROWS, Direction, rows_of
from kmipd.wire.payloads import REQUESTS, RESPONSES
from kmipd.wire.tag_table import BY_NAME, BY_TAG
from kmipd.wire.tag_table import ROWS as TAG_ROWS
from kmipd.wire.ttlv import ItemType
from kmipd.wire.versions import SUPPORTED, V1_0, V1_4, V2_0, V2_1, text_of, version_of


def test_every_tag_has_one_row_and_one_name() -> None:
    numbers = [value for name, value in vars(tags).items() if name.isupper() and isinstance(value, int)]
    assert len(numbers) == len(set(numbers)) == len(TAG_ROWS) == len(BY_TAG) == len(BY_NAME)
    assert {row.tag for row in TAG_ROWS} == set(numbers)
    assert all(0x420001 <= number <= 0x4201FF for number in numbers)


@pytest.mark.parametrize(
    ("name", "tag", "kind", "since"),
    [
        ("RequestMessage", 0x420078, ItemType.STRUCTURE, 10),
        ("UniqueIdentifier", 0x420094, ItemType.TEXT_STRING, 10),
        ("CryptographicLength", 0x42002A, ItemType.INTEGER, 10),
        ("TimeStamp", 0x420092, ItemType.DATE_TIME, 10),
        ("LeaseTime", 0x420049, ItemType.INTERVAL, 10),
        ("UsageLimitsTotal", 0x420097, ItemType.LONG_INTEGER, 10),
        ("Modulus", 0x420052, ItemType.BIG_INTEGER, 10),
        ("Fresh", 0x4200A8, ItemType.BOOLEAN, 11),
        ("OffsetItems", 0x4200D4, ItemType.INTEGER, 13),
        ("ServerCorrelationValue", 0x420106, ItemType.TEXT_STRING, 14),
        ("AttributeReference", 0x42013B, None, 20),
    ],
)
def test_tags_as_the_specification_has_them(name: str, tag: int, kind: ItemType | None, since: int) -> None:
    row = BY_NAME[name]
    assert (row.tag, row.type, row.since) == (tag, kind, since)


def test_names_retired_by_later_versions() -> None:
    assert BY_NAME["TemplateAttribute"].last == V1_4
    assert BY_NAME["Attributes"].since == V2_0
    assert all(row.last is None or row.since <= row.last for row in TAG_ROWS)


def test_enumerations_and_masks() -> None:
    assert int(Operation.DiscoverVersions) == 30
    assert (State.Active, ObjectType.SecretData, ResultReason.GeneralFailure) == (2, 7, 256)
    assert MASKS["CryptographicUsageMask"]["Encrypt"] == 4
    assert ENUMERATIONS["UsageLimitsUnit"] == {"Byte": 1, "Object": 2}
    for table in (*ENUMERATIONS.values(), *MASKS.values()):
        assert all(0 <= value < 2**31 for value in table.values())


def test_versions_compare_and_print() -> None:
    assert list(SUPPORTED) == sorted(SUPPORTED, reverse=True)
    assert [text_of(version) for version in SUPPORTED] == ["1.4", "1.3", "1.2", "1.1", "1.0"]
    assert version_of(1, 4) == V1_4 < version_of(2, 0) < V2_1
    assert version_of(1, 10) == version_of(0, 1) == version_of(-1, 0) == version_of(1, -1) == 0


def test_payload_rows_name_fields_of_their_classes() -> None:
    assert {row.operation for row in ROWS} == set(REQUESTS) == set(RESPONSES)
    for operation in REQUESTS:
        for direction, codec in ((Direction.REQUEST, REQUESTS[operation]), (Direction.RESPONSE, RESPONSES[operation])):
            rows = rows_of(Operation(operation), direction)
            assert rows
            assert {field.name for field in dataclasses.fields(codec.payload_class)} == {row.name for row in rows}
            assert all(row.tag in BY_TAG and V1_0 <= row.since <= (row.last or V1_4) for row in rows)


def test_attribute_rules_follow_the_tag_table() -> None:
    for rule in RULES:
        row = BY_TAG[rule.tag]
        assert rule.type == row.type
        assert rule.since >= row.since
        assert row.name.replace("_", "").lower() == "".join(c for c in rule.name if c.isalnum()).lower()

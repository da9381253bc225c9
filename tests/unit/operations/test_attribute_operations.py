"""Getting, listing, adding, modifying and deleting attributes."""

from __future__ import annotations

import asyncio

import pytest
from support import kmip_wire as f
from support.kmip_engine import Kmip

ITEM_NOT_FOUND, INVALID_MESSAGE, INVALID_FIELD, ILLEGAL, DENIED, BOUNDS = 1, 4, 7, 11, 12, 14


async def test_all_attributes_of_a_new_key(kmip: Kmip) -> None:
    uid = await kmip.create(f.attribute("Name", f.name_value("key")), f.attribute("x-Note", f.text(0, "mine")))
    kept = await kmip.attributes(uid)
    assert {name: values[0].value for name, values in kept.items() if values[0].kind != f.STRUCTURE} == {
        "Unique Identifier": uid,
        "Object Type": 2,
        "Cryptographic Algorithm": 3,
        "Cryptographic Length": 256,
        "Cryptographic Usage Mask": 12,
        "Operation Policy Name": "default",
        "State": 1,
        "Initial Date": kmip.now,
        "Last Change Date": kmip.now,
        "Original Creation Date": kmip.now,
        "Lease Time": 3600,
        "Fresh": True,
        "Key Value Present": True,
        "Sensitive": False,
        "Always Sensitive": False,
        "Extractable": True,
        "Never Extractable": False,
        "x-Note": "mine",
    }
    assert set(kept) - {name for name, values in kept.items() if values[0].kind != f.STRUCTURE} == {
        "Name",
        "Digest",
        "Random Number Generator",
    }
    listed = await kmip.ok(12, f.uid(uid))
    assert sorted(node.value for node in listed.all(0x42000A)) == sorted(kept)


@pytest.mark.parametrize(
    ("at", "later"),
    [
        ((1, 0), {"Fresh", "Original Creation Date", "Key Value Present", "Random Number Generator", "Sensitive"}),
        ((1, 1), {"Original Creation Date", "Key Value Present", "Random Number Generator", "Sensitive"}),
        ((1, 2), {"Random Number Generator", "Sensitive", "Extractable"}),
        ((1, 3), {"Sensitive", "Always Sensitive", "Extractable", "Never Extractable"}),
    ],
)
async def test_older_clients_do_not_see_newer_attributes(kmip: Kmip, at: tuple[int, int], later: set[str]) -> None:
    uid = await kmip.create()
    assert set(await kmip.attributes(uid, at=at)).isdisjoint(later)
    assert later <= set(await kmip.attributes(uid))
    assert await kmip.attributes(uid, *later, at=at) == {}


async def test_a_name_asked_twice_is_an_invalid_message(kmip: Kmip) -> None:
    uid = await kmip.create()
    names = f.text(0x42000A, "State") * 2
    assert (await kmip.call(11, f.uid(uid) + names)).reason == INVALID_MESSAGE


@pytest.mark.parametrize(
    "value",
    [
        f.integer(0, -7),
        f.item(0, f.LONG, bytes(8)),
        f.item(0, f.BIG, b"\xff" * 16),
        f.enum(0, 0x80000001),
        f.boolean(0, True),
        f.text(0, "Grüße, 鍵 🔑"),
        f.octets(0, b"\0\1\2"),
        f.date(0, 1_600_000_000),
        f.item(0, f.INTERVAL, b"\0\0\0\5"),
        f.structure(0, f.text(0x540001, "a"), f.integer(0x540002, 5)),
    ],
)
async def test_custom_attributes_of_every_type(kmip: Kmip, value: bytes) -> None:
    uid = await kmip.create()
    custom = f.attribute("x-Any", value)
    added = await kmip.ok(13, f.uid(uid) + custom)
    (sent,) = f.parse(b"\x42\x00\x0b" + value[3:])
    assert added.one(0x420008).one(0x42000B) == sent
    assert (await kmip.attributes(uid, "x-Any"))["x-Any"] == [sent]
    assert await kmip.locate(custom) == [uid]
    await kmip.ok(14, f.uid(uid) + f.attribute("x-Any", f.text(0, "changed")))
    gone = await kmip.ok(15, f.uid(uid) + f.text(0x42000A, "x-Any"))
    assert gone.one(0x420008).one(0x42000B).value == "changed"
    assert await kmip.attributes(uid, "x-Any") == {}


async def test_custom_structures_are_flat(kmip: Kmip) -> None:
    uid = await kmip.create()
    nested = f.attribute("x-Deep", f.structure(0, f.structure(0x540001, f.integer(0x540002, 1))))
    assert (await kmip.call(13, f.uid(uid) + nested)).reason == INVALID_FIELD


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        (f.attribute("y-Server", f.text(0, "no")), DENIED),
        (f.attribute("Invented", f.text(0, "no")), DENIED),
        (f.attribute("State", f.enum(0, 2)), DENIED),
        (f.attribute("Unique Identifier", f.text(0, "mine")), DENIED),
        (f.attribute("Digest", f.structure(0)), DENIED),
        (f.attribute("Cryptographic Length", f.integer(0, 128)), DENIED),
        (f.attribute("Cryptographic Usage Mask", f.integer(0, 1)), DENIED),
        (f.attribute("Certificate Type", f.enum(0, 1)), DENIED),
        (f.attribute("Contact Information", f.integer(0, 1)), INVALID_FIELD),
        (f.attribute("Link", f.structure(0, f.enum(0x42004B, 0x101))), INVALID_FIELD),
        (f.attribute("Link", f.structure(0, f.enum(0x42004B, 7), f.text(0x42004C, "x"))), INVALID_FIELD),
        (f.attribute("Name", f.structure(0, f.integer(0x420055, 1))), INVALID_FIELD),
        (f.attribute("x-Late", f.text(0, "x"), 5), INVALID_FIELD),
        (f.structure(0x420008, f.text(0x42000A, "x-Empty")), INVALID_FIELD),
    ],
)
async def test_what_cannot_be_added(kmip: Kmip, attribute: bytes, reason: int) -> None:
    uid = await kmip.create()
    before = await kmip.attributes(uid)
    assert (await kmip.call(13, f.uid(uid) + attribute)).reason == reason
    assert await kmip.attributes(uid) == before


@pytest.mark.parametrize(
    "attribute",
    [
        f.attribute("y-Server", f.text(0, "no")),
        f.attribute("State", f.enum(0, 2)),
        f.attribute("Destroy Date", f.date(0, 1)),
        f.attribute("Certificate Type", f.enum(0, 1)),
        f.attribute("Contact Information", f.text(0, "a")) + f.attribute("Contact Information", f.text(0, "b")),
        f.attribute("Contact Information", f.text(0, "a"), 1),
        f.attribute("Deactivation Date", f.date(0, 5)) + f.attribute("Activation Date", f.date(0, 10)),
    ],
)
async def test_what_cannot_be_created_with(kmip: Kmip, attribute: bytes) -> None:
    item = await kmip.call(1, f.create_payload(256, attribute))
    assert item.reason == INVALID_FIELD
    assert await kmip.locate() == []


async def test_instances_keep_their_index(kmip: Kmip) -> None:
    uid = await kmip.create()
    for number, name in enumerate(("a", "b", "c")):
        added = await kmip.ok(13, f.uid(uid) + f.attribute("Name", f.name_value(name)))
        indexes = [node.value for node in added.one(0x420008).all(0x420009)]
        assert indexes == ([number] if number else [])
    gone = await kmip.ok(15, f.uid(uid) + f.text(0x42000A, "Name") + f.integer(0x420009, 1))
    assert gone.one(0x420008).one(0x42000B).one(0x420055).value == "b"
    payload = await kmip.ok(11, f.uid(uid) + f.text(0x42000A, "Name"))
    assert [
        [node.value for node in found.all(0x420009)] + [found.one(0x42000B).one(0x420055).value]
        for found in payload.all(0x420008)
    ] == [["a"], [2, "c"]]
    await kmip.ok(14, f.uid(uid) + f.attribute("Name", f.name_value("d"), 2))
    for operation, payload_ in ((14, f.attribute("Name", f.name_value("x"), 1)), (15, f.text(0x42000A, "Name"))):
        item = await kmip.call(operation, f.uid(uid) + payload_ + (f.integer(0x420009, 1) if operation == 15 else b""))
        assert item.reason == ITEM_NOT_FOUND
    added = await kmip.ok(13, f.uid(uid) + f.attribute("Name", f.name_value("e")))
    assert added.one(0x420008).one(0x420009).value == 3


async def test_single_attributes_are_set_once(kmip: Kmip) -> None:
    uid = await kmip.create()
    contact = f.attribute("Contact Information", f.text(0, "admin"))
    assert (await kmip.call(14, f.uid(uid) + contact)).reason == ITEM_NOT_FOUND
    await kmip.ok(13, f.uid(uid) + contact)
    assert (await kmip.call(13, f.uid(uid) + f.attribute("Contact Information", f.text(0, "b")))).reason == ILLEGAL
    await kmip.ok(14, f.uid(uid) + f.attribute("Contact Information", f.text(0, "c"), 0))
    await kmip.ok(15, f.uid(uid) + f.text(0x42000A, "Contact Information"))
    assert (await kmip.call(15, f.uid(uid) + f.text(0x42000A, "Contact Information"))).reason == ITEM_NOT_FOUND


async def test_the_default_policy_may_be_named_again(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(13, f.uid(uid) + f.attribute("Operation Policy Name", f.text(0, "default")))
    assert (await kmip.call(15, f.uid(uid) + f.text(0x42000A, "Operation Policy Name"))).reason == DENIED


async def test_the_same_value_is_not_added_twice(kmip: Kmip) -> None:
    uid = await kmip.create(f.attribute("Object Group", f.text(0, "g")))
    assert (await kmip.call(13, f.uid(uid) + f.attribute("Object Group", f.text(0, "g")))).reason == ILLEGAL


async def test_dates_change_only_while_they_can(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(13, f.uid(uid) + f.attribute("Activation Date", f.date(0, kmip.now + 100)))
    await kmip.ok(14, f.uid(uid) + f.attribute("Activation Date", f.date(0, kmip.now + 50)))
    assert await kmip.state(uid) == 1
    kmip.pass_time(60)
    assert await kmip.state(uid) == 2
    assert (await kmip.call(14, f.uid(uid) + f.attribute("Activation Date", f.date(0, kmip.now + 9)))).reason == DENIED
    before = f.attribute("Deactivation Date", f.date(0, kmip.now - 70))
    assert (await kmip.call(13, f.uid(uid) + before)).reason == INVALID_FIELD
    await kmip.ok(13, f.uid(uid) + f.attribute("Deactivation Date", f.date(0, kmip.now + 10)))
    kmip.pass_time(11)
    assert await kmip.state(uid) == 3
    later = f.attribute("Deactivation Date", f.date(0, kmip.now + 100))
    assert (await kmip.call(14, f.uid(uid) + later)).reason == DENIED
    assert (await kmip.call(15, f.uid(uid) + f.text(0x42000A, "Activation Date"))).reason == DENIED


async def test_adding_a_date_that_has_come_activates(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(13, f.uid(uid) + f.attribute("Activation Date", f.date(0, kmip.now)))
    assert await kmip.state(uid) == 2


async def test_usage_limits_count_down_from_their_total(kmip: Kmip) -> None:
    limits = f.structure(0, f.item(0x420097, f.LONG, (500).to_bytes(8, "big")), f.enum(0x420098, 1))
    uid = await kmip.create(f.attribute("Usage Limits", limits))
    (kept,) = (await kmip.attributes(uid, "Usage Limits"))["Usage Limits"]
    assert [(node.tag, node.value) for node in kept.value] == [(0x420097, 500), (0x420096, 500), (0x420098, 1)]


async def test_changes_are_dated(kmip: Kmip) -> None:
    uid = await kmip.create()
    made = kmip.now
    kmip.pass_time(100)
    await kmip.ok(10, f.uid(uid))
    assert (await kmip.attributes(uid, "Last Change Date"))["Last Change Date"][0].value == made
    await kmip.ok(13, f.uid(uid) + f.attribute("x-A", f.text(0, "a")))
    kept = await kmip.attributes(uid, "Last Change Date", "Initial Date", "Fresh")
    assert [kept[name][0].value for name in ("Last Change Date", "Initial Date", "Fresh")] == [kmip.now, made, False]


async def test_concurrent_changes_are_all_kept(kmip: Kmip) -> None:
    """vCenter stamps a key on one connection while another activates it."""
    uid = await kmip.create()
    changes = [kmip.call(13, f.uid(uid) + f.attribute(f"x-{number}", f.text(0, "v"))) for number in range(40)]
    done = await asyncio.gather(*changes, kmip.call(18, f.uid(uid)), kmip.call(10, f.uid(uid)))
    assert [item.status for item in done] == [0] * 42
    kept = await kmip.attributes(uid)
    assert {f"x-{number}" for number in range(40)} <= set(kept)
    assert kept["State"][0].value == 2
    assert kept["Fresh"][0].value is False


async def test_one_activation_wins(kmip: Kmip) -> None:
    uid = await kmip.create()
    done = await asyncio.gather(*[kmip.call(18, f.uid(uid)) for _ in range(8)])
    assert sorted(item.status for item in done) == [0] + [1] * 7


async def test_what_hurts_is_bounded(kmip: Kmip) -> None:
    many = b"".join(f.attribute("x-Many", f.integer(0, number)) for number in range(300))
    assert (await kmip.call(1, f.create_payload(256, many))).reason == INVALID_FIELD
    names = b"".join(f.attribute(f"x-{number}", f.integer(0, 1)) for number in range(600))
    assert (await kmip.call(1, f.create_payload(256, names))).reason == INVALID_FIELD
    assert (await kmip.call(8, names)).reason == INVALID_FIELD
    assert (
        await kmip.call(1, f.create_payload(256, f.attribute("x-Long", f.text(0, "x" * 70_000))))
    ).reason == INVALID_FIELD
    full = b"".join(f.attribute("x-Many", f.integer(0, number)) for number in range(256))
    uid = await kmip.create(full)
    assert (await kmip.call(13, f.uid(uid) + f.attribute("x-Many", f.integer(0, -1)))).reason == BOUNDS

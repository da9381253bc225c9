"""Locate: by every kind of condition, in pages, and never more than is there."""

from __future__ import annotations

import pytest
from support import kmip_wire as f
from support.kmip_engine import Kmip

INVALID_FIELD = 7


async def some_keys(kmip: Kmip, count: int = 5) -> list[str]:
    """Keys a second apart, newest first."""
    uids = []
    for number in range(count):
        kmip.pass_time(1)
        group = f.attribute("Object Group", f.text(0, "even" if number % 2 == 0 else "odd"))
        name = f.attribute("Name", f.name_value(f"key-{number}"))
        uids.append(await kmip.create(name, group, bits=256 if number % 2 == 0 else 128))
    return uids[::-1]


async def test_by_name_exactly(kmip: Kmip) -> None:
    uids = await some_keys(kmip)
    for number, uid in enumerate(uids[::-1]):
        assert await kmip.locate(f.attribute("Name", f.name_value(f"key-{number}"))) == [uid]
    for name in ("key", "KEY-1", "key-1 ", "key-%", ""):
        assert await kmip.locate(f.attribute("Name", f.name_value(name))) == []
    assert await kmip.locate(f.attribute("Name", f.name_value("key-1", 2))) == []
    only_text = f.structure(0, f.text(0x420055, "key-1"))
    assert len(await kmip.locate(f.attribute("Name", only_text))) == 1


async def test_inside_a_template_attribute_as_fortios_does(kmip: Kmip) -> None:
    uid = await kmip.create(f.attribute("Name", f.name_value("ENC-AES-16-a")))
    wrapped = f.integer(0x42004F, 1) + f.template(f.attribute("Name", f.name_value("ENC-AES-16-a")))
    missing = f.integer(0x42004F, 1) + f.template(f.attribute("Name", f.name_value("ENC")))
    header = f.integer(0x420050, 65536) + f.credential("u", "p") + f.boolean(0x420010, True) + f.enum(0x42000E, 1)
    answer = await kmip.send(
        f.message(f.batch_item(8, missing, b"1" * 12), f.batch_item(8, wrapped, b"2" * 12), header=header, at=(1, 0))
    )
    assert [item.status for item in answer.items] == [0, 0]
    assert [[node.value for node in item.payload.value] for item in answer.items if item.payload] == [[], [uid]]


async def test_all_conditions_must_hold(kmip: Kmip) -> None:
    uids = await some_keys(kmip)
    even = f.attribute("Object Group", f.text(0, "even"))
    assert await kmip.locate(even) == uids[::2]
    assert await kmip.locate(even, f.attribute("Name", f.name_value("key-2"))) == [uids[2]]
    assert await kmip.locate(even, f.attribute("Name", f.name_value("key-1"))) == []
    assert await kmip.locate(even, f.attribute("Object Group", f.text(0, "odd"))) == []


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (f.attribute("Object Type", f.enum(0, 2)), 5),
        (f.attribute("Object Type", f.enum(0, 7)), 0),
        (f.attribute("Cryptographic Algorithm", f.enum(0, 3)), 5),
        (f.attribute("Cryptographic Length", f.integer(0, 128)), 2),
        (f.attribute("Cryptographic Length", f.integer(0, 128)) * 2, 2),
        (
            f.attribute("Cryptographic Length", f.integer(0, 128))
            + f.attribute("Cryptographic Length", f.integer(0, 256)),
            0,
        ),
        (f.attribute("Cryptographic Usage Mask", f.integer(0, 4)), 5),
        (f.attribute("Cryptographic Usage Mask", f.integer(0, 5)), 0),
        (f.attribute("State", f.enum(0, 1)), 5),
        (f.attribute("State", f.enum(0, 2)), 0),
        (f.attribute("Fresh", f.boolean(0, True)), 5),
        (f.attribute("Operation Policy Name", f.text(0, "default")), 5),
        (f.attribute("Initial Date", f.date(0, 1_700_000_003)), 1),
        (
            f.attribute("Initial Date", f.date(0, 1_700_000_002))
            + f.attribute("Initial Date", f.date(0, 1_700_000_004)),
            3,
        ),
        (
            f.attribute("Original Creation Date", f.date(0, 1_700_000_004))
            + f.attribute("Original Creation Date", f.date(0, 0)),
            4,
        ),
        (f.attribute("Last Change Date", f.date(0, 1_700_000_001)), 1),
        (f.attribute("Deactivation Date", f.date(0, 1_700_000_001)), 0),
        (f.attribute("x-Nothing", f.text(0, "")), 0),
        (f.attribute("Storage Status Mask", f.integer(0, 1)), 5),
        (f.integer(0x42008E, 1), 5),
        (f.integer(0x42008E, 2), 0),
        (f.integer(0x42008E, 3), 5),
        (f.integer(0x42008E, 0), 0),
    ],
)
async def test_by_every_kind_of_condition(kmip: Kmip, condition: bytes, found: int) -> None:
    uids = await some_keys(kmip)
    assert await kmip.locate() == uids
    answer = await kmip.locate(condition)
    assert len(answer) == found
    assert answer == [uid for uid in uids if uid in answer]


async def test_by_unique_identifier(kmip: Kmip) -> None:
    uids = await some_keys(kmip)
    condition = f.attribute("Unique Identifier", f.text(0, uids[4]))
    assert await kmip.locate(condition) == [uids[4]]
    assert await kmip.locate(condition, f.attribute("Name", f.name_value("key-0"))) == [uids[4]]
    assert await kmip.locate(condition, f.attribute("Name", f.name_value("key-1"))) == []
    assert await kmip.locate(condition, f.attribute("Cryptographic Length", f.integer(0, 128))) == []
    assert await kmip.locate(f.attribute("Unique Identifier", f.text(0, "nobody"))) == []


async def test_structures_match_by_the_fields_given(kmip: Kmip) -> None:
    def link(kind: int, target: str) -> bytes:
        return f.attribute("Link", f.structure(0, f.enum(0x42004B, kind), f.text(0x42004C, target)))

    def application(namespace: str, *data: str) -> bytes:
        return f.attribute(
            "Application Specific Information",
            f.structure(0, f.text(0x420003, namespace), *[f.text(0x420002, value) for value in data]),
        )

    uid = await kmip.create(link(0x101, "a"), link(0x102, "b"), application("ssl", "www.example.com"))
    await kmip.create(link(0x101, "b"), application("ssl", "mail.example.com"))
    assert await kmip.locate(link(0x101, "a")) == [uid]
    assert await kmip.locate(link(0x101, "a"), link(0x102, "b")) == [uid]
    assert await kmip.locate(link(0x102, "a")) == []
    assert len(await kmip.locate(f.attribute("Link", f.structure(0, f.enum(0x42004B, 0x101))))) == 2
    assert await kmip.locate(application("ssl", "www.example.com")) == [uid]
    swapped = f.structure(0, f.text(0x420002, "www.example.com"), f.text(0x420003, "ssl"))
    assert await kmip.locate(f.attribute("Application Specific Information", swapped)) == [uid]
    assert len(await kmip.locate(application("ssl"))) == 2
    assert await kmip.locate(application("ftp")) == []


async def test_long_values_are_found_too(kmip: Kmip) -> None:
    long = "n" * 5000
    uid = await kmip.create(f.attribute("Name", f.name_value(long)))
    assert await kmip.locate(f.attribute("Name", f.name_value(long))) == [uid]
    assert await kmip.locate(f.attribute("Name", f.name_value(long[:-1]))) == []


@pytest.mark.parametrize("at", [(1, 0), (1, 4)])
async def test_pages_as_mysqls_keyring_asks_for_them(kmip: Kmip, at: tuple[int, int]) -> None:
    """Offset Items is heeded at every version, or the client never ends."""
    uids = await some_keys(kmip, 7)
    seen: list[str] = []
    while True:
        payload = await kmip.ok(8, f.integer(0x42004F, 3) + f.integer(0x4200D4, len(seen)), at=at)
        page = [node.value for node in payload.all(0x420094)]
        assert len(page) <= 3
        assert payload.has(0x4200D5) == (at >= (1, 3))
        if payload.has(0x4200D5):
            assert payload.one(0x4200D5).value == 7
        if not page:
            break
        seen += page
    assert seen == uids


@pytest.mark.parametrize(
    "condition",
    [
        f.attribute("Fresh", f.boolean(0, True)),
        f.attribute("Unique Identifier", f.text(0, "nobody")),
        f.attribute("Object Group", f.text(0, "none")),
    ],
)
async def test_no_more_than_asked_for(kmip: Kmip, condition: bytes) -> None:
    await some_keys(kmip, 3)
    assert len(await kmip.locate(condition, f.integer(0x42004F, 1))) <= 1
    assert await kmip.locate(condition, f.integer(0x4200D4, 9)) == []
    assert await kmip.locate(condition, f.integer(0x42004F, 0)) == []


@pytest.mark.parametrize(
    "condition",
    [
        f.attribute("Invented", f.text(0, "x")),
        f.attribute("Object Type", f.text(0, "x")),
        f.attribute("Name", f.text(0, "x")),
        f.attribute("Name", f.structure(0, f.integer(0x420055, 1))),
        f.attribute("Link", f.structure(0, f.enum(0x42004B, 7))),
        f.structure(0x420008, f.text(0x42000A, "Name")),
        f.integer(0x42004F, -1),
        f.integer(0x4200D4, -1),
    ],
)
async def test_conditions_that_cannot_be(kmip: Kmip, condition: bytes) -> None:
    assert (await kmip.call(8, condition)).reason == INVALID_FIELD


async def test_many_candidates_are_looked_at_between_other_work(kmip: Kmip) -> None:
    uids = [await kmip.create() for _ in range(130)]
    assert set(await kmip.locate(f.attribute("Fresh", f.boolean(0, True)))) == set(uids)

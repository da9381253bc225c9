"""vCenter and ESXi, request shape by request shape: KMIP 1.1, QLKC batch item identifiers, short connections."""

from __future__ import annotations

import asyncio

import pytest
from support import kmip_wire as f
from support.kmip_engine import Kmip

DISCOVER = f.message(f.batch_item(30, b""))
DISCOVER_AGAIN = f.message(f.batch_item(30, b"", f.qlkc(1)))
QUERY = f.message(f.batch_item(24, f.enum(0x420074, 3), f.qlkc(1)))
CREATE = f.message(f.batch_item(1, f.create_payload(), f.qlkc(1)))

STAMPS = {
    "x-Product_Version": "7.0.3 build-19480866",
    "x-Vendor": "VMware, Inc.",
    "x-Product": "VMware vSphere",
}
PLACES = {
    "x-Identifier": "0a1b2c3d-0000-4000-8000-0123456789ab",
    "x-Component": "Virtual Machine",
    "x-Name": "test01",
}


def get_attribute(uid: str, name: str, header: bytes = b"") -> bytes:
    return f.message(f.batch_item(11, f.uid(uid) + f.text(0x42000A, name), f.qlkc(1)), header=header)


def get(uid: str, header: bytes = b"") -> bytes:
    return f.message(f.batch_item(10, f.uid(uid), f.qlkc(1)), header=header)


def activate(uid: str, header: bytes = b"") -> bytes:
    return f.message(f.batch_item(18, f.uid(uid), f.qlkc(1)), header=header)


def stamp(uid: str, values: dict[str, str], header: bytes = b"") -> bytes:
    return f.message(
        *[
            f.batch_item(13, f.uid(uid) + f.attribute(name, f.text(0, value)), f.qlkc(number))
            for number, (name, value) in enumerate(values.items(), start=1)
        ],
        header=header,
    )


def test_frames_are_as_long_as_those_seen_on_the_wire() -> None:
    assert [len(frame) for frame in (DISCOVER, DISCOVER_AGAIN, QUERY, CREATE)] == [104, 120, 136, 312]
    assert len(stamp("1", STAMPS)) == 440


async def created(kmip: Kmip, header: bytes = b"") -> str:
    answer = await kmip.send(f.message(f.batch_item(1, f.create_payload(), f.qlkc(1)), header=header))
    (item,) = answer.items
    assert item.payload is not None
    assert item.payload.tags == [0x420057, 0x420094]
    return str(item.payload.one(0x420094).value)


async def test_discover_versions_offers_all_best_first_in_the_header_that_was_sent(kmip: Kmip) -> None:
    for frame, identifier in ((DISCOVER, None), (DISCOVER_AGAIN, f.qlkc(1))):
        answer = await kmip.send(frame)
        assert answer.version == (1, 1)
        (item,) = answer.items
        assert (item.operation, item.identifier, item.status) == (30, identifier, 0)
        assert item.payload is not None
        offered = [(node.value[0].value, node.value[1].value) for node in item.payload.value]
        assert offered == [(1, 4), (1, 3), (1, 2), (1, 1), (1, 0)]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([(1, 4)], [(1, 4)]),
        ([(9, 9)], []),
        ([(2, 1), (1, 2), (1, 1)], [(1, 2), (1, 1)]),
        ([(1, 0), (1, 4)], [(1, 4), (1, 0)]),
    ],
)
async def test_discover_versions_intersects(
    kmip: Kmip, asked: list[tuple[int, int]], answered: list[tuple[int, int]]
) -> None:
    payload = await kmip.ok(30, b"".join(f.version(*pair) for pair in asked), at=(1, 1))
    assert [(node.value[0].value, node.value[1].value) for node in payload.value] == answered


async def test_query_server_information(kmip: Kmip) -> None:
    (item,) = (await kmip.send(QUERY)).items
    assert (item.status, item.identifier) == (0, f.qlkc(1))
    assert item.payload is not None
    assert item.payload.tags == [0x42009D]
    assert item.payload.one(0x42009D).value.startswith("kmip-operator")


async def test_a_key_is_read_before_it_is_activated(kmip: Kmip) -> None:
    uid = await created(kmip)
    assert len(uid) == 36
    (item,) = (await kmip.send(get(uid))).items
    assert item.payload is not None
    assert item.payload.tags == [0x420057, 0x420094, 0x42008F]
    block = item.payload.one(0x42008F).one(0x420040)
    assert block.tags == [0x420042, 0x420045, 0x420028, 0x42002A]
    assert block.one(0x420042).value == 1
    assert block.one(0x420045).tags == [0x420043]
    key = block.one(0x420045).one(0x420043).value
    assert len(key) == 32
    assert block.one(0x420028).value == 3
    assert block.one(0x42002A).value == 256
    (item,) = (await kmip.send(get_attribute(uid, "State"))).items
    assert item.payload is not None
    state = item.payload.one(0x420008)
    assert state.tags == [0x42000A, 0x42000B]
    assert state.one(0x42000B).value == 1
    (item,) = (await kmip.send(activate(uid))).items
    assert item.payload is not None
    assert item.payload.tags == [0x420094]
    assert await kmip.state(uid) == 2
    (item,) = (await kmip.send(get(uid))).items
    assert item.payload is not None
    assert item.payload.one(0x42008F).one(0x420040).one(0x420045).one(0x420043).value == key


@pytest.mark.parametrize("name", [*STAMPS, *PLACES])
async def test_an_absent_attribute_is_a_success_without_it(kmip: Kmip, name: str) -> None:
    uid = await created(kmip)
    (item,) = (await kmip.send(get_attribute(uid, name))).items
    assert item.status == 0
    assert item.payload is not None
    assert item.payload.tags == [0x420094]


async def test_stamping_echoes_every_attribute(kmip: Kmip) -> None:
    uid = await created(kmip)
    for values in (STAMPS, PLACES):
        answer = await kmip.send(stamp(uid, values))
        assert [item.identifier for item in answer.items] == [f.qlkc(number) for number in (1, 2, 3)]
        for item, (name, value) in zip(answer.items, values.items(), strict=True):
            assert item.status == 0
            assert item.payload is not None
            assert item.payload.tags == [0x420094, 0x420008]
            echoed = item.payload.one(0x420008)
            assert echoed.tags == [0x42000A, 0x42000B]
            assert (echoed.one(0x42000A).value, echoed.one(0x42000B).value) == (name, value)
    kept = await kmip.attributes(uid, *STAMPS, *PLACES, at=(1, 1))
    assert {name: values[0].value for name, values in kept.items()} == STAMPS | PLACES


async def test_setting_a_stamp_again(kmip: Kmip) -> None:
    """vSphere 8 lets an administrator set a key's custom attributes again: as a further instance, or as a change."""
    uid = await created(kmip)
    await kmip.send(stamp(uid, {"x-Name": "one"}))
    answer = await kmip.send(stamp(uid, {"x-Name": "two"}))
    assert answer.items[0].payload is not None
    assert answer.items[0].payload.one(0x420008).one(0x420009).value == 1
    await kmip.ok(14, f.uid(uid) + f.attribute("x-Name", f.text(0, "three"), 0), at=(1, 1))
    assert [node.value for node in (await kmip.attributes(uid, "x-Name"))["x-Name"]] == ["three", "two"]


def batch_with_bad_item(uid: str, header: bytes = b"") -> bytes:
    return stamp(uid, {"x-Vendor": "VMware, Inc.", "y-bad": "x", "x-Product": "VMware vSphere"}, header)


async def test_a_batch_stops_at_its_first_failure(kmip: Kmip) -> None:
    uid = await created(kmip)
    answer = await kmip.send(batch_with_bad_item(uid))
    assert [item.status for item in answer.items] == [0, 1]
    assert answer.items[1].identifier == f.qlkc(2)
    assert answer.items[1].operation == 13
    assert set(await kmip.attributes(uid, "x-Vendor", "x-Product")) == {"x-Vendor"}


async def test_a_batch_goes_on_when_asked(kmip: Kmip) -> None:
    uid = await created(kmip)
    answer = await kmip.send(batch_with_bad_item(uid, f.enum(0x42000E, 1)))
    assert [item.status for item in answer.items] == [0, 1, 0]
    assert set(await kmip.attributes(uid, "x-Vendor", "x-Product")) == {"x-Vendor", "x-Product"}


async def test_credentials_come_and_go_within_a_session(kmip: Kmip) -> None:
    header = f.credential("vcenter", "not looked at")
    uid = await created(kmip, header)
    for frame in (get(uid, header), get_attribute(uid, "State", header), activate(uid, header), stamp(uid, STAMPS)):
        answer = await kmip.send(frame)
        assert all(item.status == 0 for item in answer.items)


async def test_an_unknown_key_is_an_item_not_found(kmip: Kmip) -> None:
    for frame in (get("5"), activate("5"), get_attribute("5", "State")):
        answer = await kmip.send(frame)
        assert answer.version == (1, 1)
        assert [(item.status, item.reason, item.identifier) for item in answer.items] == [(1, 1, f.qlkc(1))]


async def test_activate_twice_is_refused(kmip: Kmip) -> None:
    uid = await created(kmip)
    await kmip.send(activate(uid))
    (item,) = (await kmip.send(activate(uid))).items
    assert (item.status, item.reason) == (1, 12)


async def connection(kmip: Kmip, *frames: bytes) -> list[f.Response]:
    """What one short connection carries: discovery, then its frames one after the other."""
    answers = [await kmip.send(frame) for frame in (DISCOVER, *frames)]
    assert all(item.status == 0 for answer in answers for item in answer.items)
    return answers


async def test_encrypting_a_virtual_machine(kmip: Kmip) -> None:
    """Eight connections, two pairs of them overlapping: a key for the machine, one for its host, both activated and stamped."""
    machine = await created(kmip)
    stamps = [get_attribute(machine, name) for name in STAMPS]
    _, host = await asyncio.gather(
        connection(kmip, *stamps, stamp(machine, STAMPS)),
        created(kmip),
    )
    use_host = connection(kmip, get(host), get_attribute(host, "State"), activate(host))
    mark_host = connection(kmip, *[get_attribute(host, name) for name in STAMPS], stamp(host, STAMPS))
    await asyncio.gather(use_host, mark_host)
    at = PLACES | {"x-Component": "ESXi Server", "x-Name": "172.16.220.132"}
    await connection(kmip, *[get_attribute(host, name) for name in at], stamp(host, at))
    await connection(kmip, get(machine), get_attribute(machine, "State"), activate(machine))
    await connection(kmip, *[get_attribute(machine, name) for name in PLACES], stamp(machine, PLACES))
    for uid, places in ((machine, PLACES), (host, at)):
        kept = await kmip.attributes(uid, "State", *STAMPS, *places, at=(1, 1))
        assert {name: values[0].value for name, values in kept.items()} == {"State": 2} | STAMPS | places
    assert all(event.status == "Success" for event in kmip.audit)

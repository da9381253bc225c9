"""Activate, Revoke and Destroy, and what is left afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import kmip_wire as f
from support.kmip_engine import Kmip

from kmipd.storage.api import StorageUnavailable

ITEM_NOT_FOUND, INVALID_FIELD, ILLEGAL, DENIED = 1, 7, 11, 12
PRE_ACTIVE, ACTIVE, DEACTIVATED, COMPROMISED, DESTROYED, DESTROYED_COMPROMISED = range(1, 7)
KEY_COMPROMISE, CESSATION = 2, 6


def reason(code: int, message: str | None = None) -> bytes:
    return f.structure(0x420081, f.enum(0x420082, code), b"" if message is None else f.text(0x420080, message))


async def test_deactivation(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(18, f.uid(uid))
    kmip.pass_time(10)
    await kmip.ok(19, f.uid(uid) + reason(CESSATION, "replaced"))
    kept = await kmip.attributes(
        uid, "State", "Activation Date", "Deactivation Date", "Revocation Reason", "Compromise Date"
    )
    assert kept["State"][0].value == DEACTIVATED
    assert kept["Activation Date"][0].value == kmip.now - 10
    assert kept["Deactivation Date"][0].value == kmip.now
    assert kept["Revocation Reason"][0].one(0x420080).value == "replaced"
    assert "Compromise Date" not in kept
    await kmip.ok(10, f.uid(uid))


async def test_a_compromise_needs_no_activation(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(19, f.uid(uid) + reason(KEY_COMPROMISE) + f.date(0x420021, 1234))
    kept = await kmip.attributes(uid, "State", "Compromise Date", "Compromise Occurrence Date")
    assert {name: values[0].value for name, values in kept.items()} == {
        "State": COMPROMISED,
        "Compromise Date": kmip.now,
        "Compromise Occurrence Date": 1234,
    }
    await kmip.ok(19, f.uid(uid) + reason(CESSATION))
    assert await kmip.state(uid) == COMPROMISED
    await kmip.ok(20, f.uid(uid))
    assert await kmip.state(uid) == DESTROYED_COMPROMISED


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (reason(99), INVALID_FIELD),
        (reason(KEY_COMPROMISE) + f.date(0x420021, 4_000_000_000), INVALID_FIELD),
        (reason(CESSATION), DENIED),
        (b"", 6),
    ],
)
async def test_revocations_that_are_refused(kmip: Kmip, payload: bytes, expected: int) -> None:
    uid = await kmip.create()
    assert (await kmip.call(19, f.uid(uid) + payload)).reason == expected
    assert await kmip.state(uid) == PRE_ACTIVE


async def test_an_active_key_is_not_destroyed(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(18, f.uid(uid))
    for at in ((1, 0), (1, 4)):
        assert (await kmip.call(20, f.uid(uid), at=at)).reason == DENIED
    await kmip.ok(10, f.uid(uid))


async def test_a_destroyed_key_leaves_its_attributes(kmip: Kmip, tmp_path: Path) -> None:
    name = f.attribute("Name", f.name_value("gone"))
    uid = await kmip.create(name)
    record = await kmip.storage.get(uid)
    assert record is not None
    assert record.material is not None
    kmip.pass_time(5)
    payload = await kmip.ok(20, f.uid(uid))
    assert payload.tags == [0x420094]
    after = await kmip.storage.get(uid)
    assert after is not None
    assert after.material is None
    kept = await kmip.attributes(uid)
    assert kept["State"][0].value == DESTROYED
    assert kept["Destroy Date"][0].value == kmip.now
    assert kept["Name"][0].one(0x420055).value == "gone"
    assert kept["Key Value Present"][0].value is False
    for operation in (10, 18, 20):
        assert (await kmip.call(operation, f.uid(uid))).reason == ITEM_NOT_FOUND
    for operation, more in ((13, f.attribute("x-A", f.text(0, "a"))), (15, f.text(0x42000A, "Name"))):
        assert (await kmip.call(operation, f.uid(uid) + more)).reason == ITEM_NOT_FOUND
    assert await kmip.locate(name) == []
    assert await kmip.locate(f.attribute("Object Type", f.enum(0, 2))) == []
    assert await kmip.locate() == []
    assert await kmip.locate(f.integer(0x42008E, 4), name) == [uid]
    assert await kmip.locate(f.integer(0x42008E, 5)) == [uid]


async def test_dates_move_the_state(kmip: Kmip) -> None:
    uid = await kmip.create(
        f.attribute("Activation Date", f.date(0, kmip.now + 10)),
        f.attribute("Deactivation Date", f.date(0, kmip.now + 20)),
    )
    pre, active, deactivated = (f.attribute("State", f.enum(0, state)) for state in (1, 2, 3))
    for state, condition in ((1, pre), (2, active), (3, deactivated)):
        assert await kmip.state(uid) == state
        assert await kmip.locate(condition) == [uid]
        for other in {pre, active, deactivated} - {condition}:
            assert await kmip.locate(other) == []
        kmip.pass_time(10)
    await kmip.ok(20, f.uid(uid))


async def test_a_key_registered_in_the_past_is_active(kmip: Kmip) -> None:
    uid = await kmip.create(f.attribute("Activation Date", f.date(0, kmip.now - 1)))
    assert await kmip.state(uid) == ACTIVE
    assert (await kmip.call(18, f.uid(uid))).reason == DENIED


async def test_stateless_objects_are_destroyed_without_ado(kmip: Kmip) -> None:
    structure = f.structure(0x42005B, f.enum(0x420059, 0x80000001), f.octets(0x42005A, b"x"))
    payload = await kmip.ok(3, f.enum(0x420057, 8) + f.template() + structure)
    uid = payload.one(0x420094).value
    assert "State" not in await kmip.attributes(uid)
    for operation, more in ((18, b""), (19, reason(CESSATION))):
        assert (await kmip.call(operation, f.uid(uid) + more)).reason == ILLEGAL
    await kmip.ok(20, f.uid(uid))
    assert (await kmip.call(10, f.uid(uid))).reason == ITEM_NOT_FOUND
    assert "State" not in await kmip.attributes(uid)


async def test_fresh_ends_with_the_first_get(kmip: Kmip) -> None:
    group = f.attribute("Object Group", f.text(0, "g"))
    uids = [await kmip.create(group) for _ in range(2)]
    fresh = f.integer(0x42004F, 1) + f.enum(0x4200AC, 1) + group
    served = []
    for _ in uids:
        answer = await kmip.send(f.message(f.batch_item(8, fresh, b"1"), f.batch_item(10, b"", b"2")))
        assert answer.items[1].payload is not None
        served.append(answer.items[1].payload.one(0x420094).value)
    assert served == uids
    assert await kmip.locate(fresh) == []
    for uid in uids:
        assert (await kmip.attributes(uid, "Fresh"))["Fresh"][0].value is False


async def test_default_members_take_turns(kmip: Kmip) -> None:
    group = f.attribute("Object Group", f.text(0, "turns"))
    uids = [await kmip.create(group) for _ in range(3)]
    ask = f.integer(0x42004F, 1) + f.enum(0x4200AC, 2) + group
    assert [(await kmip.locate(ask))[0] for _ in range(4)] == [*uids, uids[0]]
    assert (await kmip.call(8, f.enum(0x4200AC, 2))).reason == INVALID_FIELD


async def test_a_change_after_a_date_has_come_keeps_its_effect(kmip: Kmip) -> None:
    """The index stops announcing a date once it has come; the row must say what it brought."""
    dated = f.attribute("Activation Date", f.date(0, kmip.now + 10))
    changed, untouched = await kmip.create(dated), await kmip.create(dated)
    kmip.pass_time(20)
    await kmip.ok(13, f.uid(changed) + f.attribute("x-A", f.text(0, "a")))
    active = f.attribute("State", f.enum(0, ACTIVE))
    for _ in range(2):
        assert set(await kmip.locate(active)) == {changed, untouched}
        assert await kmip.locate(f.attribute("State", f.enum(0, PRE_ACTIVE))) == []
    for uid in (changed, untouched):
        row = await kmip.storage.get(uid)
        assert row is not None
        assert row.state == ACTIVE


async def test_a_key_is_served_though_nothing_can_be_written(kmip: Kmip, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = await kmip.create(f.attribute("Activation Date", f.date(0, kmip.now + 10)))
    kmip.pass_time(20)

    async def full(*_: object) -> bool:
        raise StorageUnavailable("no space left")

    monkeypatch.setattr(kmip.storage, "replace", full)
    await kmip.ok(10, f.uid(uid))
    assert await kmip.locate(f.attribute("State", f.enum(0, ACTIVE))) == [uid]
    item = await kmip.call(18, f.uid(await kmip.create()))
    assert (item.reason, item.message) == (256, "storage does not answer, retry")

"""What holds for messages as a whole: versions, errors, batches, sizes, extensions, permissions, audit."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support import kmip_wire as f
from support.kmip_engine import ADMIN, Kmip, open_kmip

from kmip_contract.kmipd import Limits
from kmip_contract.permissions import PROFILES, PermissionProfile
from kmip_contract.rootkey import CustodyErrorKind
from kmipd.operations.api import AuditEvent, Client

READER = Client("reader", "cd" * 32, "127.0.0.1:40001", PROFILES[PermissionProfile.READ_ONLY])
VSPHERE = Client("vc", "ef" * 32, "127.0.0.1:40002", PROFILES[PermissionProfile.VSPHERE])
ITEM_NOT_FOUND, TOO_LARGE, INVALID_MESSAGE, UNSUPPORTED, MISSING, INVALID_FIELD, NO_FEATURE = 1, 2, 4, 5, 6, 7, 8
PERMISSION_DENIED, GENERAL_FAILURE = 12, 256


@pytest.mark.parametrize("at", [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)])
async def test_the_answer_has_the_version_of_its_request(kmip: Kmip, at: tuple[int, int]) -> None:
    item = await kmip.call(10, f.uid("nothing"), at=at)
    assert (item.status, item.reason) == (1, ITEM_NOT_FOUND)


@pytest.mark.parametrize(("at", "reason"), [((2, 0), 63), ((2, 1), 63), ((1, 5), INVALID_MESSAGE)])
async def test_a_version_not_spoken_is_refused_in_its_own_words(kmip: Kmip, at: tuple[int, int], reason: int) -> None:
    answer = await kmip.send(f.message(f.batch_item(1, f.create_payload(), b"1"), at=at))
    assert answer.version == at
    (item,) = answer.items
    assert (item.operation, item.identifier, item.status, item.reason) == (1, b"1", 1, reason)
    assert item.message is not None
    assert "1.4" in item.message
    assert kmip.closed == [False]


@pytest.mark.parametrize("at", [(3, 0), (0, 9), (99, 99)])
async def test_versions_that_nobody_knows_are_refused(kmip: Kmip, at: tuple[int, int]) -> None:
    answer = await kmip.send(f.message(f.batch_item(30, b""), at=at))
    assert answer.version == (1, 0)
    assert (answer.items[0].status, answer.items[0].reason) == (1, INVALID_MESSAGE)


@pytest.mark.parametrize("at", [(2, 0), (2, 1)])
async def test_discovery_is_answered_in_a_newer_header(kmip: Kmip, at: tuple[int, int]) -> None:
    payload = await kmip.ok(30, f.version(2, 1) + f.version(1, 4), at=at)
    assert [(node.value[0].value, node.value[1].value) for node in payload.value] == [(1, 4)]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda good: good[:-8] + good[-8:-1] + b"\1", id="padding"),
        pytest.param(lambda good: good[:60] + b"\x42\x00\x0d\x0c" + good[64:], id="unknown type"),
        pytest.param(lambda good: good[:4] + (len(good) - 16).to_bytes(4, "big") + good[8:], id="wrong length"),
        pytest.param(lambda good: good[:8], id="empty"),
        pytest.param(lambda good: b"\x42\x00\x7b\x01" + good[4:], id="a response"),
    ],
)
async def test_a_malformed_message_is_answered_and_closed(kmip: Kmip, spoil: object) -> None:
    good = f.message(f.batch_item(10, f.uid("abc"), b"1"))
    assert callable(spoil)
    reply = await kmip.engine.handle(spoil(good), ADMIN)
    answer = f.response(reply.data)
    assert [(item.status, item.reason) for item in answer.items] == [(1, INVALID_MESSAGE)]
    assert kmip.audit[-1].status == "OperationFailed"
    assert kmip.audit[-1].reason == "InvalidMessage"
    # The engine lives.
    assert (await kmip.create()) != ""


async def test_a_message_whose_frame_is_broken_closes_the_connection_in_its_version(kmip: Kmip) -> None:
    broken = f.message(f.batch_item(10, f.uid("abc"), b"1"), at=(1, 2))
    broken = broken[:-64] + b"\xff" * 64
    reply = await kmip.engine.handle(broken, ADMIN)
    assert reply.close
    assert f.response(reply.data).version == (1, 2)


async def test_one_bad_payload_does_not_kill_its_message(kmip: Kmip) -> None:
    bad = f.batch_item(10, f.item(0x420094, f.TEXT, b"\xff\xfe"), b"2")
    answer = await kmip.send(
        f.message(f.batch_item(30, b"", b"1"), bad, f.batch_item(30, b"", b"3"), header=f.enum(0x42000E, 1))
    )
    assert [(item.operation, item.identifier, item.status, item.reason) for item in answer.items] == [
        (30, b"1", 0, None),
        (10, b"2", 1, INVALID_MESSAGE),
        (30, b"3", 0, None),
    ]
    assert kmip.closed == [False]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (f.integer(0x420094, 1), INVALID_MESSAGE),
        (f.uid("a") + f.uid("b"), INVALID_MESSAGE),
        (f.uid("a") + f.enum(0x420042, 99), ITEM_NOT_FOUND),
    ],
)
async def test_fields_of_a_payload_are_checked(kmip: Kmip, payload: bytes, reason: int) -> None:
    item = await kmip.call(10, payload)
    assert (item.operation, item.status, item.reason) == (10, 1, reason)


async def test_unknown_fields_are_skipped(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.ok(10, f.uid(uid) + f.integer(0x420F00, 7) + f.text(0x540001, "vendor"))
    answer = await kmip.send(
        f.message(
            f.batch_item(10, f.uid(uid)),
            header=f.date(0x420092, 1) + f.structure(0x4200C7 + 1, b"") + f.integer(0x540002, 1),
        )
    )
    assert answer.items[0].status == 0


async def test_missing_fields_are_named(kmip: Kmip) -> None:
    item = await kmip.call(1, f.enum(0x420057, 2))
    assert (item.reason, item.message) == (MISSING, "TemplateAttribute is required")


async def test_an_unsupported_operation_says_so(kmip: Kmip) -> None:
    for operation in (2, 26, 31, 77):
        item = await kmip.call(operation, b"")
        assert (item.operation, item.reason) == (operation, UNSUPPORTED)


async def test_a_batch_needs_its_identifiers_and_its_count(kmip: Kmip) -> None:
    two = (f.batch_item(30, b"", b"1"), f.batch_item(30, b""))
    for frame in (f.message(*two), f.message(f.batch_item(30, b""), count=2), f.message(), f.message(count=1)):
        answer = await kmip.send(frame)
        assert [(item.status, item.reason) for item in answer.items] == [(1, INVALID_MESSAGE)]
        assert answer.version == (1, 1)
    assert not any(kmip.closed)


async def test_undo_is_refused_before_anything_is_done(kmip: Kmip) -> None:
    name = f.attribute("Name", f.name_value("undone"))
    batch = [f.batch_item(1, f.create_payload(256, name), b"1"), f.batch_item(10, b"", b"2")]
    answer = await kmip.send(f.message(*batch, header=f.enum(0x42000E, 3)))
    assert [(item.operation, item.identifier, item.reason) for item in answer.items] == [(1, b"1", NO_FEATURE)]
    assert await kmip.locate(name) == []


async def test_options_may_stand_in_any_order(kmip: Kmip) -> None:
    batch = (f.batch_item(10, f.uid("a"), b"123456"), f.batch_item(30, b"", b"123456789012"))
    cont, order = f.enum(0x42000E, 1), f.boolean(0x420010, True)
    for header in (cont + order, order + cont):
        answer = await kmip.send(f.message(*batch, header=header, at=(1, 0)))
        assert [item.status for item in answer.items] == [1, 0]


async def test_a_batch_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    kmip = await open_kmip(tmp_path / "kmip.db", limits=Limits(batch_items=3))
    items = [f.batch_item(30, b"", bytes([number])) for number in range(4)]
    assert [item.status for item in (await kmip.send(f.message(*items[:3]))).items] == [0, 0, 0]
    assert [item.reason for item in (await kmip.send(f.message(*items))).items] == [GENERAL_FAILURE]
    await kmip.storage.aclose()


async def test_the_placeholder_goes_through_a_batch(kmip: Kmip) -> None:
    answer = await kmip.send(
        f.message(
            f.batch_item(1, f.create_payload(), b"1"),
            f.batch_item(18, b"", b"2"),
            f.batch_item(10, b"", b"3"),
            f.batch_item(11, f.text(0x42000A, "State"), b"4"),
            header=f.boolean(0x420010, True),
        )
    )
    assert [item.status for item in answer.items] == [0, 0, 0, 0]
    uids = {item.payload.one(0x420094).value for item in answer.items if item.payload is not None}
    assert len(uids) == 1
    assert answer.items[3].payload is not None
    assert answer.items[3].payload.one(0x420008).one(0x42000B).value == 2


async def test_no_placeholder_outlives_its_message_or_an_empty_locate(kmip: Kmip) -> None:
    await kmip.create()
    assert (await kmip.call(10, b"")).reason == ITEM_NOT_FOUND
    locate = f.batch_item(8, f.attribute("Name", f.name_value("nobody")), b"1")
    answer = await kmip.send(f.message(locate, f.batch_item(10, b"", b"2")))
    assert [(item.status, item.reason) for item in answer.items] == [(0, None), (1, ITEM_NOT_FOUND)]


@pytest.mark.parametrize("size", [256, 8192])
async def test_maximum_response_size_is_kept(kmip: Kmip, size: int) -> None:
    uid = await kmip.create()
    frame = f.message(f.batch_item(10, f.uid(uid), f.qlkc(1)), header=f.integer(0x420050, size))
    for _ in range(2):
        reply = await kmip.engine.handle(frame, ADMIN)
        (item,) = f.response(reply.data).items
        assert item.reason == (TOO_LARGE if size == 256 else None)
        assert len(reply.data) <= size


async def test_a_critical_extension_is_refused_and_others_are_not(kmip: Kmip) -> None:
    for critical in (False, True):
        extension = f.structure(
            0x420051,
            f.text(0x42009D, "Acme"),
            f.boolean(0x420026, critical),
            f.structure(0x42009C, f.text(0x540001, "?")),
        )
        answer = await kmip.send(f.message(f.batch_item(1, f.create_payload(), b"1", extension)))
        assert answer.items[0].reason == (NO_FEATURE if critical else None)


async def test_an_asynchronous_client_gets_its_answer_at_once(kmip: Kmip) -> None:
    """The indicator says that the client could wait, not that it must (KMIP 1.4 §6.7)."""
    answer = await kmip.send(f.message(f.batch_item(1, f.create_payload()), header=f.boolean(0x420007, True)))
    assert answer.items[0].status == 0


async def test_permissions_are_decided_before_objects_are_looked_at(kmip: Kmip) -> None:
    uid = await kmip.create()
    for target in (uid, "no such object"):
        item = await kmip.call(20, f.uid(target), client=VSPHERE)
        assert (item.operation, item.reason) == (20, PERMISSION_DENIED)
    assert (await kmip.call(1, f.create_payload(), client=READER)).reason == PERMISSION_DENIED
    assert (await kmip.call(10, f.uid(uid), client=READER)).status == 0
    nobody = Client("nobody", "00" * 32, "127.0.0.1:1", frozenset())
    for _ in range(2):
        assert (await kmip.call(10, f.uid(uid), client=nobody)).reason == PERMISSION_DENIED
    for operation in (30, 24):
        assert (await kmip.call(operation, f.enum(0x420074, 1), client=nobody)).status == 0


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        (CustodyErrorKind.ROOT_KEY_DISABLED, PERMISSION_DENIED, "revoked"),
        (CustodyErrorKind.AUTHORIZATION_LOST, PERMISSION_DENIED, "revoked"),
        (CustodyErrorKind.UNAVAILABLE, GENERAL_FAILURE, "unreachable"),
        (CustodyErrorKind.DEADLINE_EXCEEDED, GENERAL_FAILURE, "unreachable"),
        (CustodyErrorKind.INTEGRITY, 10, "authenticate"),
    ],
)
async def test_an_absent_root_key_is_told_as_what_it_is(
    kmip: Kmip, kind: CustodyErrorKind, reason: int, told: str
) -> None:
    uid = await kmip.create()
    kmip.keys.away = kind
    for item in (
        await kmip.call(10, f.uid(uid)),
        await kmip.call(10, f.uid(uid)),
        await kmip.call(1, f.create_payload()),
    ):
        assert item.reason == reason
        assert item.message is not None
        assert told in item.message
    # What needs no key still works.
    assert await kmip.state(uid) == 1
    assert len(await kmip.locate()) == 1


async def test_every_item_is_audited(kmip: Kmip) -> None:
    uid = await kmip.create()
    await kmip.call(10, f.uid(uid))
    await kmip.call(10, f.uid(uid))
    await kmip.call(10, f.uid("gone"), at=(1, 2))
    created, first, second, gone = kmip.audit
    assert created._replace(duration_us=0) == AuditEvent("Create", (uid,), "Success", "", "", "1.4", ADMIN, 0)
    assert first._replace(duration_us=0) == AuditEvent("Get", (uid,), "Success", "", "", "1.4", ADMIN, 0)
    assert first._replace(duration_us=0) == second._replace(duration_us=0)
    assert gone._replace(duration_us=0) == AuditEvent(
        "Get", ("gone",), "OperationFailed", "ItemNotFound", "no object has this unique identifier", "1.2", ADMIN, 0
    )


async def test_a_correlation_value_is_audited_and_repeated(kmip: Kmip) -> None:
    uid = await kmip.create()
    header = f.text(0x420105, "trace-7")
    for _ in range(2):
        answer = await kmip.send(f.message(f.batch_item(10, f.uid(uid)), header=header, at=(1, 4)))
        assert answer.header.one(0x420105).value == "trace-7"
        assert kmip.audit[-1].correlation == "trace-7"
    assert not any(node.tag == 0x420106 for node in answer.header.value)


async def test_a_bug_is_answered_and_logged_without_values(kmip: Kmip, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = await kmip.create()

    async def broken(_: object) -> object:
        raise KeyError("super secret value")

    monkeypatch.setattr(kmip.storage, "get", broken)
    with capture_logs() as logs:
        for operation in (10, 10, 11):
            item = await kmip.call(operation, f.uid(uid))
            assert (item.reason, item.message) == (GENERAL_FAILURE, "internal error")
    assert [entry["kind"] for entry in logs] == ["KeyError"] * 3
    assert "secret" not in repr(logs)
    assert logs[0]["frames"][-1].endswith("broken")


async def test_query_tells_what_there_is(kmip: Kmip) -> None:
    every = b"".join(f.enum(0x420074, function) for function in range(1, 13))
    payload = await kmip.ok(24, every)
    offered = [node.value for node in payload.all(0x42005C)]
    assert sorted(offered) == [1, 3, 8, 10, 11, 12, 13, 14, 15, 18, 19, 20, 24, 30]
    assert {node.value for node in payload.all(0x420057)} == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert not payload.has(0x4200EB)
    (capabilities,) = payload.all(0x4200F7)
    assert capabilities.one(0x4200F0).value is False
    old = await kmip.ok(24, every, at=(1, 0))
    assert set(old.tags) == {0x42005C, 0x420057, 0x42009D}
    assert 30 not in [node.value for node in old.all(0x42005C)]

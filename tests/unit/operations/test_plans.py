"""The short way of a Get answers byte for byte what the general way answers."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import kmip_wire as f
from support.kmip_engine import ADMIN, Kmip, open_kmip

from kmipd.operations.plans import Plans

HEADERS = st.tuples(
    st.sampled_from([b"", f.integer(0x420050, 8192), f.integer(0x420050, 300)]),
    st.sampled_from([b"", f.text(0x420105, "trace"), f.text(0x420105, "a longer value")]),
    st.sampled_from([b"", f.credential("u", "p"), f.date(0x420092, 5), f.boolean(0x420010, True)]),
).map(b"".join)
IDENTIFIERS = st.one_of(st.none(), st.binary(max_size=20))
VERSIONS = st.tuples(st.just(1), st.integers(0, 4))
UIDS = st.one_of(
    st.sampled_from(["KEY", "SECRET", "GONE"]),
    st.text(st.characters(codec="ascii"), min_size=36, max_size=36),
    st.text(max_size=40),
)


async def test_plans_change_nothing_but_the_time_it_takes(tmp_path: Path) -> None:
    kmip = await open_kmip(tmp_path / "kmip.db")
    secret = f.structure(
        0x420085,
        f.enum(0x420086, 1),
        f.structure(0x420040, f.enum(0x420042, 2), f.structure(0x420045, f.octets(0x420043, b"odd"))),
    )
    gone = await kmip.create()
    uids = {
        "KEY": await kmip.create(),
        "SECRET": (await kmip.ok(3, f.enum(0x420057, 7) + f.template() + secret)).one(0x420094).value,
        "GONE": gone,
    }
    await kmip.ok(20, f.uid(gone))
    for uid in uids.values():
        await kmip.call(10, f.uid(uid))
    slow = Kmip(kmip.storage, kmip.keys, kmip.engine, kmip.audit, kmip.time)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(HEADERS, IDENTIFIERS, VERSIONS, UIDS, UIDS)
    def same(header: bytes, identifier: bytes | None, at: tuple[int, int], first: str, second: str) -> None:
        for uid in (uids.get(first, first), uids.get(second, second), uids["KEY"]):
            frame = f.message(f.batch_item(10, f.uid(uid), identifier), header=header, at=at)
            kmip.engine._plans = Plans()
            general = drive(slow, frame)
            audited = kmip.audit[-1]
            assert drive(slow, frame) == general
            assert kmip.audit[-1]._replace(duration_us=0) == audited._replace(duration_us=0)

    same()
    await kmip.storage.aclose()


def drive(kmip: Kmip, frame: bytes) -> tuple[bytes, bool]:
    """The engine's answer, which must not suspend: SQLite and these keys do not."""
    coroutine = kmip.engine.handle(frame, ADMIN)
    try:
        coroutine.send(None)
    except StopIteration as done:
        data, close = done.value
        return data, close
    raise AssertionError("the short way suspended")


async def test_only_lone_gets_by_identifier_are_learnt(tmp_path: Path) -> None:
    kmip = await open_kmip(tmp_path / "kmip.db")
    uid = await kmip.create()
    others = [
        f.message(f.batch_item(11, f.uid(uid))),
        f.message(f.batch_item(18, f.uid(uid))),
        f.message(f.batch_item(10, f.enum(0x420042, 1) + f.uid(uid))),
        f.message(f.batch_item(10, f.uid(uid) + f.enum(0x420042, 1))),
        f.message(f.batch_item(10, f.uid(uid), None, f.structure(0x420051, f.boolean(0x420026, False)))),
        f.message(f.batch_item(10, f.uid(uid), b"1"), f.batch_item(10, f.uid(uid), b"2")),
        f.message(f.batch_item(10, f.uid(uid[:-1]))),
    ]
    for frame in others:
        await kmip.send(frame)
        assert kmip.engine._plans.find(frame) is None
    frame = f.message(f.batch_item(10, f.uid(uid)))
    await kmip.send(frame)
    assert kmip.engine._plans.find(frame) is not None
    await kmip.storage.aclose()


async def test_plans_do_not_grow_without_end(tmp_path: Path) -> None:
    kmip = await open_kmip(tmp_path / "kmip.db")
    uid = await kmip.create()
    for number in range(600):
        await kmip.send(f.message(f.batch_item(10, f.uid(uid), number.to_bytes(16, "big"))))
    assert len(kmip.engine._plans._plans) == 512
    await kmip.storage.aclose()

"""No message makes the engine raise, log a bug, or answer something that is not a response."""

from __future__ import annotations

import random
from pathlib import Path

from structlog.testing import capture_logs
from support import kmip_wire as f
from support.kmip_engine import ADMIN, open_kmip

_NAME = f.attribute("Name", f.name_value("name"))
_LINK = f.attribute("Link", f.structure(0, f.enum(0x42004B, 0x101), f.text(0x42004C, "x")))
_SECRET = f.structure(
    0x420085,
    f.enum(0x420086, 1),
    f.structure(0x420040, f.enum(0x420042, 2), f.structure(0x420045, f.octets(0x420043, b"secret"))),
)
_REVOKE = f.structure(0x420081, f.enum(0x420082, 1), f.text(0x420080, "why"))
_WRAPPING = f.structure(
    0x420047, f.enum(0x42009E, 1), f.structure(0x420036, f.uid("x" * 36), f.structure(0x42002B, f.enum(0x420011, 13)))
)


def seeds(uid: str) -> list[bytes]:
    """Messages of every operation."""
    target = f.uid(uid)
    payloads = [
        (1, f.create_payload(256, _NAME, _LINK, f.attribute("Activation Date", f.date(0, 5)))),
        (3, f.enum(0x420057, 2) + f.template(_NAME) + f.symmetric_key(b"k" * 16)),
        (3, f.enum(0x420057, 7) + f.template(f.attribute("x-A", f.structure(0, f.text(0x540001, "a")))) + _SECRET),
        (3, f.enum(0x420057, 6) + f.template() + f.structure(0x420090, _NAME)),
        (8, f.integer(0x42004F, 2) + f.integer(0x4200D4, 1) + f.integer(0x42008E, 5) + _NAME + _LINK),
        (
            8,
            f.enum(0x4200AC, 2)
            + f.attribute("Object Group", f.text(0, "g"))
            + f.attribute("Initial Date", f.date(0, 5)),
        ),
        (8, f.attribute("State", f.enum(0, 2)) + f.template(f.attribute("Unique Identifier", f.text(0, uid)))),
        (10, target),
        (10, target + f.enum(0x420042, 7) + f.enum(0x4200F8, 1) + _WRAPPING),
        (11, target + f.text(0x42000A, "State") + f.text(0x42000A, "Digest")),
        (12, target),
        (13, target + _LINK),
        (14, target + f.attribute("Deactivation Date", f.date(0, 5), 0)),
        (15, target + f.text(0x42000A, "Link") + f.integer(0x420009, 0)),
        (18, target),
        (19, target + _REVOKE + f.date(0x420021, 5)),
        (20, target),
        (24, f.enum(0x420074, 1) + f.enum(0x420074, 3) + f.enum(0x420074, 11)),
        (30, f.version(1, 4)),
    ]
    extension = f.structure(0x420051, f.text(0x42009D, "v"), f.boolean(0x420026, False), f.structure(0x42009C))
    header = f.integer(0x420050, 8192) + f.credential("u", "p") + f.boolean(0x420010, True) + f.enum(0x42000E, 1)
    single = [f.message(f.batch_item(number, payload, b"id", extension), at=(1, 4)) for number, payload in payloads]
    batch = [f.batch_item(number, payload, bytes([at])) for at, (number, payload) in enumerate(payloads)]
    return [*single, f.message(*batch, header=header, at=(1, 4)), f.message(*batch[::-1], header=header)]


def mutant(source: random.Random, seed: bytes) -> bytes:
    """A message changed in a few places, its outer length kept right so that the change reaches what is inside."""
    raw = bytearray(seed)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(8, len(raw))
        match source.randrange(5):
            case 0:
                raw[at] = source.randrange(256)
            case 1:
                raw[at] ^= 1 << source.randrange(8)
            case 2:
                # A whole item's header becomes another's.
                other = source.randrange(8, len(raw) - 8)
                raw[at - at % 8 : at - at % 8 + 4] = raw[other - other % 8 : other - other % 8 + 4]
            case 3:
                start = at - at % 8
                raw[start:start] = raw[start : start + 8 * source.randint(1, 4)]
            case 4:
                start = at - at % 8
                if len(raw) > 64:
                    del raw[start : start + 8 * source.randint(1, 4)]
    raw[4:8] = (len(raw) - 8).to_bytes(4, "big")
    return bytes(raw)


async def test_mutants_of_every_operation(tmp_path: Path) -> None:
    kmip = await open_kmip(tmp_path / "kmip.db")
    source = random.Random(20240229)
    with capture_logs() as logs:
        for turn in range(1500):
            if turn % 100 == 0:
                kmip.pass_time(1)
                messages = seeds(await kmip.create())
            reply = await kmip.engine.handle(mutant(source, source.choice(messages)), ADMIN)
            f.response(reply.data)
            assert b"secret" not in reply.data or b"\x42\x00\x85\x01" in reply.data
    assert logs == []
    assert (await kmip.create()) != ""
    await kmip.storage.aclose()

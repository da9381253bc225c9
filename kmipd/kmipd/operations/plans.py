"""Plans: the Get that clients send all day, recognised by its bytes.

A request that ends in a 36-character Unique Identifier is, identifier apart, the same for every key a client fetches. The bytes
before the identifier decide everything else, so a message whose bytes there equal those of a Get that was decoded once needs
no decoding. The answers are byte for byte those of the general way.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct
from typing import Final, NamedTuple

from kmipd.wire import tags
from kmipd.wire.enums import Operation, ResultStatus
from kmipd.wire.messages import Request, encode_protocol_version
from kmipd.wire.ttlv import encode_bytes, encode_enumeration, encode_integer, encode_text
from kmipd.wire.versions import text_of

_UID_LENGTH: Final = 36
_UID_HEAD: Final = (tags.UNIQUE_IDENTIFIER << 8 | 7).to_bytes(4, "big") + _UID_LENGTH.to_bytes(4, "big")
_TAIL: Final = 40
"""Identifier and padding."""

_CAPACITY: Final = 512
"""Plans kept: one for each kind of client, and some for those that number their batch items at random."""

_LONGEST: Final = 1024
"""Bytes of a message that is worth a plan; clients' are below 400."""

_HEAD: Final = Struct(">II").pack
_MESSAGE: Final = Struct(">IIII").pack
_DATE: Final = Struct(">IIq").pack
_ENUMERATION: Final = Struct(">IIII").pack

_RESPONSE_MESSAGE: Final = tags.RESPONSE_MESSAGE << 8 | 1
_RESPONSE_HEADER: Final = tags.RESPONSE_HEADER << 8 | 1
_TIME_STAMP: Final = tags.TIME_STAMP << 8 | 9
_BATCH_ITEM: Final = tags.BATCH_ITEM << 8 | 1
_RESPONSE_PAYLOAD: Final = tags.RESPONSE_PAYLOAD << 8 | 1
_OBJECT_TYPE: Final = tags.OBJECT_TYPE << 8 | 5


class GetPlan(NamedTuple):
    """What the bytes before the identifier mean, and the constant parts of the answer.

    ``room`` is what the client's Maximum Response Size leaves for the batch item, ``None`` without one.
    """

    request: Request
    version: int
    version_text: str
    room: int | None
    protocol_version: bytes
    after_time_stamp: bytes
    item: bytes


class Plans:
    """Plans by the bytes they stand for; the oldest go first."""

    def __init__(self) -> None:
        self._plans: OrderedDict[bytes, GetPlan] = OrderedDict()

    def find(self, message: bytes) -> GetPlan | None:
        """The plan of a message, if one like it was learnt."""
        return self._plans.get(message[:-_TAIL])

    def learn(self, request: Request, room: int | None) -> None:
        """Remember a decoded request if it is a lone Get of a key by identifier and nothing else."""
        data = request.data
        if len(data) > _LONGEST:
            return
        item = request.items[0]
        alone = len(request.items) == 1 and item.operation == Operation.Get and not item.extensions
        first, last = item.payload
        # The payload is the identifier, and it is the last thing in the message.
        if not alone or last != len(data) or last - first != 8 + _TAIL or data[first : first + 8] != _UID_HEAD:
            return
        if data[-4:] != bytes(4) or not data[-_TAIL:-4].isascii():
            return
        header = request.header
        correlation = header.client_correlation_value
        identifier = item.unique_batch_item_id
        self._plans[data[:-_TAIL]] = GetPlan(
            request,
            header.version,
            text_of(header.version),
            room,
            encode_protocol_version(header.major, header.minor),
            (encode_text(tags.CLIENT_CORRELATION_VALUE, correlation) if correlation else b"")
            + encode_integer(tags.BATCH_COUNT, 1),
            encode_enumeration(tags.OPERATION, Operation.Get)
            + (b"" if identifier is None else encode_bytes(tags.UNIQUE_BATCH_ITEM_ID, identifier))
            + encode_enumeration(tags.RESULT_STATUS, ResultStatus.Success),
        )
        if len(self._plans) > _CAPACITY:
            self._plans.popitem(last=False)


def identifier_of(message: bytes) -> str | None:
    """The identifier of a message for which there is a plan; ``None`` when the message needs the general way after all."""
    tail = message[-_TAIL:]
    if tail[-4:] != b"\0\0\0\0" or not tail.isascii():
        return None
    return tail[:-4].decode("ascii")


def item_length(plan: GetPlan, structure: bytes) -> int:
    """Bytes of the batch item that answers with ``structure``."""
    return 8 + len(plan.item) + 8 + 16 + 8 + _TAIL + len(structure)


def assemble(plan: GetPlan, message: bytes, now: int, object_type: int, structure: bytes) -> bytes:
    """The response message that hands out ``structure``; the identifier is repeated as ``message`` has it."""
    payload = 24 + _TAIL + len(structure)
    item = len(plan.item) + 8 + payload
    header = len(plan.protocol_version) + 16 + len(plan.after_time_stamp)
    return b"".join(
        (
            _MESSAGE(_RESPONSE_MESSAGE, 8 + header + 8 + item, _RESPONSE_HEADER, header),
            plan.protocol_version,
            _DATE(_TIME_STAMP, 8, now),
            plan.after_time_stamp,
            _HEAD(_BATCH_ITEM, item),
            plan.item,
            _HEAD(_RESPONSE_PAYLOAD, payload),
            _ENUMERATION(_OBJECT_TYPE, 4, object_type, 0),
            message[-_TAIL - 8 :],
            structure,
        )
    )

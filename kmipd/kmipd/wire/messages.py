"""Request and response messages: headers, batch items, errors (KMIP 1.4 §6, §7). Payloads are :mod:`kmipd.wire.payloads`'."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Any

from kmipd.wire import tags
from kmipd.wire.enums import BatchErrorContinuationOption, ResultReason, ResultStatus
from kmipd.wire.ttlv import (
    MAX_DEPTH,
    Item,
    TtlvError,
    decode_items,
    encode_bytes,
    encode_date_time,
    encode_enumeration,
    encode_integer,
    encode_item,
    encode_structure,
    encode_text,
)
from kmipd.wire.versions import V2_0, Version, version_of

_HEAD = Struct(">II").unpack_from

_REQUEST_MESSAGE = tags.REQUEST_MESSAGE << 8 | 1
_REQUEST_HEADER = tags.REQUEST_HEADER << 8 | 1
_RESPONSE_MESSAGE = tags.RESPONSE_MESSAGE << 8 | 1
_RESPONSE_HEADER = tags.RESPONSE_HEADER << 8 | 1
_BATCH_ITEM = tags.BATCH_ITEM << 8 | 1
_PROTOCOL_VERSION = tags.PROTOCOL_VERSION << 8 | 1
_MAJOR = tags.PROTOCOL_VERSION_MAJOR << 8 | 2
_MINOR = tags.PROTOCOL_VERSION_MINOR << 8 | 2
_BATCH_COUNT = tags.BATCH_COUNT << 8 | 2
_OPERATION = tags.OPERATION << 8 | 5
_UBID = tags.UNIQUE_BATCH_ITEM_ID << 8 | 8
_REQUEST_PAYLOAD = tags.REQUEST_PAYLOAD << 8 | 1
_RESPONSE_PAYLOAD = tags.RESPONSE_PAYLOAD << 8 | 1
_MESSAGE_EXTENSION = tags.MESSAGE_EXTENSION << 8 | 1

_HEADER_FIELDS = {
    tags.MAXIMUM_RESPONSE_SIZE << 8 | 2: "maximum_response_size",
    tags.CLIENT_CORRELATION_VALUE << 8 | 7: "client_correlation_value",
    tags.SERVER_CORRELATION_VALUE << 8 | 7: "server_correlation_value",
    tags.ASYNCHRONOUS_INDICATOR << 8 | 6: "asynchronous",
    tags.BATCH_ERROR_CONTINUATION_OPTION << 8 | 5: "error_continuation",
    tags.BATCH_ORDER_OPTION << 8 | 6: "batch_order",
    tags.TIME_STAMP << 8 | 9: "time_stamp",
    _BATCH_COUNT: "batch_count",
}
_HEADER_TAGS = {word >> 8 for word in _HEADER_FIELDS}


class MessageError(ValueError):
    """A message that cannot be answered item by item.

    ``major`` and ``minor`` are the request's version, or 0 when even that could not be read.
    """

    def __init__(
        self, message: str, major: int = 0, minor: int = 0, reason: ResultReason = ResultReason.InvalidMessage
    ) -> None:
        super().__init__(message)
        self.major = major
        self.minor = minor
        self.reason = reason


@dataclass(slots=True)
class RequestHeader:
    """A request header; credentials and attestations are accepted and not kept."""

    major: int
    minor: int
    version: Version
    batch_count: int = 0
    maximum_response_size: int | None = None
    client_correlation_value: str = ""
    server_correlation_value: str = ""
    asynchronous: bool = False
    error_continuation: int = BatchErrorContinuationOption.Stop
    batch_order: bool = False
    time_stamp: int | None = None


@dataclass(slots=True)
class RequestItem:
    """One batch item; its payload is bytes ``payload[0]:payload[1]`` of the message, undecoded: an error in it is its own."""

    operation: int
    unique_batch_item_id: bytes | None
    payload: tuple[int, int]
    extensions: list[list[Item]] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """A request message; ``data`` is all of its bytes."""

    header: RequestHeader
    items: list[RequestItem]
    data: bytes

    def payload(self, item: RequestItem) -> list[Item]:
        """Decode one item's payload. Raises :class:`~kmipd.wire.ttlv.TtlvError`."""
        return decode_items(self.data, item.payload[0], item.payload[1], MAX_DEPTH - 3)


def _split(data: bytes, position: int, end: int) -> list[tuple[int, int, int]]:
    """The word, first and last+1 content byte of each item in a structure, none of them decoded."""
    parts = []
    while position < end:
        if end - position < 8:
            raise TtlvError(f"truncated item at byte {position}")
        word, length = _HEAD(data, position)
        start = position + 8
        position = start + length + (-length & 7)
        if position > end:
            raise TtlvError(f"item at byte {start - 8} is longer than what holds it")
        parts.append((word, start, start + length))
    return parts


def _version(items: list[Item]) -> tuple[int, int]:
    major = minor = -1
    for word, value in items:
        if word == _MAJOR:
            major = value
        elif word == _MINOR:
            minor = value
    if major < 0 or minor < 0:
        raise MessageError("the protocol version is incomplete")
    return major, minor


def _read_header(items: list[Item]) -> RequestHeader:
    if not items or items[0][0] != _PROTOCOL_VERSION:
        raise MessageError("a request header begins with its protocol version")
    major, minor = _version(items[0][1])
    header = RequestHeader(major, minor, version_of(major, minor))
    for word, value in items:
        name = _HEADER_FIELDS.get(word)
        if name is not None:
            setattr(header, name, value)
        elif word >> 8 in _HEADER_TAGS and header.version < V2_0:
            raise MessageError("a field of the request header has the wrong type", major, minor)
    return header


def _read_item(data: bytes, start: int, stop: int) -> RequestItem:
    operation = -1
    identifier: bytes | None = None
    payload = (0, 0)
    extensions: list[list[Item]] = []
    for word, first, last in _split(data, start, stop):
        if word == _OPERATION:
            operation = decode_items(data, first - 8, first + 8)[0][1]
        elif word == _UBID:
            identifier = data[first:last]
        elif word == _REQUEST_PAYLOAD:
            payload = (first, last)
        elif word == _MESSAGE_EXTENSION:
            extensions.append(decode_items(data, first, last))
    if operation < 0:
        raise TtlvError("a batch item has no operation")
    return RequestItem(operation, identifier, payload, extensions)


def decode_request(data: bytes) -> Request:
    """Decode a whole request message, payloads excepted.

    Raises:
        MessageError: the message, its header or the frame of a batch item is malformed.
    """
    major = minor = 0
    try:
        if len(data) < 8:
            raise MessageError("truncated message")
        word, length = _HEAD(data)
        if word != _REQUEST_MESSAGE:
            raise MessageError("not a KMIP request message")
        if 8 + length != len(data):
            raise MessageError("the message's length is not that of its bytes")
        if len(data) < 16 or _HEAD(data, 8)[0] != _REQUEST_HEADER:
            raise MessageError("a request message begins with its header")
        stop = 16 + _HEAD(data, 8)[1]
        if stop > len(data):
            raise MessageError("the request header is longer than its message")
        header = _read_header(decode_items(data, 16, stop, MAX_DEPTH - 2))
        major, minor = header.major, header.minor
        items = []
        for word, first, last in _split(data, stop, len(data)):
            if word != _BATCH_ITEM:
                raise MessageError("something other than batch items follows the request header", major, minor)
            items.append(_read_item(data, first, last))
    except TtlvError as error:
        raise MessageError(str(error), major, minor) from None
    return Request(header, items, data)


def encode_response(major: int, minor: int, now: int, items: list[bytes], correlation: str = "") -> bytes:
    """A response message of already encoded batch items."""
    return encode_structure(
        tags.RESPONSE_MESSAGE,
        encode_structure(
            tags.RESPONSE_HEADER,
            encode_protocol_version(major, minor),
            encode_date_time(tags.TIME_STAMP, now),
            encode_text(tags.CLIENT_CORRELATION_VALUE, correlation) if correlation else b"",
            encode_integer(tags.BATCH_COUNT, len(items)),
        ),
        *items,
    )


@lru_cache(maxsize=64)
def encode_protocol_version(major: int, minor: int) -> bytes:
    """A Protocol Version structure."""
    return encode_structure(
        tags.PROTOCOL_VERSION,
        encode_integer(tags.PROTOCOL_VERSION_MAJOR, major),
        encode_integer(tags.PROTOCOL_VERSION_MINOR, minor),
    )


_SUCCESS = encode_enumeration(tags.RESULT_STATUS, ResultStatus.Success)
_FAILED = encode_enumeration(tags.RESULT_STATUS, ResultStatus.OperationFailed)


def encode_success(operation: int, identifier: bytes | None, payload: bytes) -> bytes:
    """A batch item that succeeded; ``payload`` is the content of its Response Payload."""
    return encode_structure(
        tags.BATCH_ITEM,
        encode_enumeration(tags.OPERATION, operation),
        b"" if identifier is None else encode_bytes(tags.UNIQUE_BATCH_ITEM_ID, identifier),
        _SUCCESS,
        encode_structure(tags.RESPONSE_PAYLOAD, payload),
    )


def encode_failure(operation: int | None, identifier: bytes | None, reason: int, message: str) -> bytes:
    """A batch item that failed."""
    return encode_structure(
        tags.BATCH_ITEM,
        b"" if operation is None else encode_enumeration(tags.OPERATION, operation),
        b"" if identifier is None else encode_bytes(tags.UNIQUE_BATCH_ITEM_ID, identifier),
        _FAILED,
        encode_enumeration(tags.RESULT_REASON, reason),
        encode_text(tags.RESULT_MESSAGE, message),
    )


@dataclass(slots=True)
class ResponseItem:
    """One batch item of a response, as a client reads it."""

    operation: int | None = None
    unique_batch_item_id: bytes | None = None
    status: int = -1
    reason: int | None = None
    message: str = ""
    payload: list[Item] | None = None


@dataclass(slots=True)
class Response:
    """A response message, as a client reads it."""

    major: int
    minor: int
    time_stamp: int
    items: list[ResponseItem]


_RESPONSE_FIELDS = {
    _OPERATION: "operation",
    _UBID: "unique_batch_item_id",
    tags.RESULT_STATUS << 8 | 5: "status",
    tags.RESULT_REASON << 8 | 5: "reason",
    tags.RESULT_MESSAGE << 8 | 7: "message",
    _RESPONSE_PAYLOAD: "payload",
}


def decode_response(data: bytes) -> Response:
    """Decode a whole response message.

    Raises:
        MessageError: it is not one.
    """
    try:
        root = decode_items(data)
    except TtlvError as error:
        raise MessageError(str(error)) from None
    if len(root) != 1 or root[0][0] != _RESPONSE_MESSAGE or not root[0][1] or root[0][1][0][0] != _RESPONSE_HEADER:
        raise MessageError("not a KMIP response message")
    header: dict[int, Any] = dict(root[0][1][0][1])
    major, minor = _version(header.get(_PROTOCOL_VERSION, []))
    items = []
    for word, content in root[0][1][1:]:
        if word != _BATCH_ITEM:
            raise MessageError("something other than batch items follows the response header", major, minor)
        item = ResponseItem()
        for inner, value in content:
            name = _RESPONSE_FIELDS.get(inner)
            if name is not None:
                setattr(item, name, value)
        items.append(item)
    if header.get(_BATCH_COUNT) != len(items):
        raise MessageError("the batch count is not the number of batch items", major, minor)
    return Response(major, minor, header.get(tags.TIME_STAMP << 8 | 9, 0), items)


def encode_request(
    version: tuple[int, int],
    items: list[tuple[int, bytes | None, bytes]],
    *,
    options: list[Item] | None = None,
) -> bytes:
    """A request message of ``(operation, unique batch item id, payload content)``; ``options`` are further header fields."""
    return encode_structure(
        tags.REQUEST_MESSAGE,
        encode_structure(
            tags.REQUEST_HEADER,
            encode_protocol_version(*version),
            *[encode_item(option) for option in options or []],
            encode_integer(tags.BATCH_COUNT, len(items)),
        ),
        *[
            encode_structure(
                tags.BATCH_ITEM,
                encode_enumeration(tags.OPERATION, operation),
                b"" if identifier is None else encode_bytes(tags.UNIQUE_BATCH_ITEM_ID, identifier),
                encode_structure(tags.REQUEST_PAYLOAD, payload),
            )
            for operation, identifier, payload in items
        ],
    )

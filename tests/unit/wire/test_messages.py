"""Messages and payloads, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import kmip_wire as f

from kmipd.wire import tags
from kmipd.wire.attributes import Attribute, TemplateAttribute
from kmipd.wire.enums import Operation, ResultReason
from kmipd.wire.messages import (
    MessageError,
    decode_request,
    decode_response,
    encode_failure,
    encode_request,
    encode_response,
    encode_success,
)
from kmipd.wire.payloads import (
    REQUESTS,
    RESPONSES,
    AttributeRequest,
    AttributeResponse,
    CreateRequest,
    CreateResponse,
    DeleteAttributeRequest,
    GetAttributeListResponse,
    GetAttributesRequest,
    GetAttributesResponse,
    GetRequest,
    GetResponse,
    LocateRequest,
    LocateResponse,
    MissingField,
    ProtocolVersions,
    QueryRequest,
    QueryResponse,
    RegisterRequest,
    RegisterResponse,
    RevocationReason,
    RevokeRequest,
    UniqueIdentifierRequest,
    UniqueIdentifierResponse,
)
from kmipd.wire.ttlv import ItemType, TtlvError, decode_items

_ATTRIBUTE = Attribute("x-Text", None, ItemType.TEXT_STRING, "value")
_SECOND = Attribute("x-Text", 1, ItemType.INTEGER, 5)
_NAME = [(tags.NAME_VALUE << 8 | 7, "T"), (tags.NAME_TYPE << 8 | 5, 1)]
_TEMPLATE = TemplateAttribute([_NAME], [_ATTRIBUTE, _SECOND])
_OBJECT = (tags.OPAQUE_OBJECT << 8 | 1, [(tags.OPAQUE_DATA_VALUE << 8 | 8, b"value")])
_O = Operation

REQUEST_SAMPLES: list[tuple[Operation, Any]] = [
    (_O.DiscoverVersions, ProtocolVersions([(1, 4), (2, 0)])),
    (_O.DiscoverVersions, ProtocolVersions()),
    (_O.Query, QueryRequest([1, 2, 3])),
    (_O.Create, CreateRequest(2, _TEMPLATE)),
    (_O.Register, RegisterRequest(8, _TEMPLATE, _OBJECT)),
    (_O.Get, GetRequest("u")),
    (_O.Get, GetRequest("u", 1, 2, 1, [(tags.WRAPPING_METHOD << 8 | 5, 1)])),
    (_O.GetAttributes, GetAttributesRequest(None, ["State", "x-A"])),
    (_O.GetAttributeList, UniqueIdentifierRequest("u")),
    (_O.AddAttribute, AttributeRequest("u", _ATTRIBUTE)),
    (_O.ModifyAttribute, AttributeRequest(None, _SECOND)),
    (_O.DeleteAttribute, DeleteAttributeRequest("u", "x-A", 0)),
    (_O.Locate, LocateRequest(1, 2, 3, 1, [_ATTRIBUTE], _TEMPLATE)),
    (_O.Activate, UniqueIdentifierRequest(None)),
    (_O.Revoke, RevokeRequest("u", RevocationReason(2, "lost"), 1234)),
    (_O.Revoke, RevokeRequest("u", RevocationReason(1, None))),
    (_O.Destroy, UniqueIdentifierRequest("u")),
]
RESPONSE_SAMPLES: list[tuple[Operation, Any]] = [
    (_O.DiscoverVersions, ProtocolVersions([(1, 4)])),
    (_O.Query, QueryResponse([1, 3], [2], "vendor")),
    (_O.Create, CreateResponse(2, "u")),
    (_O.Register, RegisterResponse("u")),
    (_O.Get, GetResponse(8, "u", _OBJECT)),
    (_O.GetAttributes, GetAttributesResponse("u", [_ATTRIBUTE, _SECOND])),
    (_O.GetAttributeList, GetAttributeListResponse("u", ["State", "x-A"])),
    (_O.AddAttribute, AttributeResponse("u", _ATTRIBUTE)),
    (_O.Locate, LocateResponse(2, ["a", "b"])),
    (_O.Locate, LocateResponse(None, [])),
    (_O.Destroy, UniqueIdentifierResponse("u")),
]


@pytest.mark.parametrize(("operation", "payload"), REQUEST_SAMPLES)
def test_request_payloads_come_back(operation: Operation, payload: Any) -> None:
    codec = REQUESTS[operation]
    assert codec.decode(14, decode_items(codec.encode(14, payload))) == payload


@pytest.mark.parametrize(("operation", "payload"), RESPONSE_SAMPLES)
def test_response_payloads_come_back(operation: Operation, payload: Any) -> None:
    codec = RESPONSES[operation]
    assert codec.decode(14, decode_items(codec.encode(14, payload))) == payload


def test_fields_of_later_versions_are_neither_written_nor_read() -> None:
    codec = RESPONSES[_O.Locate]
    assert codec.encode(12, LocateResponse(5, ["a"])) == codec.encode(12, LocateResponse(None, ["a"]))
    newer = decode_items(codec.encode(13, LocateResponse(5, ["a"])))
    assert codec.decode(12, newer) == LocateResponse(None, ["a"])


def test_an_index_of_zero_is_not_written() -> None:
    codec = RESPONSES[_O.AddAttribute]
    zero = AttributeResponse("u", _ATTRIBUTE._replace(instance=0))
    assert codec.encode(11, zero) == codec.encode(11, AttributeResponse("u", _ATTRIBUTE))


def test_required_fields() -> None:
    with pytest.raises(MissingField, match="ObjectType"):
        REQUESTS[_O.Create].decode(11, [])
    with pytest.raises(MissingField, match="RevocationReason"):
        REQUESTS[_O.Revoke].decode(11, [])
    with pytest.raises(TtlvError, match="wrong type"):
        REQUESTS[_O.Get].decode(11, [(tags.UNIQUE_IDENTIFIER << 8 | 2, 1)])
    with pytest.raises(TtlvError, match="twice"):
        REQUESTS[_O.Get].decode(11, [(tags.UNIQUE_IDENTIFIER << 8 | 7, "a")] * 2)
    with pytest.raises(TtlvError, match="no name"):
        REQUESTS[_O.AddAttribute].decode(11, [(tags.ATTRIBUTE << 8 | 1, [])])


def test_a_request_message_comes_back() -> None:
    payload = REQUESTS[_O.Get].encode(11, GetRequest("abc"))
    options = [(tags.MAXIMUM_RESPONSE_SIZE << 8 | 2, 8192), (tags.TIME_STAMP << 8 | 9, 5)]
    data = encode_request((1, 1), [(_O.Get, b"1", payload), (_O.Query, b"2", b"")], options=options)
    assert data == f.message(
        f.batch_item(10, f.uid("abc"), b"1"),
        f.batch_item(24, b"", b"2"),
        header=f.integer(0x420050, 8192) + f.date(0x420092, 5),
    )
    request = decode_request(data)
    assert (request.header.version, request.header.batch_count, request.header.maximum_response_size) == (11, 2, 8192)
    assert [(item.operation, item.unique_batch_item_id) for item in request.items] == [(10, b"1"), (24, b"2")]
    assert REQUESTS[_O.Get].decode(11, request.payload(request.items[0])) == GetRequest("abc")


def test_a_response_message_comes_back() -> None:
    payload = RESPONSES[_O.Create].encode(11, CreateResponse(2, "u"))
    items = [encode_success(1, b"1", payload), encode_failure(None, None, ResultReason.InvalidMessage, "why")]
    data = encode_response(1, 1, 1234, items)
    f.response(data)
    response = decode_response(data)
    assert (response.major, response.minor, response.time_stamp) == (1, 1, 1234)
    first, second = response.items
    assert (first.operation, first.unique_batch_item_id, first.status) == (1, b"1", 0)
    assert first.payload is not None
    assert RESPONSES[_O.Create].decode(11, first.payload) == CreateResponse(2, "u")
    assert (second.operation, second.status, second.reason, second.message) == (None, 1, 4, "why")


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b"", (0, 0)),
        (f.structure(0x42007B), (0, 0)),
        (f.structure(0x420078), (0, 0)),
        (f.structure(0x420078, f.structure(0x420077)), (0, 0)),
        (f.structure(0x420078, f.structure(0x420077, f.integer(0x42000D, 1))), (0, 0)),
        (f.message(at=(1, 3)) + b"more", (0, 0)),
        (f.message(f.structure(0x42000F), at=(1, 3)), (1, 3)),
        (f.message(f.structure(0x420077), at=(1, 3)), (1, 3)),
        (f.message(header=f.text(0x420050, "x"), at=(1, 3)), (1, 3)),
    ],
)
def test_malformed_requests(data: bytes, version: tuple[int, int]) -> None:
    with pytest.raises(MessageError) as caught:
        decode_request(data)
    assert (caught.value.major, caught.value.minor) == version


def test_the_asynchronous_indicator_of_2_x_is_an_enumeration() -> None:
    assert decode_request(f.message(header=f.enum(0x420007, 2), at=(2, 1))).header.asynchronous is False
    with pytest.raises(MessageError):
        decode_request(f.message(header=f.enum(0x420007, 2), at=(1, 4)))


GOOD = f.message(f.batch_item(1, f.create_payload(), b"1"), f.batch_item(10, f.uid("abc"), b"2"))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, len(GOOD)))
def test_mutants_are_refused_or_read(at: int, value: int, cut: int) -> None:
    for mutant in (GOOD[:at] + bytes([value]) + GOOD[at + 1 :], GOOD[:cut], GOOD[:at] + GOOD[cut:]):
        try:
            request = decode_request(mutant)
            for item in request.items:
                codec = REQUESTS.get(item.operation)
                if codec is not None:
                    codec.decode(request.header.version, request.payload(item))
        except (MessageError, TtlvError, MissingField):
            continue

"""The codec: exact inverses, and no input that breaks it."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmipd.wire.framing import FramingError, message_length
from kmipd.wire.ttlv import (
    MAX_DEPTH,
    Item,
    TtlvError,
    decode_items,
    encode_boolean,
    encode_bytes,
    encode_date_time,
    encode_enumeration,
    encode_integer,
    encode_item,
    encode_items,
    encode_structure,
    encode_text,
)

TAGS = st.integers(0, 0xFFFFFF)
_LEAVES: dict[int, st.SearchStrategy[Any]] = {
    2: st.integers(-(2**31), 2**31 - 1),
    3: st.integers(-(2**63), 2**63 - 1),
    4: st.integers(1, 4).flatmap(lambda words: st.binary(min_size=8 * words, max_size=8 * words)),
    5: st.integers(0, 2**32 - 1),
    6: st.booleans(),
    7: st.text(max_size=40),
    8: st.binary(max_size=40),
    9: st.integers(-(2**63), 2**63 - 1),
    10: st.integers(0, 2**32 - 1),
    11: st.integers(-(2**63), 2**63 - 1),
}


def _leaf(kind: int) -> st.SearchStrategy[Item]:
    return st.tuples(TAGS.map(lambda tag: tag << 8 | kind), _LEAVES[kind])


LEAVES = st.one_of([_leaf(kind) for kind in _LEAVES])
ITEMS: st.SearchStrategy[Item] = st.recursive(
    LEAVES,
    lambda inner: st.tuples(TAGS.map(lambda tag: tag << 8 | 1), st.lists(inner, max_size=5)),
    max_leaves=20,
)


@given(st.lists(ITEMS, max_size=4))
def test_decoding_inverts_encoding(items: list[Item]) -> None:
    assert decode_items(encode_items(items)) == items


@settings(max_examples=600)
@given(st.lists(ITEMS, min_size=1, max_size=4), st.data())
def test_whatever_decodes_encodes_to_the_same_bytes(items: list[Item], data: st.DataObject) -> None:
    """Mutants of good messages: refused with a TtlvError, or understood completely."""
    raw = bytearray(encode_items(items))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.integers(0, 2))
        if how == 0:
            raw[at] = data.draw(st.integers(0, 255))
        elif how == 1:
            del raw[at:]
        else:
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        if not raw:
            break
    mutant = bytes(raw)
    try:
        decoded = decode_items(mutant)
    except TtlvError:
        return
    assert encode_items(decoded) == mutant


@given(st.binary(max_size=200))
def test_noise_is_refused_with_the_codecs_own_error(noise: bytes) -> None:
    try:
        decoded = decode_items(noise)
    except TtlvError:
        return
    assert encode_items(decoded) == noise


@given(st.integers(0, 0xFFFFFF), st.text(), st.binary(), st.integers(-(2**31), 2**31 - 1), st.booleans())
def test_the_short_encoders_agree_with_the_general_one(
    tag: int, text: str, octets: bytes, number: int, flag: bool
) -> None:
    word = tag << 8
    assert encode_text(tag, text) == encode_item((word | 7, text))
    assert encode_bytes(tag, octets) == encode_bytes(tag, bytearray(octets)) == encode_item((word | 8, octets))
    assert encode_integer(tag, number) == encode_item((word | 2, number))
    assert encode_enumeration(tag, abs(number)) == encode_item((word | 5, abs(number)))
    assert encode_boolean(tag, flag) == encode_item((word | 6, flag))
    assert encode_date_time(tag, number) == encode_item((word | 9, number))
    assert encode_structure(tag, encode_text(tag, text)) == encode_item((word | 1, [(word | 7, text)]))


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("42005c05000000040000000a000000", "longer|truncated|four"),
        ("42005c05000000080000000a00000000", "four bytes"),
        ("42005c05000000040000000a00000001", "padding"),
        ("4200770100000009", "does not fit"),
        ("42007701000000100000000000000000", "does not fit"),
        ("420094070000000361620000000000ff", "padding"),
        ("4200940700000009", "longer"),
        ("4200940700000002c328000000000000", "UTF-8"),
        ("42000706000000080000000000000002", "neither 0 nor 1"),
        ("42000706000000040000000000000001", "eight bytes"),
        ("42005204000000040000000000000000", "multiple of eight"),
        ("4200520400000000", "multiple of eight"),
        ("42005c0c000000040000000a00000000", "unknown item type"),
        ("42005c00000000040000000a00000000", "unknown item type"),
        ("42005c", "truncated"),
    ],
)
def test_what_is_refused(raw: str, complaint: str) -> None:
    with pytest.raises(TtlvError, match=complaint):
        decode_items(bytes.fromhex(raw))


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = encode_structure(0x420008, data)
    return data


def test_depth_is_limited() -> None:
    decode_items(nested(MAX_DEPTH - 1))
    for depth in (MAX_DEPTH, 1000, 20_000):
        with pytest.raises(TtlvError, match="too deep"):
            decode_items(nested(depth))


def test_errors_never_repeat_a_value() -> None:
    secret = os.urandom(16)
    raw = encode_bytes(0x420043, secret)[:-1]
    with pytest.raises(TtlvError) as caught:
        decode_items(raw)
    assert secret.hex() not in str(caught.value)


def test_the_length_of_a_message_is_in_its_first_bytes() -> None:
    assert message_length(bytes.fromhex("4200780100000060"), 1024) == 104
    for header, limit in (
        ("4200780100000061", 1024),
        ("4200780100000400", 1024),
        ("42007801ffffffff", 1 << 20),
        ("42007b0100000060", 1024),
        ("16030100c8010000", 1 << 20),
        ("474554202f204854", 1 << 20),
    ):
        with pytest.raises(FramingError):
            message_length(bytes.fromhex(header), limit)

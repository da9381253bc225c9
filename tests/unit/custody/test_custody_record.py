"""The record's one encoding."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.record import MAGIC, Record, Sealed, bind, decode, encode

names = st.text(max_size=40)
data = st.binary(max_size=80)
records = st.builds(Record, names, names, st.integers(0, 2**40), st.builds(Sealed, names, data, data, data))


@given(records)
def test_round_trip(record: Record) -> None:
    assert decode(encode(record)) == record


@given(records, st.binary(max_size=4))
def test_only_one_encoding_is_read(record: Record, tail: bytes) -> None:
    encoded = encode(record)
    if tail:
        _refused(encoded + tail)
    _refused(encoded[:-1])
    _refused(MAGIC + b"\x98\x08" + encoded[5:])  # the array's length in a longer form


@given(st.binary(max_size=200))
def test_anything_else_is_refused(junk: bytes) -> None:
    _refused(junk)
    _refused(MAGIC + junk)


@pytest.mark.parametrize(
    "value",
    [
        [1, "p", "k", 1, "m", b"", b""],
        [2, "p", "k", 1, "m", b"", b"", b""],
        [True, "p", "k", 1, "m", b"", b"", b""],
        [1, "p", "k", True, "m", b"", b"", b""],
        [1, "p", "k", 1.0, "m", b"", b"", b""],
        [1, b"p", "k", 1, "m", b"", b"", b""],
        [1, "p", "k", 1, "m", "", b"", b""],
        {"version": 1},
    ],
)
def test_wrong_shapes_are_refused(value: object) -> None:
    _refused(MAGIC + cbor2.dumps(value))


@given(st.lists(st.tuples(names, names, st.integers(1, 9), names, data), min_size=2, max_size=2, unique=True))
def test_no_two_bindings_are_equal(pair: list[tuple[str, str, int, str, bytes]]) -> None:
    assert bind(*pair[0]) != bind(*pair[1])


def _refused(encoded: bytes) -> None:
    with pytest.raises(CustodyError) as caught:
        decode(encoded)
    assert caught.value.kind is CustodyErrorKind.INTEGRITY

"""The archive file: what goes in comes out, and nothing else is ever read from it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.archives import a_key, a_tombstone, read_archive, write_archive

from kmipd.backup.archive import Archive, ArchiveError, new_file
from kmipd.backup.records import RecordError, decode_record, encode_record
from kmipd.storage.api import StoredObject

_number = st.integers(-(2**63), 2**63 - 1)
any_row = st.builds(
    StoredObject,
    st.text(max_size=80),
    *[_number] * 7,
    st.binary(max_size=300),
    st.none() | st.binary(max_size=300),
    st.text(max_size=40),
    _number,
    _number,
    _number,
)


@given(any_row)
def test_a_record_is_its_row(row: StoredObject) -> None:
    assert decode_record(encode_record(row)) == row


@given(any_row, st.data())
def test_a_cut_or_lengthened_record_is_refused(row: StoredObject, data: st.DataObject) -> None:
    record = encode_record(row)
    for broken in (record[: data.draw(st.integers(0, len(record) - 1))], record + b"\0"):
        with pytest.raises(RecordError):
            decode_record(broken)


@settings(max_examples=50, deadline=None)
@given(st.lists(any_row, max_size=20))
def test_an_archive_is_its_rows(rows: list[StoredObject]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write_archive(Path(directory) / "archive", rows)
        assert read_archive(path) == rows


def test_portions_cover_a_large_archive(tmp_path: Path) -> None:
    rows = [a_key(str(number)) for number in range(1001)]
    path = write_archive(tmp_path / "archive", rows)
    with Archive.open(path) as archive:
        assert [len(portion) for portion in archive.rows()] == [500, 500, 1]
        assert [row for portion in archive.rows() for row in portion] == rows


def test_every_truncation_and_every_altered_byte_is_detected(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "archive", [a_key("one"), a_tombstone("two"), a_key("three")]).read_bytes()
    broken = tmp_path / "broken"
    for length in range(len(whole)):
        broken.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"truncated|not an archive"), Archive.open(broken):
            pass
    for place in range(len(whole)):
        for difference in (0x01, 0x80, 0xFF):
            altered = bytearray(whole)
            altered[place] ^= difference
            broken.write_bytes(altered)
            with pytest.raises(ArchiveError, match=r"altered"), Archive.open(broken):
                pass
    for tail in (b"\0", whole):
        broken.write_bytes(whole + tail)
        with pytest.raises(ArchiveError, match="altered"), Archive.open(broken):
            pass


def test_records_left_out_or_repeated_are_detected(tmp_path: Path) -> None:
    """Also when the digest was made anew: counts must agree."""
    one, two = encode_record(a_key("one")), encode_record(a_key("two"))
    whole = write_archive(tmp_path / "archive", [a_key("one"), a_key("two")]).read_bytes()[:-32]
    block = b"R" + len(one).to_bytes(4, "big") + one
    assert two in whole
    for changed in (whole.replace(block, b""), whole.replace(block, block + block)):
        broken = tmp_path / "broken"
        broken.write_bytes(changed + hashlib.sha256(changed).digest())
        with pytest.raises(ArchiveError, match="altered"), Archive.open(broken):
            pass


def test_a_file_takes_its_name_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"older")

    def fail_half_way() -> None:
        with new_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["archive"]
    old_mask = os.umask(0)
    try:
        with new_file(path) as file:
            file.write(b"whole")
    finally:
        os.umask(old_mask)
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_archive_is_called_so(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"SQLite format 3\0" * 10)
    with pytest.raises(ArchiveError, match="not an archive"), Archive.open(other):
        pass
    with pytest.raises(ArchiveError, match="No such file"), Archive.open(tmp_path / "missing"):
        pass

"""The archive file: magic and format, then blocks (header, records, trailer), then the SHA-256 of all of it.

Reading begins with one pass that proves the file whole; no record is used before that. Memory does not grow with the file.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, Self, TypeVar
from uuid import UUID

from pydantic import ValidationError

from kmip_contract.model import Model
from kmipd.backup.records import RecordError, decode_record, encode_record
from kmipd.storage.api import StoredObject
from kmipd.storage.volume import fsync_directory

MAGIC: Final = b"KMIPARCH"
FORMAT: Final = 1

_START: Final = struct.Struct(">8sH")
_BLOCK: Final = struct.Struct(">cI")
_HEADER, _RECORD, _TRAILER = b"H", b"R", b"T"
_DIGEST: Final = 32

_MAX_BLOCK: Final = 64 * 1024 * 1024
"""Bytes; a KMIP message is at most one MiB, so a longer block is damage, and must not be read into memory."""

_BUFFER: Final = 1024 * 1024
PORTION: Final = 500
"""Records handed on at once: about a megabyte."""

_M = TypeVar("_M", bound=Model)


class ArchiveError(Exception):
    """A file that is no whole archive: says which file, what is wrong, and what to do."""


class RootKeyNeeded(Model):
    """A root-key version without which ``objects`` of the archive's objects are lost."""

    key_id: str
    version: int
    objects: int


class Header(Model):
    """What is known when an archive is begun. ``states`` counts objects by their KMIP state; ``created_at`` is its instant."""

    keyspace: UUID
    created_at: datetime
    program_version: str
    objects: int
    states: dict[int, int] = {}
    root_keys: tuple[RootKeyNeeded, ...] = ()


class Trailer(Model):
    """How many objects were written, and how many of them have been destroyed (their attributes remain)."""

    objects: int
    destroyed: int


class ArchiveWriter:
    """Writes one archive into an open file."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._digest = sha256()
        self._objects = 0
        self._destroyed = 0
        self._put(_START.pack(MAGIC, FORMAT))
        self._block(_HEADER, header.to_json())

    def add(self, row: StoredObject) -> None:
        """Append an object."""
        self._objects += 1
        self._destroyed += row.material is None
        self._block(_RECORD, encode_record(row))

    def finish(self) -> Trailer:
        """Write the trailer and the digest."""
        trailer = Trailer(objects=self._objects, destroyed=self._destroyed)
        self._block(_TRAILER, trailer.to_json())
        self._file.write(self._digest.digest())
        return trailer

    def _block(self, kind: bytes, payload: bytes) -> None:
        self._put(_BLOCK.pack(kind, len(payload)) + payload)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that only its owner reads and that takes the name ``path`` once it is whole and on disk, or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb", buffering=_BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


class Archive:
    """An archive that was read from end to end and found whole."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._records, self.header, self.trailer = self._check()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """The archive at ``path``, held open so that both passes read one and the same file.

        Raises:
            ArchiveError: it is truncated, altered, of a newer format, or no archive.
        """
        try:
            file = path.open("rb", buffering=_BUFFER)
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}") from error
        with file:
            yield cls(path, file)

    def rows(self) -> Iterator[list[StoredObject]]:
        """Every object, in portions, in the order in which they were made. Raises :class:`ArchiveError`."""
        self._file.seek(self._records)
        portion: list[StoredObject] = []
        for _ in range(self.trailer.objects):
            _, payload, _ = self._block()
            try:
                portion.append(decode_record(payload))
            except RecordError as error:
                raise ArchiveError(f"{self._path}: {error}") from error
            if len(portion) == PORTION:
                yield portion
                portion = []
        if portion:
            yield portion

    def _check(self) -> tuple[int, Header, Trailer]:
        start = self._file.read(_START.size)
        if len(start) < _START.size or not start.startswith(MAGIC):
            raise ArchiveError(f"{self._path}: it is not an archive of kmipd, or its beginning was altered")
        format_ = _START.unpack(start)[1]
        if format_ != FORMAT:
            raise ArchiveError(
                f"{self._path}: it is of format {format_}, this program reads format {FORMAT}; "
                "use the release that made it, unless the file was altered"
            )
        digest = sha256(start)
        kind, payload, block = self._block()
        digest.update(block)
        if kind != _HEADER:
            self._damaged()
        header = payload
        records, objects = self._file.tell(), 0
        while True:
            kind, payload, block = self._block()
            digest.update(block)
            if kind != _RECORD:
                break
            objects += 1
        if kind != _TRAILER or not compare_digest(self._file.read(_DIGEST), digest.digest()) or self._file.read(1):
            self._damaged()
        # Only now, as what was not written by us might be anything.
        trailer = self._model(Trailer, payload)
        read = self._model(Header, header)
        if objects != trailer.objects or objects != read.objects:
            self._damaged()
        return records, read, trailer

    def _block(self) -> tuple[bytes, bytes, bytes]:
        head = self._file.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            self._damaged()
        kind, size = _BLOCK.unpack(head)
        if size > _MAX_BLOCK:
            self._damaged()
        payload = self._file.read(size)
        if len(payload) < size:
            self._damaged()
        return kind, payload, head + payload

    def _model(self, model: type[_M], payload: bytes) -> _M:
        try:
            return model.model_validate_json(payload)
        except ValidationError:
            self._damaged()

    def _damaged(self) -> NoReturn:
        raise ArchiveError(f"{self._path}: it is truncated or was altered; use another archive")

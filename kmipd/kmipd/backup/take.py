"""Taking an archive of a database that is in use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kmip_contract.kmipd import Storage as Settings
from kmipd import storage
from kmipd.backup.archive import MAGIC, ArchiveError, ArchiveWriter, Header, RootKeyNeeded, Trailer, new_file

SUFFIX = ".kmiparchive"


@dataclass(frozen=True, slots=True)
class Taken:
    """An archive that is whole and on disk."""

    path: Path
    header: Header
    trailer: Trailer


async def back_up(settings: Settings, destination: Path, *, program_version: str) -> Taken:
    """Write what the database holds at this instant to ``destination``: a file, or a folder in which it gets a dated name.

    Raises:
        StorageError: the database cannot be read.
        ArchiveError: the file in its place is no archive, or not everything that was counted was read.
        OSError: the archive cannot be written.
    """
    async with storage.snapshot(settings) as snapshot:
        contents = await snapshot.contents()
        now = datetime.now(UTC).replace(microsecond=0)
        header = Header(
            keyspace=snapshot.keyspace,
            created_at=now,
            program_version=program_version,
            objects=sum(contents.states.values()),
            states=contents.states,
            root_keys=tuple(
                RootKeyNeeded(key_id=key_id, version=version, objects=objects)
                for key_id, version, objects in contents.wrappings
            ),
        )
        path = _file_of(destination, header)
        with new_file(path) as file:
            writer = ArchiveWriter(file, header)
            async for rows in snapshot.rows():
                for row in rows:
                    writer.add(row)
            trailer = writer.finish()
            if trailer.objects != header.objects:
                raise ArchiveError(
                    f"{path}: {trailer.objects} objects were read where {header.objects} were counted; not kept"
                )
    return Taken(path, header, trailer)


def _file_of(destination: Path, header: Header) -> Path:
    if not destination.is_dir():
        _refuse_other_file(destination)
        return destination
    return destination / f"{header.keyspace}-{header.created_at:%Y%m%dT%H%M%SZ}{SUFFIX}"


def _refuse_other_file(path: Path) -> None:
    """An older archive may be replaced; a database, say, never."""
    try:
        with path.open("rb") as file:
            beginning = file.read(len(MAGIC))
    except FileNotFoundError:
        return
    if beginning != MAGIC:
        raise ArchiveError(f"{path}: there is a file that is no archive; name another one, or remove it")

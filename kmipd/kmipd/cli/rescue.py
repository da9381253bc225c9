"""``kmipd rescue``: keys straight from an archive, on a machine that has nothing else."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from kmip_contract.kmipd import KmipdConfig, Listen, ServerTls, SqliteStorage, TlsProfile
from kmipd import storage
from kmipd.backup.archive import Archive
from kmipd.backup.restore import fill
from kmipd.cli.application import Application
from kmipd.cli.custody import own_custody


@dataclass(frozen=True, slots=True)
class Rescue:
    """What serving from an archive needs. The files are those of the server that is gone."""

    listen: Listen
    admin: Listen
    tls: ServerTls
    allowlist: Path
    custody: Path
    audit: Path | None


async def serve(archive: Archive, rescue: Rescue) -> None:
    """Serve reads of ``archive`` until SIGTERM, from a database in a temporary folder that goes when it ends.

    Raises:
        ContractError: the custody configuration cannot be read.
        StorageError, TlsError, OSError: as :meth:`Application.run`.
    """
    directory = Path(tempfile.mkdtemp(prefix="kmipd-rescue-"))
    try:
        database = SqliteStorage(path=directory / "kmip.db")
        opened = await storage.open(database, archive.header.keyspace, accept_empty=True)
        try:
            await fill(archive, opened)
        finally:
            await opened.aclose()
        async with own_custody(rescue.custody) as socket:
            config = KmipdConfig(
                instance="rescue",
                keyspace=archive.header.keyspace,
                listen=rescue.listen,
                admin=rescue.admin,
                tls=rescue.tls,
                allowlist_file=rescue.allowlist,
                storage=database,
                custody_socket=socket,
                audit_file=rescue.audit,
            )

            def tell(kmip: tuple[str, int], admin: tuple[str, int]) -> None:
                host, port = kmip
                click.echo(
                    f"serving {archive.trailer.objects} objects of keyspace {archive.header.keyspace}"
                    f" of {archive.header.created_at:%Y-%m-%d %H:%M:%S} UTC, to read only, at {host}:{port};"
                    f" health at http://{admin[0]}:{admin[1]}/readyz",
                    err=True,
                )

            await Application(config, tell, read_only=True).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def tls_of(certificate: Path, key: Path, profile: str) -> ServerTls:
    """The server's certificate and suites."""
    return ServerTls(certificate_file=certificate, key_file=key, profile=TlsProfile(profile))

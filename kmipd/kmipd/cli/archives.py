"""``kmipd backup``, ``verify``, ``restore`` and ``rescue``: the archive of wrapped keys, for people."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click
import uvloop

from kmip_contract.kmipd import KmipdConfig, SqliteStorage, Storage
from kmip_contract.model import ContractError
from kmipd.backup.archive import Archive, ArchiveError
from kmipd.cli.custody import own_custody
from kmipd.keys.api import KeyUnavailable
from kmipd.server.tls import TlsError
from kmipd.storage.api import StorageError

if TYPE_CHECKING:
    from kmipd.backup.merge import Decision
    from kmipd.backup.proof import Proof

SHOWN = 20
"""Objects that cannot be recovered are named up to this number; --json names all."""

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])

_file = click.Path(path_type=Path, dir_okay=False)
_archive = click.argument("archive", type=click.Path(path_type=Path, dir_okay=False, exists=True))


def _database(function: _F) -> _F:
    """The two ways to name a database."""
    function = click.option("--config", "config", type=_file, help="kmipd's configuration (JSON, KmipdConfig).")(
        function
    )
    return click.option(
        "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="The folder of `kmipd dev`, instead."
    )(function)


@click.command()
@_database
@click.option("--to", "destination", required=True, type=click.Path(path_type=Path), help="A file, or a folder.")
def backup(config: Path | None, data_dir: Path | None, destination: Path) -> None:
    """Write an archive of the database as it is at this instant, also while a server holds it.

    The archive holds wrapped keys only: without the root key it is worth nothing. It takes its name once
    it is whole and on disk.
    """
    from kmipd.backup.take import back_up
    from kmipd.cli.application import VERSION

    settings, _ = database_of(config, data_dir)
    begun = time.perf_counter()
    taken = run(back_up(settings, destination, program_version=VERSION))
    seconds = time.perf_counter() - begun
    rate = taken.trailer.objects / seconds
    click.echo(f"{taken.path}")
    click.echo(f"{_content(taken.trailer.objects, taken.trailer.destroyed)} of keyspace {taken.header.keyspace}")
    for needed in taken.header.root_keys:
        click.echo(f"needs root key {needed.key_id} version {needed.version} for {needed.objects} objects")
    click.echo(f"{seconds:.2f} s, {rate:,.0f} objects/s")


@click.command()
@_archive
@click.option("--custody", type=_file, help="Run custody with this configuration (JSON, CustodyConfig).")
@click.option(
    "--custody-socket", type=click.Path(path_type=Path, exists=True), help="Ask a custody that runs, instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify(
    context: click.Context, archive: Path, custody: Path | None, custody_socket: Path | None, as_json: bool
) -> None:
    """Prove that every object of ARCHIVE can be recovered: unwrap it by the root key and compare it with its digest.

    Exit codes: 0 every object can be recovered, 2 some cannot, 1 nothing was proven.
    """
    from kmipd.backup.proof import prove

    if (custody is None) == (custody_socket is None):
        raise click.UsageError("give --custody or --custody-socket")

    async def work(read: Archive) -> Proof:
        if custody is None:
            return await prove(read, custody_socket or Path())
        async with own_custody(custody) as socket:
            return await prove(read, socket)

    with opened(archive) as read:
        proof = run(work(read))
        click.echo(_as_json(read, proof) if as_json else _as_text(proof))
    if not proof.complete:
        context.exit(2)


@click.command()
@_archive
@_database
@click.option("--dry-run", is_flag=True, help="Only say what would be done; works while a server holds the database.")
@click.option(
    "--apply-destroyed", is_flag=True, help="Also destroy what the archive says was destroyed and the database has."
)
def restore(archive: Path, config: Path | None, data_dir: Path | None, dry_run: bool, apply_destroyed: bool) -> None:
    """Bring ARCHIVE into an empty database, or merge it into one of the same keyspace.

    Nothing newer is overwritten, nothing is removed, and what the database knows to be destroyed stays destroyed; an
    empty database knows nothing, so what was destroyed after the archive was made comes back. After an interruption
    run it again, and serve only when it has ended.
    """
    from kmipd.backup import restore as restoring

    settings, expected = database_of(config, data_dir)
    act = restoring.plan if dry_run else restoring.restore
    begun = time.perf_counter()
    with opened(archive) as read:
        if data_dir is not None and not dry_run:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        summary = run(act(read, settings, expected=expected, apply_destroyed=apply_destroyed))
        objects, keyspace = read.trailer.objects, read.header.keyspace
    seconds = time.perf_counter() - begun
    click.echo(f"{'would restore' if dry_run else 'restored'} keyspace {keyspace}: {objects} objects in the archive")
    for decision, count in sorted(summary.items(), key=_order):
        click.echo(f"{count:>9} {decision.value}")
    click.echo(f"{seconds:.2f} s, {objects / seconds:,.0f} objects/s")


@click.command()
@_archive
@click.option(
    "--listen", default=":5696", show_default=True, help="HOST:PORT of the KMIP port; no host: every address."
)
@click.option("--admin", default="127.0.0.1:0", show_default=True, help="HOST:PORT of /livez, /readyz and /metrics.")
@click.option("--tls-cert", required=True, type=_file, help="The server's certificate chain (PEM).")
@click.option("--tls-key", required=True, type=_file, help="Its key (PEM).")
@click.option(
    "--tls-profile", type=click.Choice(["Modern", "VSphere7"]), default="Modern", show_default=True, help="Suites."
)
@click.option("--allowlist", required=True, type=_file, help="Who may read (JSON, Allowlist).")
@click.option("--custody", required=True, type=_file, help="Run custody with this configuration (JSON, CustodyConfig).")
@click.option("--audit", type=_file, help="Where the audit goes; standard output when not given.")
def rescue(
    archive: Path,
    listen: str,
    admin: str,
    tls_cert: Path,
    tls_key: Path,
    tls_profile: str,
    allowlist: Path,
    custody: Path,
    audit: Path | None,
) -> None:
    """Serve keys straight from ARCHIVE until SIGTERM. Clients may read and locate; nothing can be made or changed."""
    from kmipd.cli import rescue as rescuing
    from kmipd.cli.dev import parse_listen

    try:
        ports = parse_listen(listen), parse_listen(admin)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    tls = rescuing.tls_of(tls_cert, tls_key, tls_profile)
    with opened(archive) as read:
        run(rescuing.serve(read, rescuing.Rescue(*ports, tls, allowlist, custody, audit)))


COMMANDS = (backup, verify, restore, rescue)


def database_of(config: Path | None, data_dir: Path | None) -> tuple[Storage, UUID | None]:
    """The database that the options name, and the keyspace its configuration expects."""
    if (config is None) == (data_dir is None):
        raise click.UsageError("give --config or --data-dir")
    if data_dir is not None and not (data_dir / "kmipd.json").exists():
        return SqliteStorage(path=data_dir / "kmip.db"), None
    file = config or Path(data_dir or "") / "kmipd.json"
    try:
        read = KmipdConfig.read(file)
    except ContractError as error:
        raise click.ClickException(str(error)) from None
    return read.storage, read.keyspace


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive; an unusable one ends the command with its reason."""
    try:
        with Archive.open(path) as read:
            yield read
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """The result; what a person can do something about ends the command with its reason and exit code 1."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except (StorageError, ArchiveError, KeyUnavailable, ContractError, TlsError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _content(objects: int, destroyed: int) -> str:
    return f"{objects} objects, {destroyed} of them destroyed,"


def _order(item: tuple[Decision, int]) -> str:
    return item[0].name


def _as_text(proof: Proof) -> str:
    lines = [f"not recoverable: {uid}: {reason}" for uid, reason in proof.failures[:SHOWN]]
    if len(proof.failures) > SHOWN:
        lines.append(f"and {len(proof.failures) - SHOWN} more (--json names all)")
    lines += [
        f"RECOVERABLE {proof.recoverable}/{proof.total}",
        f"{proof.compared} compared with their digest, the others read as what they are; {proof.destroyed} were destroyed",
        f"{proof.seconds:.2f} s, {proof.total / proof.seconds:,.0f} objects/s",
    ]
    return "\n".join(lines)


def _as_json(read: Archive, proof: Proof) -> str:
    return json.dumps(
        {
            "keyspace": str(read.header.keyspace),
            "createdAt": read.header.created_at.isoformat(),
            "rootKeys": [needed.model_dump() for needed in read.header.root_keys],
            "total": proof.total,
            "recoverable": proof.recoverable,
            "compared": proof.compared,
            "destroyed": proof.destroyed,
            "failures": [failure._asdict() for failure in proof.failures],
            "seconds": round(proof.seconds, 3),
        },
        indent=2,
    )

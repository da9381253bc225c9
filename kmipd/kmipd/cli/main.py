"""The ``kmipd`` command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path

import click
import structlog
import uvloop

from kmip_contract.kmipd import KmipdConfig
from kmip_contract.model import ContractError
from kmipd.cli import archives, logs
from kmipd.cli.custody import CustodyChild, CustodyFailed
from kmipd.server.tls import TlsError
from kmipd.storage.api import StorageError

EXIT_FAILED = 1
"""It could not serve: the last log line says why."""

EXIT_USAGE = 64
"""sysexits: EX_USAGE, the configuration cannot be read."""

_log = structlog.get_logger("kmipd")

_config_option = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severe event to log (JSON lines on standard error).",
)
@click.pass_context
def main(context: click.Context, log_level: str) -> None:
    """A KMIP server whose keys are wrapped by a root key that it never holds."""
    context.obj = log_level
    logs.configure(log_level)


@main.command()
@click.option("--config", "path", required=True, type=_config_option, help="Configuration (JSON, KmipdConfig).")
@click.option(
    "--with-custody", "custody", type=_config_option, help="Also run custody as a child, with this CustodyConfig."
)
@click.pass_obj
def serve(log_level: str, path: Path, custody: Path | None) -> None:
    """Serve KMIP until SIGTERM.

    The audit goes to standard output or the configured file, logs to standard error. SIGHUP opens the audit file again.
    Exit codes: 0 after SIGTERM, 1 it cannot serve, 64 unreadable configuration.
    """
    try:
        config = KmipdConfig.read(path)
    except ContractError as error:
        _log.error("configuration cannot be read", error=str(error))
        sys.exit(EXIT_USAGE)
    _run(_serve(config, CustodyChild(custody, log_level=log_level) if custody else None))


@main.command()
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept; made when it is not there, taken back when it is.",
)
@click.option("--listen", default="127.0.0.1:5696", show_default=True, help="HOST:PORT of the KMIP port.")
@click.option("--admin", default="127.0.0.1:0", show_default=True, help="HOST:PORT of /livez, /readyz and /metrics.")
@click.option(
    "--pkcs11-module", type=click.Path(path_type=Path, dir_okay=False), help="Keep the root key in this module."
)
@click.option("--token-label", help="The module's token.")
@click.option("--pin-file", type=click.Path(path_type=Path, dir_okay=False), help="The token's user PIN.")
@click.pass_obj
def dev(
    log_level: str,
    data_dir: Path,
    listen: str,
    admin: str,
    pkcs11_module: Path | None,
    token_label: str | None,
    pin_file: Path | None,
) -> None:
    """Make certificates and a root key, serve, and say what to type next. For evaluation.

    DATA_DIR/ca.crt, client.crt and client.key are what a client needs. The root key is a file there, unless a PKCS#11 module is
    given.
    """
    from kmipd.cli import dev as development

    if pkcs11_module is None:
        if token_label or pin_file:
            raise click.UsageError("--token-label and --pin-file belong to --pkcs11-module")
        token = None
    elif token_label and pin_file:
        token = development.Token(pkcs11_module.resolve(), token_label, pin_file.resolve())
    else:
        raise click.UsageError("--pkcs11-module needs --token-label and --pin-file")
    try:
        kmip, plain = development.parse_listen(listen), development.parse_listen(admin)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    data_dir = data_dir.resolve()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{data_dir}: {error.strerror}") from None
    _run(development.run(data_dir, kmip, plain, token, log_level))


@main.command()
def version() -> None:
    """Print the version."""
    from kmipd.cli.application import VERSION

    click.echo(f"kmipd {VERSION}")


for command in archives.COMMANDS:
    main.add_command(command)


async def _serve(config: KmipdConfig, custody: CustodyChild | None) -> None:
    from kmipd.cli.application import Application

    if custody is None:
        await Application(config).run()
        return
    await custody.start()
    try:
        await Application(config).run()
    finally:
        await custody.aclose()


def _run(work: Coroutine[None, None, None]) -> None:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except (StorageError, TlsError, CustodyFailed, OSError) as error:
        _log.critical("cannot serve", error=str(error))
        sys.exit(EXIT_FAILED)

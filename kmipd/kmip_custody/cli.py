"""The ``kmip-custody`` command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import click
import structlog
from pydantic import ValidationError

from kmip_contract.custody import CustodyConfig
from kmip_contract.model import ContractError, explain
from kmip_contract.rootkey import RootKeyRequest, RootKeyResult
from kmip_custody import hardening, job, logs
from kmip_custody.errors import CustodyError

T = TypeVar("T")

EXIT_USAGE = 64
"""sysexits: EX_USAGE, the configuration or request cannot be read."""

EXIT_CONFIGURATION = 78
"""sysexits: EX_CONFIG, custody cannot start with this configuration."""

_log = structlog.get_logger("kmip_custody")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kmip-operator")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True,
    help="Least severe event to log (JSON lines on standard error).",
)  # fmt: skip
def main(log_level: str) -> None:
    """Wrap and unwrap keys by a root key that stays in its key manager.

    The only program that holds a key manager's module and credentials. kmipd talks to `serve` over a UNIX socket; `job` does
    root-key work (probe, create, adopt) once.
    """
    logs.configure(log_level)
    hardening.harden()


@main.command()
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path),
    help="Configuration (JSON, CustodyConfig).",
)
@click.option(
    "--exit-with-parent", is_flag=True, help="End when the process that started this one ends, however it ends."
)
def serve(config_path: Path, exit_with_parent: bool) -> None:
    """Serve wrap, unwrap and describe on a UNIX socket.

    The root key and the confirmed credential are applied anew when the configuration file changes. Exit codes: 0 after SIGTERM,
    64 unreadable configuration, 70 the key manager's module hangs (start again), 78 the socket or a dependency is not usable.
    """
    parent = os.getppid()
    if exit_with_parent:
        hardening.die_with_parent()
        if os.getppid() != parent:
            sys.exit(0)
    try:
        config = CustodyConfig.read(config_path)
    except ContractError as error:
        _log.error("config.unreadable", reason=str(error))
        sys.exit(EXIT_USAGE)
    from kmip_custody.server import serve as run_server

    try:
        code = _run(lambda: run_server(config, config_path))
    except CustodyError as error:
        _log.error("custody.cannot_start", kind=error.kind.value, reason=error.message)
        code = EXIT_CONFIGURATION
    _leave(code)


@main.command("job")
@click.option(
    "--request",
    "request_path",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Request file (JSON, RootKeyRequest); - reads standard input.",
)
@click.option("--request-json", help="The request itself. It holds no secret: credentials are files.")
@click.option(
    "--result-file", type=click.Path(path_type=Path), help="Also write the result there, such as /dev/termination-log."
)
@click.option("--deadline", type=float, default=60.0, show_default=True, help="Seconds for the whole job.")
def run_job(request_path: Path | None, request_json: str | None, result_file: Path | None, deadline: float) -> None:
    """Do one root-key action: Probe, Create (find or create) or Adopt.

    The last line of standard output is the result (JSON, RootKeyResult, at most 4096 bytes). Exit codes: 0 done, 1 refused or
    failed (see the result's error), 64 unreadable request. The credential is tried on the key manager once.
    """
    if (request_path is None) == (request_json is None):
        raise click.UsageError("give either --request or --request-json")
    try:
        request = _read_request(request_path, request_json)
    except ContractError as error:
        _log.error("request.unreadable", reason=str(error))
        sys.exit(EXIT_USAGE)
    # A vendor's module may crash the process that loads it: a child does, so that there is always a result.
    child = os.fork()
    if not child:
        hardening.die_with_parent()
        _leave(_report(_run(lambda: job.run(request, deadline)), result_file))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, 1}:
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        code = _report(job.crashed(request, what), result_file)
    sys.exit(code)


def _report(result: RootKeyResult, result_file: Path | None) -> int:
    """Write the result where it is expected; the exit code."""
    result = job.fit(result)
    line = job.line(result)
    if result_file is not None:
        _write_in_place(result_file, line)
    _log_result(result)
    click.echo(line, nl=False)
    return 0 if result.error is None else 1


def _write_in_place(path: Path, line: bytes) -> None:
    """Write ``line`` without replacing the file: a termination log is a mount. Standard output has the result in any case."""
    try:
        path.write_bytes(line)
    except OSError as error:
        _log.error("result.unwritable", file=str(path), reason=error.strerror)


def _log_result(result: RootKeyResult) -> None:
    if result.error is not None:
        _log.error("job.failed", action=result.action.value, kind=result.error.kind.value, reason=result.error.message)
        return
    key = result.root_key
    _log.info(
        "job.done",
        action=result.action.value,
        root_key=key.key_id if key else None,
        created=result.created,
        mechanism=result.facts.mechanism,
    )


def _read_request(path: Path | None, text: str | None) -> RootKeyRequest:
    if path is not None and str(path) != "-":
        return RootKeyRequest.read(path)
    try:
        return RootKeyRequest.model_validate_json(sys.stdin.buffer.read() if text is None else text)
    except ValidationError as error:
        raise ContractError(f"request: {explain(error)}") from None


def _run(start: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run on uvloop where it is installed."""
    try:
        factory = import_module("uvloop").new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(logs.loop_exception_handler)
        return runner.run(start())


def _leave(code: int) -> None:
    """End without waiting for a thread that may hang in a module, and without running the module's own exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

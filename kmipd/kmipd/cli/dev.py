"""``kmipd dev``: a KMIP server from nothing, in one directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from kmip_contract.allowlist import ALLOWLIST_KEY, Allowlist, AllowlistEntry, EntryType
from kmip_contract.custody import CustodyConfig
from kmip_contract.kmipd import KmipdConfig, Listen, ServerTls, SqliteStorage, TlsProfile
from kmip_contract.model import ContractError
from kmip_contract.permissions import OPERATIONS
from kmip_contract.rootkey import (
    Connection,
    Pkcs11Connection,
    RootKeyAction,
    RootKeyRef,
    RootKeyRequest,
    SoftwareConnection,
)
from kmipd.cli import pki
from kmipd.cli.application import Application
from kmipd.cli.custody import CustodyChild, CustodyFailed, make_root_key

_SEED_BYTES = 64

# A UNIX socket's address holds 108 bytes with its final zero (unix(7)).
_MAX_SOCKET_PATH = 107

_DRAIN = 5.0


@dataclass(frozen=True, slots=True)
class Token:
    """A PKCS#11 module, its token and the file with the user PIN."""

    module: Path
    label: str
    pin_file: Path


def parse_listen(text: str) -> Listen:
    """``HOST:PORT`` (``[HOST]:PORT`` for IPv6). Raises ``ValueError``."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return Listen(host=host.removeprefix("[").removesuffix("]"), port=int(port))


async def run(directory: Path, listen: Listen, admin: Listen, token: Token | None, log_level: str) -> None:
    """Prepare ``directory`` (absolute, existing), serve, and tell what to do with it.

    Raises:
        CustodyFailed: there is no root key; also what :meth:`Application.run` raises.
    """
    async with AsyncExitStack() as cleanup:
        socket = _socket_path(directory, cleanup)
        custody_file = directory / "custody.json"
        # The root key is made while the certificates are.
        root_key = asyncio.get_running_loop().create_task(_custody(directory, custody_file, socket, token))
        try:
            config = _kmipd(directory, socket, listen, admin)
        except ValueError as error:
            root_key.cancel()
            raise CustodyFailed(str(error)) from None
        custody_config = await root_key
        custody_file.write_bytes(custody_config.to_json())
        child = CustodyChild(custody_file, log_level=log_level)
        await child.start()
        cleanup.push_async_callback(child.aclose)
        await Application(config, lambda kmip, plain: click.echo(_next_steps(directory, kmip, plain))).run()


def _socket_path(directory: Path, cleanup: AsyncExitStack) -> Path:
    path = directory / "custody.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    short = Path(tempfile.mkdtemp(prefix="kmipd-"))
    cleanup.callback(shutil.rmtree, short, ignore_errors=True)
    return short / "custody.sock"


async def _custody(directory: Path, file: Path, socket: Path, token: Token | None) -> CustodyConfig:
    connection: Connection
    if token is None:
        seed = directory / "seed"
        if not seed.exists():
            if (directory / "kmip.db").exists():
                raise CustodyFailed(
                    f"{seed} is gone, and with it every key in kmip.db: put it back or use another directory"
                )
            pki.write_private(seed, os.urandom(_SEED_BYTES))
        connection = SoftwareConnection(seed_file=seed)
    else:
        connection = Pkcs11Connection(module=token.module, token_label=token.label, pin_file=token.pin_file)
    return CustodyConfig(connection=connection, root_key=await _root_key(file, connection), socket=socket)


async def _root_key(file: Path, connection: Connection) -> RootKeyRef:
    try:
        kept = CustodyConfig.read(file)
    except ContractError:
        return await make_root_key(
            RootKeyRequest(
                action=RootKeyAction.CREATE, connection=connection, key_id=str(uuid.uuid4()), label="kmipd dev root key"
            )
        )
    if kept.connection.type != connection.type:
        raise CustodyFailed(
            f"{file.parent} was made with a {kept.connection.type} root key, not a {connection.type} one: use another"
        )
    return kept.root_key


def _kmipd(directory: Path, socket: Path, listen: Listen, admin: Listen) -> KmipdConfig:
    issuer = pki.authority(directory)
    server = pki.server(directory, issuer, listen.host)
    client = pki.client(directory, issuer)
    _allow(directory / ALLOWLIST_KEY, client)
    config = KmipdConfig(
        instance="dev",
        listen=listen,
        admin=admin,
        tls=ServerTls(certificate_file=server.certificate_file, key_file=server.key_file, profile=TlsProfile.VSPHERE7),
        allowlist_file=directory / ALLOWLIST_KEY,
        storage=SqliteStorage(path=directory / "kmip.db"),
        custody_socket=socket,
        drain=_DRAIN,
        audit_file=directory / "audit.log",
    )
    (directory / "kmipd.json").write_bytes(config.to_json())
    return config


def _allow(file: Path, client: pki.Issued) -> None:
    """Put the client on the list, beside what a person may have added to it."""
    pem = client.certificate.public_bytes(Encoding.PEM).decode()
    entry = AllowlistEntry(
        name="client",
        type=EntryType.LEAF,
        sha256=client.certificate.fingerprint(hashes.SHA256()).hex(),
        pem=pem,
        operations=OPERATIONS,
        not_before=client.certificate.not_valid_before_utc,
        not_after=client.certificate.not_valid_after_utc,
    )
    try:
        kept = Allowlist.read(file)
    except ContractError:
        kept = Allowlist(revision=0)
    if entry in kept.entries:
        return
    others = tuple(other for other in kept.entries if other.name != entry.name)
    file.write_bytes(Allowlist(revision=kept.revision + 1, entries=(entry, *others)).to_json())


def _next_steps(directory: Path, kmip: tuple[str, int], admin: tuple[str, int]) -> str:
    host, port = kmip
    shown = f"[{host}]" if ":" in host else host
    files = f"-CAfile {directory}/ca.crt -cert {directory}/client.crt -key {directory}/client.key"
    return f"""
kmipd serves KMIP at {shown}:{port}; health and metrics at http://{admin[0]}:{admin[1]}/readyz and /metrics

  CA certificate      {directory}/ca.crt
  client certificate  {directory}/client.crt
  client key          {directory}/client.key
  audit               {directory}/audit.log

See its certificate and suites:

  openssl s_client -connect {shown}:{port} {files} </dev/null

Make a key and read it with PyKMIP (pip install PyKMIP):

  from kmip import enums
  from kmip.pie.client import ProxyKmipClient
  with ProxyKmipClient(hostname="{host}", port={port}, ca="{directory}/ca.crt",
                       cert="{directory}/client.crt", key="{directory}/client.key",
                       kmip_version=enums.KMIPVersion.KMIP_1_4) as client:
      uid = client.create(enums.CryptographicAlgorithm.AES, 256)
      client.activate(uid)
      print(uid, client.get(uid))
"""

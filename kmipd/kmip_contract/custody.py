"""The messages between kmipd and custody over their UNIX socket, custody's configuration, and what a key is bound to.

A frame is two big-endian 32-bit lengths (header, body), a JSON header (one of the models here) and a body of raw bytes. Key
bytes travel in bodies alone, so that no JSON text ever holds one. Requests may be pipelined; answers carry the request's ``id``
and may come in any order.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field

from kmip_contract.model import Model
from kmip_contract.rootkey import Connection, CredentialCheck, CustodyFailure, ProviderFacts, RootKeyRef

FRAME = struct.Struct(">II")
"""Header length and body length, in bytes."""

MAX_FRAME = 4 * 1024 * 1024
"""A larger header or body is refused: the largest batch of wrapped objects kmipd sends stays below one MiB."""


class CustodyConfig(Model):
    """The configuration file of ``kmip-custody serve``.

    ``peer_uid``: the only uid whose connections are served (``SO_PEERCRED``); custody's own when not given.
    ``call_deadline``: seconds after which a call into the module counts as hung and the liveness probe fails; vendors' slowest
    documented single operations stay below 5 s.
    """

    version: Literal[1] = 1
    connection: Connection
    root_key: RootKeyRef
    credential: CredentialCheck | None = None
    socket: Path
    peer_uid: int | None = None
    call_deadline: float = Field(default=10.0, gt=0)
    health_port: int | None = None


class WrapContext(Model):
    """What a wrapped key is bound to: another object's, keyspace's or generation's record does not unwrap in its place."""

    keyspace: UUID
    uid: str
    object_type: int = Field(ge=0)
    algorithm: int = Field(default=0, ge=0)
    length: int = Field(default=0, ge=0)
    generation: int = Field(default=1, ge=1)

    def aad(self) -> bytes:
        """The additional authenticated data: a format mark, then each field with its length, so no two contexts are equal."""
        fields = (
            self.keyspace.bytes,
            self.uid.encode(),
            *(value.to_bytes(8, "big") for value in (self.object_type, self.algorithm, self.length, self.generation)),
        )
        return b"kmip-operator/aad/1" + b"".join(len(field).to_bytes(4, "big") + field for field in fields)


class CustodyOperation(StrEnum):
    """What kmipd asks of custody."""

    DESCRIBE = "describe"
    WRAP = "wrap"
    UNWRAP = "unwrap"


class CustodyItem(Model):
    """One key of a request: what it is bound to and how many bytes of the body are its (plain text or wrapped record)."""

    context: WrapContext
    size: int = Field(ge=0)


class CustodyRequest(Model):
    """A request header. ``deadline`` in seconds from receipt; an item that cannot be done by then fails alone."""

    id: int
    operation: CustodyOperation
    deadline: float = Field(default=5.0, gt=0)
    items: tuple[CustodyItem, ...] = ()


class CustodyOutcome(Model):
    """One item's answer: its size in the body (0 with an error) and the root-key version that wraps it."""

    size: int = 0
    root_key_version: int = 0
    error: CustodyFailure | None = None


class RootKeyState(StrEnum):
    """Whether keys can be unwrapped now."""

    USABLE = "Usable"
    REVOKED = "Revoked"
    UNREACHABLE = "Unreachable"
    UNKNOWN = "Unknown"


class CustodyDescription(Model):
    """The answer to DESCRIBE: the root key, its state proven by a wrap and unwrap just now, and the key manager.

    ``newer_handle``: a version that the key manager has and this custody's configuration does not name (rotated elsewhere).
    """

    root_key: RootKeyRef
    current_version: int = 0
    newer_handle: str | None = None
    state: RootKeyState
    facts: ProviderFacts = ProviderFacts()
    error: CustodyFailure | None = None


class CustodyResponse(Model):
    """A response header: outcomes in the request's order, their bytes concatenated in the body."""

    id: int
    items: tuple[CustodyOutcome, ...] = ()
    description: CustodyDescription | None = None
    error: CustodyFailure | None = None

"""The proof that an archive can be recovered: every object in it is unwrapped by the root key and looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from kmip_contract.custody import WrapContext
from kmip_contract.rootkey import CustodyErrorKind
from kmipd.backup.archive import Archive
from kmipd.keys.api import KeyUnavailable
from kmipd.keys.client import CustodyClient, Outcome
from kmipd.objects.errors import OperationFailed
from kmipd.objects.managed import from_stored
from kmipd.objects.material import read_material
from kmipd.objects.values import field_of
from kmipd.storage.api import StorageError, StoredObject
from kmipd.wire import tags
from kmipd.wire.enums import HashingAlgorithm
from kmipd.wire.ttlv import TtlvError, decode_items

CALL_SECONDS = 60.0
"""For one unwrapping that waits behind at most two portions: a key manager that does twenty a second is still in time."""

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before an object is asked for again while the key manager throttles or is away. Then nothing is proven."""

_PASSING = frozenset({CustodyErrorKind.THROTTLED, CustodyErrorKind.UNAVAILABLE, CustodyErrorKind.DEADLINE_EXCEEDED})


class Failure(NamedTuple):
    """An object that cannot be recovered, and why."""

    uid: str
    reason: str


@dataclass(slots=True)
class Proof:
    """``recoverable`` of ``total`` objects were unwrapped; of these ``compared`` have the digest stored when they were made.

    The others have none and were read as what they should be. ``destroyed`` objects have nothing left to unwrap.
    """

    total: int = 0
    recoverable: int = 0
    compared: int = 0
    destroyed: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every object can be recovered."""
        return self.recoverable == self.total


async def prove(archive: Archive, socket: Path) -> Proof:
    """Unwrap every object of ``archive`` through the custody at ``socket``.

    Raises:
        KeyUnavailable: custody or its key manager does not answer: nothing is proven, and nothing disproved.
    """
    begun = time.perf_counter()
    proof = Proof()
    client = CustodyClient(socket, timeout=CALL_SECONDS)
    try:
        await client.describe()
        waiting: tuple[list[StoredObject], asyncio.Future[list[Outcome | BaseException]]] | None = None
        for rows in archive.rows():
            proof.destroyed += sum(row.material is None for row in rows)
            wrapped = [row for row in rows if row.material is not None]
            asked = wrapped, _ask(client, archive.header.keyspace, wrapped)
            if waiting is not None:
                await _settle(proof, client, archive.header.keyspace, *waiting)
            waiting = asked
        if waiting is not None:
            await _settle(proof, client, archive.header.keyspace, *waiting)
    finally:
        await client.aclose()
    proof.seconds = time.perf_counter() - begun
    return proof


def _ask(
    client: CustodyClient, keyspace: UUID, rows: Sequence[StoredObject]
) -> asyncio.Future[list[Outcome | BaseException]]:
    return asyncio.gather(*(_unwrap(client, keyspace, row) for row in rows), return_exceptions=True)


def _unwrap(client: CustodyClient, keyspace: UUID, row: StoredObject) -> asyncio.Future[Outcome]:
    context = WrapContext.model_construct(
        keyspace=keyspace,
        uid=row.uid,
        object_type=row.object_type,
        algorithm=row.algorithm,
        length=row.length,
        generation=row.generation,
    )
    return client.unwrap(context, row.material or b"")


async def _settle(
    proof: Proof,
    client: CustodyClient,
    keyspace: UUID,
    rows: list[StoredObject],
    asked: asyncio.Future[list[Outcome | BaseException]],
) -> None:
    for pause in (*PAUSES, None):
        again: list[StoredObject] = []
        for row, outcome in zip(rows, await asked, strict=True):
            if isinstance(outcome, KeyUnavailable) and outcome.kind in _PASSING:
                if pause is None:
                    raise outcome
                again.append(row)
            else:
                _count(proof, row, outcome)
        if not again or pause is None:
            return
        await asyncio.sleep(pause)
        rows, asked = again, _ask(client, keyspace, again)


def _count(proof: Proof, row: StoredObject, outcome: Outcome | BaseException) -> None:
    proof.total += 1
    if isinstance(outcome, KeyUnavailable):
        reason = f"{outcome.kind}: {outcome} (root key {row.root_key_id}, version {row.root_key_version})"
        proof.failures.append(Failure(row.uid, reason))
    elif isinstance(outcome, BaseException):
        raise outcome
    else:
        compared, reason = examine(row, outcome.data)
        proof.compared += compared
        if reason:
            proof.failures.append(Failure(row.uid, reason))
        else:
            proof.recoverable += 1


def examine(row: StoredObject, plaintext: bytes) -> tuple[bool, str]:
    """Whether ``plaintext`` was compared with a stored digest, and what is wrong with it (nothing: empty)."""
    try:
        managed = from_stored(row)
        covered = read_material(row.object_type, decode_items(plaintext)[0]).digest_input()
    except (TtlvError, OperationFailed, StorageError, IndexError):
        return False, "what was unwrapped is not an object of its type"
    digests = managed.attributes.get("Digest")
    if not digests or covered is None:
        return False, ""
    for digest in digests:
        if field_of(digest.value, tags.HASHING_ALGORITHM) == HashingAlgorithm.SHA_256:
            stored = field_of(digest.value, tags.DIGEST_VALUE)
            same = compare_digest(sha256(covered[0]).digest(), stored if isinstance(stored, bytes) else b"")
            return True, "" if same else "the key is not the one whose digest was stored"
    return False, ""

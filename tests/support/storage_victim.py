"""A process that writes to a database and is killed; run as a program.

For each line on standard input (a seed) it forks a child, which has everything imported and writes at once. The child says
``pid N``, then ``I uid`` after each acknowledged insert and ``R uid revision`` after each acknowledged replacement. When it
is gone, ``gone`` is said. Arguments: the storage's settings as JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from pydantic import TypeAdapter
from support.objects import an_object, named

from kmip_contract import kmipd as contract
from kmipd import storage
from kmipd.storage.api import Storage

WORKERS = 8


def content(uid: str, revision: int) -> bytes:
    """What the attributes of an object are at a revision: long enough to be torn."""
    return f"{uid}/{revision}/".encode() * 60


def say(line: str) -> None:
    """One write(2): what was said before the kill is in the pipe, whole."""
    os.write(1, line.encode() + b"\n")


async def write_on(store: Storage, name: str) -> None:
    """Insert an object and replace it twice, again and again."""
    number = 0
    while True:
        uid = f"{name}-{number}"
        stored = an_object(uid, attributes=content(uid, 1))
        await store.insert(stored, [named(uid), named("all")])
        say(f"I {uid}")
        for revision in (1, 2):
            stored = replace(stored, attributes=content(uid, revision + 1), state=revision + 1, revision=revision)
            if not await store.replace(stored, [named(uid), named("all"), named(f"{uid}/{revision + 1}")]):
                raise AssertionError("nobody else replaces it")
            say(f"R {uid} {revision + 1}")
        number += 1


async def run(settings: contract.Storage, seed: str) -> None:
    store = await storage.open(settings, None)
    await asyncio.gather(*(write_on(store, f"{seed}-{worker}") for worker in range(WORKERS)))


def main() -> None:
    settings: contract.Storage = TypeAdapter(contract.Storage).validate_json(sys.argv[1])
    # Import the driver before forking.
    asyncio.run(_warm(settings))
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            asyncio.run(run(settings, line.strip()))
            os._exit(1)
        os.waitpid(child, 0)
        say("gone")


async def _warm(settings: contract.Storage) -> None:
    store = await storage.open(settings, None)
    await store.aclose()


if __name__ == "__main__":
    main()

"""A restore to be killed: ``python -m support.restore_victim ARCHIVE SETTINGS`` says "begun" and then restores."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from pydantic import TypeAdapter

from kmip_contract import kmipd as contract
from kmipd.backup.archive import Archive
from kmipd.backup.restore import restore


def main() -> None:
    settings: contract.Storage = TypeAdapter[contract.Storage](contract.Storage).validate_json(sys.argv[2])
    with Archive.open(Path(sys.argv[1])) as archive:
        print("begun", flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(restore(archive, settings, expected=None, apply_destroyed=True))


if __name__ == "__main__":
    main()

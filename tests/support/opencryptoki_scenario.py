"""What custody must do on a token without an AEAD; run as a script inside :mod:`support.opencryptoki`'s namespaces."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.custody_client import context, run_job, serving, until_state
from support.opencryptoki import LABEL, MODULE

from kmip_contract.custody import CustodyConfig, RootKeyState
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure, Pkcs11Connection, RootKeyAction, RootKeyRequest

_DESTROY = """
import sys
from pkcs11 import Attribute, ObjectClass, lib
session = lib(sys.argv[1]).get_token(token_label=sys.argv[2]).open(rw=True, user_pin=open(sys.argv[3]).read().strip())
for key in list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})):
    key.destroy()
"""


async def scenario(directory: Path) -> None:
    """Create, serve, refuse what is false, notice destruction."""
    connection = Pkcs11Connection(module=MODULE, token_label=LABEL, pin_file=directory / "pin")
    results = []
    for action in (RootKeyAction.PROBE, RootKeyAction.CREATE, RootKeyAction.CREATE):
        code, result, log = run_job(RootKeyRequest(action=action, connection=connection, key_id="root", label="a/b"))
        assert code == 0, log
        assert result.facts.mechanism == "AES_CBC_PAD_HMAC"
        results.append(result)
    assert [result.created for result in results] == [False, True, False]
    root_key = results[1].root_key
    assert root_key is not None
    assert root_key == results[2].root_key
    config = CustodyConfig(connection=connection, root_key=root_key, socket=directory / "custody.sock", health_port=0)
    async with serving(config, directory) as process:
        client = await process.connect()
        description = await until_state(client, RootKeyState.USABLE)
        assert description.facts.mechanism == "AES_CBC_PAD_HMAC"
        items = [(context(str(number)), bytes([number]) * 32) for number in range(50)]
        records = [record for record in await client.wrap(items) if isinstance(record, bytes)]
        sealed = [(bound, record) for (bound, _), record in zip(items, records, strict=True)]
        assert await client.unwrap(sealed) == [plaintext for _, plaintext in items]
        record = records[0]
        false = [(context("0"), record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]) for at in range(len(record))]
        answers = await client.unwrap([(context("1"), record), *false])
        assert all(isinstance(answer, CustodyFailure) and not answer.kind.revoked for answer in answers), answers
        subprocess.run(
            [sys.executable, "-c", _DESTROY, str(MODULE), LABEL, str(directory / "pin")], check=True, timeout=60
        )
        (answer,) = await client.unwrap(sealed[:1])
        assert isinstance(answer, CustodyFailure)
        assert answer.kind is CustodyErrorKind.ROOT_KEY_DESTROYED
        assert process.stop() == 0


if __name__ == "__main__":
    asyncio.run(scenario(Path(sys.argv[1])))

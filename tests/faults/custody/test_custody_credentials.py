"""A credential reaches the token once, and only if it is the confirmed one."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from support.custody_client import CustodyClient, CustodyProcess, Serve, context, until_state
from support.softhsm import Shim

from kmip_contract.custody import CustodyConfig, CustodyDescription, RootKeyState
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure

WRONG = "wrong-pin-of-a-typist"


def write_pin(shim: Shim, pin: str) -> None:
    """Replace the file as a kubelet does: another inode, at once."""
    new = shim.hsm.pin_file.with_name("pin.new")
    new.write_text(pin + "\n")
    new.rename(shim.hsm.pin_file)


def write_config(process: CustodyProcess, config: CustodyConfig) -> None:
    new = process.config_path.with_name("custody.json.new")
    new.write_bytes(config.to_json())
    new.rename(process.config_path)


async def wrap_kind(client: CustodyClient) -> CustodyErrorKind | None:
    (answer,) = await client.wrap([(context(), bytes(32))])
    return answer.kind if isinstance(answer, CustodyFailure) else None


def kind_of(description: CustodyDescription) -> CustodyErrorKind | None:
    return description.error.kind if description.error else None


async def test_wrong_pin_reaches_the_token_once(
    config: CustodyConfig, shim: Shim, serve: Serve, tmp_path: Path
) -> None:
    write_pin(shim, WRONG)
    async with serve(config.model_copy(update={"credential": None})) as process:
        client = await process.connect()
        for _ in range(20):
            assert await wrap_kind(client) is CustodyErrorKind.CREDENTIAL_REFUSED
            description = await client.describe()
            assert kind_of(description) is CustodyErrorKind.CREDENTIAL_REFUSED
            assert description.state is RootKeyState.UNREACHABLE, "a wrong PIN is not a revocation"
        assert (await process.health("/readyz"))[0] == 503
        assert (await process.health("/livez"))[0] == 200, "a restart would try the PIN again"
        await process.event("rootkey.unusable")
        write_pin(shim, WRONG)
        await process.event("credential.changed")
        assert await wrap_kind(client) is CustodyErrorKind.CREDENTIAL_REFUSED
        assert shim.logins() == ["0xa0"]
        write_pin(shim, shim.hsm.pin)
        await until_state(client, RootKeyState.USABLE)
        assert shim.logins() == ["0xa0", "0"]
        assert await wrap_kind(client) is None
        assert (await process.health("/readyz"))[0] == 200
        assert 'kmip_custody_logins_total{outcome="refused"} 1.0' in (await process.health("/metrics"))[1]
        assert WRONG not in process.log.read_text()


async def test_unconfirmed_credential_never_reaches_the_token(config: CustodyConfig, shim: Shim, serve: Serve) -> None:
    write_pin(shim, WRONG)
    async with serve(config) as process:
        client = await process.connect()
        for _ in range(10):
            assert await wrap_kind(client) is CustodyErrorKind.CREDENTIAL_UNCONFIRMED
        assert shim.logins() == []
        write_pin(shim, shim.hsm.pin)
        await until_state(client, RootKeyState.USABLE)
        assert shim.logins() == ["0"]


async def test_newly_confirmed_credential_is_used_without_restart(
    config: CustodyConfig, shim: Shim, serve: Serve
) -> None:
    assert config.credential is not None
    unconfirmed = config.model_copy(update={"credential": config.credential.model_copy(update={"hmac": None})})
    async with serve(unconfirmed) as process:
        client = await process.connect()
        assert await wrap_kind(client) is CustodyErrorKind.CREDENTIAL_UNCONFIRMED
        assert shim.logins() == []
        write_config(process, config)
        await until_state(client, RootKeyState.USABLE)
        assert shim.logins() == ["0"]


async def test_pin_changed_in_the_token_is_a_lost_authorization(
    config: CustodyConfig, shim: Shim, serve: Serve
) -> None:
    new_pin = "the-new-pin-of-the-token"
    async with serve(config) as process:
        client = await process.connect()
        await until_state(client, RootKeyState.USABLE)
        shim.hsm.administer("session.set_pin(sys.stdin.read() or argv[4], argv[5])", "", shim.hsm.pin, new_pin)
        assert await wrap_kind(client) is None, "the session that is open stays open"
        shim.fail(0x30)  # CKR_DEVICE_ERROR: the session must be opened again
        assert await wrap_kind(client) is not None
        shim.answer()
        description = await until_state(client, RootKeyState.REVOKED)
        assert kind_of(description) is CustodyErrorKind.AUTHORIZATION_LOST
        for _ in range(5):
            assert await wrap_kind(client) is CustodyErrorKind.AUTHORIZATION_LOST
        assert shim.logins().count("0xa0") == 1
        assert config.credential is not None
        confirmed = hmac.new(config.credential.key_file.read_bytes(), new_pin.encode(), hashlib.sha256).hexdigest()
        check = config.credential.model_copy(update={"hmac": confirmed})
        write_config(process, config.model_copy(update={"credential": check}))
        write_pin(shim, new_pin)
        await until_state(client, RootKeyState.USABLE)
        assert shim.logins().count("0xa0") == 1
        assert new_pin not in process.log.read_text()

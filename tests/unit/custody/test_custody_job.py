"""``kmip-custody job`` as the operator runs it: a process, a request, a result and an exit code."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from support.custody_backends import KEY_ID
from support.custody_client import run_job
from support.softhsm import SoftHsm, make_shim

from kmip_contract.rootkey import (
    Connection,
    CredentialCheck,
    CustodyErrorKind,
    RootKeyAction,
    RootKeyRequest,
    RootKeyResult,
    SoftwareConnection,
)

MECHANISMS = ["AES_GCM", "AES_CBC_PAD_HMAC", "AES_KEY_WRAP_PAD"]


def ask(connection: Connection, action: RootKeyAction, **fields: object) -> RootKeyRequest:
    return RootKeyRequest.model_validate({"action": action, "connection": connection, **fields})


def refused(hsm: SoftHsm, request: RootKeyRequest) -> tuple[CustodyErrorKind, str]:
    """Kind and message of a job that must fail."""
    code, result, log = run_job(request, hsm.environment)
    assert code == 1
    assert result.error is not None
    assert hsm.pin not in log + result.model_dump_json()
    return result.error.kind, result.error.message


def test_probe_describes_the_token_and_confirms_the_credential(hsm: SoftHsm, tmp_path: Path) -> None:
    (tmp_path / "hmac.key").write_bytes(b"h" * 32)
    check = CredentialCheck(key_file=tmp_path / "hmac.key")
    term = tmp_path / "termination-log"
    term.touch()
    code, result, log = run_job(
        ask(hsm.connection(), RootKeyAction.PROBE, credential=check), hsm.environment, "--result-file", str(term)
    )
    assert code == 0, log
    assert result.root_key is None
    assert result.facts.manufacturer == "SoftHSM project"
    assert result.facts.mechanism == "AES_GCM"
    assert result.credential_hmac == hmac.new(b"h" * 32, hsm.pin.encode(), hashlib.sha256).hexdigest()
    assert RootKeyResult.model_validate_json(term.read_bytes()) == result
    assert len(term.read_bytes()) <= 4096
    assert hsm.pin not in log + term.read_text()
    assert hsm.labels() == [], "a probe leaves nothing in the token"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_create_is_idempotent(hsm: SoftHsm, mechanism: str) -> None:
    request = ask(hsm.connection(mechanism), RootKeyAction.CREATE, key_id=KEY_ID, label="default/crk")
    results = [run_job(request, hsm.environment) for _ in range(2)]
    assert [code for code, _, _ in results] == [0, 0]
    (_, first, _), (_, second, _) = results
    assert first.created
    assert not second.created
    assert first.root_key is not None
    assert first.root_key == second.root_key
    assert first.facts.mechanism == mechanism
    expected = {"default/crk/1"} | ({"default/crk/1/mac"} if mechanism == "AES_CBC_PAD_HMAC" else set())
    assert set(hsm.labels()) == expected
    assert len(hsm.labels()) == len(expected)


def test_create_logs_in_once(hsm: SoftHsm) -> None:
    shim = make_shim(hsm)
    request = ask(shim.connection("AES_CBC_PAD_HMAC"), RootKeyAction.CREATE, key_id=KEY_ID)
    assert run_job(request, shim.environment)[0] == 0
    assert shim.logins() == ["0"]


@pytest.mark.parametrize("length", [128, 192, 256])
def test_create_has_the_length_asked_for(hsm: SoftHsm, length: int) -> None:
    request = ask(hsm.connection(), RootKeyAction.CREATE, key_id=KEY_ID, length=length)
    code, result, _ = run_job(request, hsm.environment)
    assert code == 0
    assert result.root_key is not None
    handle = result.root_key.versions[0].handle
    assert hsm.administer("print(keys[0][Attribute.VALUE_LEN])", handle) == str(length // 8)
    other = 128 if length != 128 else 256
    kind, _ = refused(hsm, request.model_copy(update={"length": other}))
    assert kind is CustodyErrorKind.ROOT_KEY_UNSUITABLE


_MAKE = (
    "session.generate_key(KeyType.AES, 256, id=b'adopt-me', label='theirs', store=True, template={"
    "Attribute.SENSITIVE: %s, Attribute.EXTRACTABLE: %s})"
)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name", ["theirs", b"adopt-me".hex()])
def test_adopt_finds_by_id_or_label(hsm: SoftHsm, mechanism: str, name: str) -> None:
    hsm.administer(_MAKE % (True, False))
    code, result, log = run_job(ask(hsm.connection(mechanism), RootKeyAction.ADOPT, key_id=name), hsm.environment)
    assert code == 0, log
    assert result.root_key is not None
    assert result.root_key.key_id == b"adopt-me".hex(), "one key has one id, however it was named"
    assert result.root_key.versions[0].handle == b"adopt-me".hex()
    assert not result.created
    assert hsm.labels() == ["theirs"] + (["theirs/mac"] if mechanism == "AES_CBC_PAD_HMAC" else [])


def test_adopt_refuses_what_can_leave_the_token(hsm: SoftHsm) -> None:
    hsm.administer(_MAKE % (False, True))
    kind, message = refused(hsm, ask(hsm.connection(), RootKeyAction.ADOPT, key_id="theirs"))
    assert kind is CustodyErrorKind.ROOT_KEY_UNSUITABLE
    assert "CKA_EXTRACTABLE" in message
    assert "CKA_SENSITIVE" in message


def test_adopt_refuses_an_ambiguous_label(hsm: SoftHsm) -> None:
    hsm.administer(_MAKE % (True, False))
    hsm.administer((_MAKE % (True, False)).replace("adopt-me", "other-id"))
    kind, message = refused(hsm, ask(hsm.connection(), RootKeyAction.ADOPT, key_id="theirs"))
    assert kind is CustodyErrorKind.ROOT_KEY_UNSUITABLE
    assert b"other-id".hex() in message


def test_adopt_of_a_missing_key(hsm: SoftHsm) -> None:
    kind, message = refused(hsm, ask(hsm.connection(), RootKeyAction.ADOPT, key_id="nobody"))
    assert kind is CustodyErrorKind.ROOT_KEY_NOT_FOUND
    assert "'nobody'" in message


def test_disabled_key_is_not_usable(hsm: SoftHsm) -> None:
    request = ask(hsm.connection(), RootKeyAction.CREATE, key_id=KEY_ID)
    _, result, _ = run_job(request, hsm.environment)
    assert result.root_key is not None
    hsm.permit(result.root_key.versions[0].handle, "DECRYPT", allowed=False)
    assert refused(hsm, request)[0] is CustodyErrorKind.ROOT_KEY_DISABLED


def test_each_missing_part_is_named(hsm: SoftHsm, tmp_path: Path) -> None:
    connection = hsm.connection()

    def probe(**changes: object) -> tuple[CustodyErrorKind, str]:
        return refused(hsm, ask(connection.model_copy(update=changes), RootKeyAction.PROBE))

    kind, message = probe(pin_file=tmp_path / "no-pin")
    assert kind is CustodyErrorKind.CONFIGURATION
    assert str(tmp_path / "no-pin") in message
    kind, message = probe(module=tmp_path / "no-module.so")
    assert kind is CustodyErrorKind.MODULE_NOT_FOUND
    assert str(tmp_path / "no-module.so") in message
    (tmp_path / "text.so").write_text("not a library")
    assert probe(module=tmp_path / "text.so")[0] is CustodyErrorKind.MODULE_NOT_FOUND
    kind, message = probe(token_label="elsewhere")
    assert kind is CustodyErrorKind.TOKEN_NOT_FOUND
    assert "'elsewhere'" in message
    assert "'kmip'" in message


def test_wrong_pin_reaches_the_token_once(hsm: SoftHsm) -> None:
    shim = make_shim(hsm)
    hsm.pin_file.write_text("not-the-pin\n")
    code, result, log = run_job(ask(shim.connection(), RootKeyAction.CREATE, key_id=KEY_ID), shim.environment)
    assert code == 1
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.CREDENTIAL_REFUSED
    assert shim.logins() == ["0xa0"]
    assert "not-the-pin" not in log + result.model_dump_json()


def test_hung_module_ends_the_job(hsm: SoftHsm) -> None:
    shim = make_shim(hsm)
    shim.hang()
    code, result, _ = run_job(ask(shim.connection(), RootKeyAction.PROBE), shim.environment, "--deadline", "1")
    assert code == 1
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.DEADLINE_EXCEEDED


def test_crashing_module_gives_a_result(hsm: SoftHsm, tmp_path: Path) -> None:
    shim = make_shim(hsm)
    shim.crash()
    term = tmp_path / "term"
    code, result, _ = run_job(ask(shim.connection(), RootKeyAction.PROBE), shim.environment, "--result-file", str(term))
    assert code == 1
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.UNAVAILABLE
    assert "SIGSEGV" in result.error.message
    assert RootKeyResult.model_validate_json(term.read_bytes()) == result


def test_adopting_the_id_of_a_created_key_keeps_it(hsm: SoftHsm) -> None:
    _, created, _ = run_job(ask(hsm.connection(), RootKeyAction.CREATE, key_id=KEY_ID), hsm.environment)
    _, adopted, _ = run_job(ask(hsm.connection(), RootKeyAction.ADOPT, key_id=KEY_ID), hsm.environment)
    assert adopted.root_key == created.root_key


def test_software_key(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_bytes(b"s" * 31)
    request = ask(SoftwareConnection(seed_file=seed), RootKeyAction.CREATE, key_id=KEY_ID)
    code, result, _ = run_job(request)
    assert code == 1
    assert result.error is not None
    assert result.error.kind is CustodyErrorKind.CONFIGURATION
    assert "31 bytes" in result.error.message
    seed.write_bytes(b"s" * 32)
    for action in (RootKeyAction.CREATE, RootKeyAction.ADOPT, RootKeyAction.PROBE):
        code, result, log = run_job(request.model_copy(update={"action": action}))
        assert code == 0, log
        assert (result.root_key is None) == (action is RootKeyAction.PROBE)


def test_result_always_fits_a_termination_message(tmp_path: Path) -> None:
    seed = tmp_path / "missing"
    connection = SoftwareConnection(seed_file=seed)
    request = ask(connection, RootKeyAction.CREATE, key_id="k" * 6000)
    term = tmp_path / "term"
    run_job(request, None, "--result-file", str(term))
    assert len(term.read_bytes()) <= 4096
    seed.write_bytes(b"s" * 32)
    code, result, _ = run_job(request, None, "--result-file", str(term))
    assert code == 1
    assert result.error is not None
    assert len(term.read_bytes()) <= 4096
    assert json.loads(term.read_text())["error"]["kind"] == result.error.kind

"""When a credential is handed out."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from kmip_contract.rootkey import CredentialCheck, CustodyErrorKind
from kmip_custody.credential import MAX_CREDENTIAL, Credential
from kmip_custody.errors import CustodyError

KEY = b"k" * 32


def hmac_of(secret: bytes) -> str:
    return hmac.new(KEY, secret, hashlib.sha256).hexdigest()


def make(tmp_path: Path, content: bytes, confirmed: bytes | None = None, *, text: bool = True) -> Credential:
    (tmp_path / "pin").write_bytes(content)
    (tmp_path / "hmac.key").write_bytes(KEY)
    check = CredentialCheck(key_file=tmp_path / "hmac.key", hmac=hmac_of(confirmed) if confirmed else None)
    return Credential(tmp_path / "pin", text=text, check=check, require_confirmed=True)


def kind_of(credential: Credential) -> CustodyErrorKind:
    with pytest.raises(CustodyError) as caught:
        credential.read()
    assert "1234" not in caught.value.message
    return caught.value.kind


@pytest.mark.parametrize("content", [b"1234", b"1234\n", b"1234\r\n"])
def test_line_end_is_not_part_of_a_pin(tmp_path: Path, content: bytes) -> None:
    assert make(tmp_path, content, b"1234").read() == b"1234"


def test_every_byte_is_part_of_a_seed(tmp_path: Path) -> None:
    assert make(tmp_path, b"s" * 32 + b"\n", b"s" * 32 + b"\n", text=False).read() == b"s" * 32 + b"\n"


def test_unconfirmed_is_not_handed_out(tmp_path: Path) -> None:
    assert kind_of(make(tmp_path, b"1234", b"12345")) is CustodyErrorKind.CREDENTIAL_UNCONFIRMED
    assert kind_of(make(tmp_path, b"1234")) is CustodyErrorKind.CREDENTIAL_UNCONFIRMED


def test_refused_is_not_handed_out_again_until_it_changes(tmp_path: Path) -> None:
    credential = make(tmp_path, b"1234", b"1234")
    assert credential.refused(credential.read()).kind is CustodyErrorKind.CREDENTIAL_REFUSED
    assert kind_of(credential) is CustodyErrorKind.CREDENTIAL_REFUSED
    credential.path.write_bytes(b"1234\n")  # rewritten, but the same PIN
    assert kind_of(credential) is CustodyErrorKind.CREDENTIAL_REFUSED
    credential.path.write_bytes(b"4321")
    credential.check = CredentialCheck(key_file=tmp_path / "hmac.key", hmac=hmac_of(b"4321"))
    assert credential.read() == b"4321"


def test_accepted_then_refused_is_a_lost_authorization(tmp_path: Path) -> None:
    credential = make(tmp_path, b"1234", b"1234")
    credential.accepted(credential.read())
    assert credential.refused(b"1234").kind is CustodyErrorKind.AUTHORIZATION_LOST
    assert kind_of(credential) is CustodyErrorKind.AUTHORIZATION_LOST


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * (MAX_CREDENTIAL + 1)])
def test_useless_files_are_configuration_errors(tmp_path: Path, content: bytes) -> None:
    assert kind_of(make(tmp_path, content, b"1234")) is CustodyErrorKind.CONFIGURATION


def test_missing_file_is_named(tmp_path: Path) -> None:
    credential = make(tmp_path, b"1234", b"1234")
    credential.path.unlink()
    with pytest.raises(CustodyError, match=str(credential.path)) as caught:
        credential.read()
    assert caught.value.kind is CustodyErrorKind.CONFIGURATION
    assert credential.signature() is None


def test_hmac_is_what_a_job_reports(tmp_path: Path) -> None:
    assert make(tmp_path, b"1234\n").hmac() == hmac_of(b"1234")

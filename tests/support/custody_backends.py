"""Every provider and mechanism behind one face, each over its real key manager."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from support.fake_keyprotect import FakeKeyProtect
from support.softhsm import SoftHsm
from support.vault import VaultServer

from kmip_contract.custody import WrapContext
from kmip_contract.rootkey import Connection, CustodyErrorKind, RootKeyRef, RootKeyVersion, VaultConnection
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import FoundKey, RootKeyProvider
from kmip_custody.rootkey import Result, RootKey

TOKENS = ("AES_GCM", "AES_CBC_PAD_HMAC", "AES_KEY_WRAP_PAD")
BACKENDS = ("software", *TOKENS, "vault", "keyprotect")
KEY_ID = "6d1f0c52-9a8e-5e0c-8a70-3ab8a35a3ab1"


@dataclass
class Backend:
    """An open provider, the token behind it if there is one, and what its processes need in their environment."""

    name: str
    provider: RootKeyProvider
    connection: Connection
    hsm: SoftHsm | None
    vault: VaultServer | None = None
    keyprotect: FakeKeyProtect | None = None

    def pass_time(self) -> None:
        """Let Key Protect do again what it does once an hour."""
        if self.keyprotect is not None:
            self.keyprotect.pass_time()

    def allow_deletion(self) -> None:
        """Take the safety catch off Vault's key."""
        assert self.vault is not None
        assert isinstance(self.connection, VaultConnection)
        self.vault.api("POST", f"{self.connection.mount}/keys/{KEY_ID}/config", {"deletion_allowed": True})

    @property
    def environment(self) -> Mapping[str, str]:
        """For a process of its own over the same key manager."""
        return self.hsm.environment if self.hsm else {}

    @property
    def token(self) -> SoftHsm:
        """The token; for backends that have one."""
        assert self.hsm is not None
        return self.hsm

    async def root_key(self, key_id: str = KEY_ID, versions: int = 1) -> RootKey:
        """A root key with ``versions`` versions, found or created."""
        found = []
        for number in range(1, versions + 1):
            self.pass_time()
            found.append(await self.provider.create(key_id, number, "default/crk", 256))
        return RootKey(self.provider, reference(key_id, *found))


def reference(key_id: str, *found: FoundKey) -> RootKeyRef:
    """The root key of ``found``."""
    return RootKeyRef(
        key_id=key_id, versions=tuple(RootKeyVersion(version=f.key.version, handle=f.key.handle) for f in found)
    )


def handle_of(root_key: RootKey) -> str:
    """What the token calls the newest version."""
    return root_key.ref.versions[-1].handle


async def wrap(root_key: RootKey, bound: WrapContext, plaintext: bytes) -> bytes:
    """The record; an error fails the test."""
    (outcome,) = await root_key.wrap([(bound, plaintext)], monotonic() + 30)
    assert isinstance(outcome, Result), outcome
    return outcome.data


async def try_wrap(root_key: RootKey, bound: WrapContext) -> CustodyErrorKind | None:
    """What kind of error wrapping gives, if any."""
    (outcome,) = await root_key.wrap([(bound, bytes(32))], monotonic() + 30)
    return outcome.kind if isinstance(outcome, CustodyError) else None


async def unwrap(root_key: RootKey, bound: WrapContext, record: bytes) -> bytes | CustodyErrorKind:
    """The plaintext, or the kind of error."""
    (outcome,) = await root_key.unwrap([(bound, record)], monotonic() + 30)
    return outcome.kind if isinstance(outcome, CustodyError) else outcome.data

"""Every provider and mechanism behind one face, each over its real key manager."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from support.softhsm import SoftHsm

from kmip_contract.custody import WrapContext
from kmip_contract.rootkey import Connection, CustodyErrorKind, RootKeyRef, RootKeyVersion
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import FoundKey, RootKeyProvider
from kmip_custody.rootkey import Result, RootKey

BACKENDS = ("software", "AES_GCM", "AES_CBC_PAD_HMAC", "AES_KEY_WRAP_PAD")
KEY_ID = "6d1f0c52-9a8e-5e0c-8a70-3ab8a35a3ab1"


@dataclass
class Backend:
    """An open provider, and the token behind it unless it is software."""

    provider: RootKeyProvider
    connection: Connection
    hsm: SoftHsm | None

    @property
    def token(self) -> SoftHsm:
        """The token; for backends that have one."""
        assert self.hsm is not None
        return self.hsm

    async def root_key(self, key_id: str = KEY_ID, versions: int = 1) -> RootKey:
        """A root key with ``versions`` versions, found or created."""
        found = [await self.provider.create(key_id, number, "default/crk", 256) for number in range(1, versions + 1)]
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
    (outcome,) = await root_key.wrap([(bound, plaintext)], monotonic() + 10)
    assert isinstance(outcome, Result), outcome
    return outcome.data


async def try_wrap(root_key: RootKey, bound: WrapContext) -> CustodyErrorKind | None:
    """What kind of error wrapping gives, if any."""
    (outcome,) = await root_key.wrap([(bound, bytes(32))], monotonic() + 10)
    return outcome.kind if isinstance(outcome, CustodyError) else None


async def unwrap(root_key: RootKey, bound: WrapContext, record: bytes) -> bytes | CustodyErrorKind:
    """The plaintext, or the kind of error."""
    (outcome,) = await root_key.unwrap([(bound, record)], monotonic() + 10)
    return outcome.kind if isinstance(outcome, CustodyError) else outcome.data

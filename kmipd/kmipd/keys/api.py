"""What operations ask of the keys layer, and how it refuses."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kmip_contract.custody import WrapContext
from kmip_contract.rootkey import CustodyErrorKind


class KeyUnavailable(Exception):
    """A key cannot be wrapped or unwrapped. ``kind`` says why; the message holds no secret."""

    def __init__(self, kind: CustodyErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WrappedKey(NamedTuple):
    """Custody's record of one key, and the root key and version that wrap it."""

    record: bytes
    root_key_id: str
    root_key_version: int


class Keys(Protocol):
    """Wraps and unwraps by the root key. Both methods raise :class:`KeyUnavailable`, also while the instance is fenced."""

    async def wrap(self, context: WrapContext, plaintext: bytes | bytearray) -> WrappedKey:
        """Wrap ``plaintext``, bound to ``context``."""

    async def unwrap(self, context: WrapContext, record: bytes) -> bytes:
        """The plaintext of ``record``; from the cache (without suspending) while that is allowed."""

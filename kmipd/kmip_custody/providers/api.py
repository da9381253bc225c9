"""What custody asks of a key manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kmip_contract.rootkey import KeyVersionState, ProviderFacts, RootKeyFacts
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError
from kmip_custody.record import Sealed


class KeyVersion(NamedTuple):
    """One version of a root key; ``handle`` is its name in the key manager."""

    key_id: str
    version: int
    handle: str


class WrapItem(NamedTuple):
    """One plaintext; the provider is done with its buffer when ``wrap`` returns."""

    plaintext: bytes | memoryview
    aad: bytes


class UnwrapItem(NamedTuple):
    """One sealed plaintext and the key version that sealed it."""

    key: KeyVersion
    sealed: Sealed
    aad: bytes


class FoundKey(NamedTuple):
    """A root-key version in the key manager; ``note`` tells a person what is unusual about it."""

    key: KeyVersion
    state: KeyVersionState
    note: str = ""


class Described(NamedTuple):
    """The versions of a root key that the key manager has, oldest first, and what it says of the key."""

    versions: tuple[FoundKey, ...]
    facts: RootKeyFacts


class Gone(NamedTuple):
    """What a key manager says of a root key it was told to destroy; see kmip_contract.rootkey.Destruction."""

    restorable_until: datetime | None = None
    purgeable_at: datetime | None = None
    note: str = ""


class RootKeyProvider(Protocol):
    """One key manager behind one connection.

    Every method raises, or gives per item, :class:`CustodyError`. ``wrap`` and ``unwrap`` return a future at once (already
    done where no wait is needed), open the connection when it is not open, and end at ``deadline`` (monotonic clock): items not
    done by then are DeadlineExceeded.
    """

    name: str

    @property
    def newer_handle(self) -> str | None:
        """A version noticed in the key manager that is newer than those it was asked to use."""

    @property
    def mechanism(self) -> str:
        """What new records are made with; known once open."""

    @property
    def hung_for(self) -> float:
        """Seconds the key manager's code has been past its call deadline; 0 while it answers."""

    async def open(self, keys: Sequence[KeyVersion] = ()) -> ProviderFacts:
        """Log in if not logged in, choose the mechanism (proved through ``keys`` if given), and describe the key manager."""

    async def probe(self) -> ProviderFacts:
        """Log in and prove the mechanism without a root key."""

    async def inspect(self, keys: Sequence[KeyVersion]) -> list[KeyVersionState]:
        """The state of each version in the key manager."""

    async def self_test(self, key: KeyVersion) -> None:
        """Prove through ``key`` that wrap and unwrap agree and that wrong AAD and a changed record are refused."""

    def wrap(
        self, key: KeyVersion, items: Sequence[WrapItem], deadline: float
    ) -> asyncio.Future[list[Sealed | CustodyError]]:
        """Seal each item with ``key`` and :attr:`mechanism`."""

    def unwrap(self, items: Sequence[UnwrapItem], deadline: float) -> asyncio.Future[list[bytes | CustodyError]]:
        """Open each item."""

    async def find(self, key_id: str) -> tuple[FoundKey, ...]:
        """The versions of the root key that :meth:`create` made for ``key_id``; empty if there are none."""

    async def adopt(self, key_id: str) -> FoundKey:
        """Find an existing key that ``key_id`` names in the key manager's terms and check that it can be a root key.

        The key found carries its canonical id, which is the same whichever way it was named.
        """

    async def create(self, key_id: str, version: int, label: str, length: int) -> FoundKey:
        """Make one version; safe to repeat: a version that exists is returned as it is."""

    async def describe(self, keys: Sequence[KeyVersion]) -> Described:
        """The root key whose versions ``keys`` (at least one) are known, with those that are not."""

    async def rotate(self, keys: Sequence[KeyVersion], label: str) -> None:
        """Add a version to the root key of which ``keys`` are all that is known; nothing if a newer one is there.

        Raises:
            CustodyError: as everywhere; NotSupportedError, also from the three that follow.
        """

    async def disable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """Suspend ``keys``, which are (``whole``) all versions of the root key."""

    async def enable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """Let ``keys`` serve again."""

    async def destroy(self, keys: Sequence[KeyVersion], *, whole: bool, purge: bool) -> Gone:
        """Destroy ``keys``; those that are gone already are no error. ``purge``: so that none can be restored."""

    async def close(self) -> None:
        """Log out and let go of the key manager."""


class Options(NamedTuple):
    """``call_deadline``: seconds after which a call counts as hung. ``writable``: keys are going to be made."""

    call_deadline: float
    writable: bool = False


class ProviderType(NamedTuple):
    """How a connection type is served: its credential file (``text``: a final line end is not part of it) and its factory.

    ``confirmable``: whether the credential stays as it was confirmed; not so where something else keeps renewing it.
    """

    credential_file: Callable[[Any], Path]
    text: bool
    make: Callable[[Any, Credential, Options], RootKeyProvider]
    confirmable: Callable[[Any], bool] = lambda _: True

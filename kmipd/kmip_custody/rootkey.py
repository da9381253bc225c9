"""The root key this custody serves: which version wraps, which unwraps a record, and whether it works now."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple, TypeVar

from kmip_contract.custody import CustodyDescription, RootKeyState, WrapContext
from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, ProviderFacts, RootKeyRef, RootKeyVersion
from kmip_custody import record
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import KeyVersion, RootKeyProvider, UnwrapItem, WrapItem
from kmip_custody.record import Record, Sealed

A = TypeVar("A")
B = TypeVar("B")
Items = Sequence[tuple[WrapContext, bytes | memoryview]]


class Result(NamedTuple):
    """A record or a plaintext, and the version of the root key that wraps it."""

    data: bytes
    version: int


Outcomes = list[Result | CustodyError]

_CANARY_AAD = b"kmip-operator/canary/1"
_CANARY_DEADLINE = 5.0
"""Seconds for each half of the canary: the slowest documented single operations of vendors stay below."""


class RootKey:
    """Records and versions over a provider. ``ref`` may be replaced while serving (a new version, a changed state)."""

    def __init__(self, provider: RootKeyProvider, ref: RootKeyRef) -> None:
        self._provider = provider
        self._loop = asyncio.get_running_loop()
        self._opened = False
        self._opening: asyncio.Task[ProviderFacts] | None = None
        self._facts = ProviderFacts()
        self.replace(ref)

    def replace(self, ref: RootKeyRef) -> None:
        """Serve ``ref`` from now on."""
        self.ref = ref
        self._versions = {version.version: version for version in ref.versions}
        self._keys = {
            number: KeyVersion(ref.key_id, number, version.handle) for number, version in self._versions.items()
        }
        active = [number for number, version in self._versions.items() if version.state is KeyVersionState.ACTIVE]
        self.current = max(active, default=0)

    def wrap(self, items: Items, deadline: float) -> asyncio.Future[Outcomes]:
        """The records in order. The buffers are free when this returns."""
        return self._act(self._wrap, items, deadline)

    def unwrap(self, items: Items, deadline: float) -> asyncio.Future[Outcomes]:
        """The plaintexts in order. The buffers are free when this returns."""
        return self._act(self._unwrap, items, deadline)

    async def describe(self) -> CustodyDescription:
        """The root key with its versions' states as the key manager has them, proved by a wrap and unwrap just now."""
        try:
            self._facts = await self._open()
            ref = RootKeyRef(key_id=self.ref.key_id, versions=await self._inspect())
            await self._canary()
        except CustodyError as error:
            state = RootKeyState.REVOKED if error.kind.revoked else RootKeyState.UNREACHABLE
            return CustodyDescription(
                root_key=self.ref,
                current_version=self.current,
                state=state,
                facts=self._facts,
                error=error.failure(),
            )
        return CustodyDescription(
            root_key=ref,
            current_version=self.current,
            newer_handle=self._provider.newer_handle,
            state=RootKeyState.USABLE,
            facts=self._facts,
        )

    async def _open(self) -> ProviderFacts:
        current = (self._keys[self.current],) if self.current else ()
        facts = await self._provider.open(current)
        self._opened = True
        return facts

    def _act(
        self, action: Callable[[Items, float], asyncio.Future[Outcomes]], items: Items, deadline: float
    ) -> asyncio.Future[Outcomes]:
        if self._opened:
            return action(items, deadline)
        copies = [(context, bytes(data)) for context, data in items]
        return self._loop.create_task(self._open_and(action, copies, deadline))

    async def _open_and(
        self, action: Callable[[Items, float], asyncio.Future[Outcomes]], items: Items, deadline: float
    ) -> Outcomes:
        try:
            await self._open_by(deadline)
        except CustodyError as error:
            return [error] * len(items)
        return await action(items, deadline)

    async def _open_by(self, deadline: float) -> None:
        """Open; all who come first at one moment share it."""
        if self._opening is None or self._opening.done():
            self._opening = self._loop.create_task(self._open())
            # Nobody may be left to be told.
            self._opening.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        try:
            async with asyncio.timeout(max(0.0, deadline - monotonic())):
                await asyncio.shield(self._opening)
        except TimeoutError:
            raise CustodyError(
                CustodyErrorKind.DEADLINE_EXCEEDED,
                "the key manager did not open within the request's deadline; try again",
            ) from None

    def _wrap(self, items: Items, deadline: float) -> asyncio.Future[Outcomes]:
        if not self.current:
            return self._done([self._no_active_version()] * len(items))
        provider, key = self._provider, self._keys[self.current]
        head = record.bind(provider.name, key.key_id, key.version, provider.mechanism, b"")
        sealed = provider.wrap(key, [WrapItem(data, head + context.aad()) for context, data in items], deadline)

        def encode(outcome: Sealed | CustodyError) -> Result | CustodyError:
            if isinstance(outcome, CustodyError):
                return outcome
            return Result(record.encode(Record(provider.name, key.key_id, key.version, outcome)), key.version)

        return self._then(sealed, lambda outcomes: [encode(outcome) for outcome in outcomes])

    def _unwrap(self, items: Items, deadline: float) -> asyncio.Future[Outcomes]:
        outcomes: list[Result | CustodyError | None] = [None] * len(items)
        places: list[int] = []
        asked: list[UnwrapItem] = []
        for place, (context, data) in enumerate(items):
            try:
                asked.append(self._to_unwrap(context, bytes(data)))
            except CustodyError as error:
                outcomes[place] = error
            else:
                places.append(place)

        def fill(opened: list[bytes | CustodyError]) -> Outcomes:
            for place, item, outcome in zip(places, asked, opened, strict=True):
                outcomes[place] = outcome if isinstance(outcome, CustodyError) else Result(outcome, item.key.version)
            return [outcome for outcome in outcomes if outcome is not None]

        if not asked:
            return self._done(fill([]))
        return self._then(self._provider.unwrap(asked, deadline), fill)

    def _to_unwrap(self, context: WrapContext, data: bytes) -> UnwrapItem:
        wrapped = record.decode(data)
        if wrapped.provider != self._provider.name or wrapped.key_id != self.ref.key_id:
            raise CustodyError(
                CustodyErrorKind.INTEGRITY,
                f"the record is wrapped by {wrapped.provider} root key {wrapped.key_id!r}, and this custody serves "
                f"{self._provider.name} root key {self.ref.key_id!r}",
            )
        key = self._keys.get(wrapped.version)
        if key is None:
            kind = CustodyErrorKind.UNAVAILABLE if wrapped.version > self.current else CustodyErrorKind.INTEGRITY
            raise CustodyError(
                kind,
                f"the record is wrapped by version {wrapped.version} of the root key, which this custody's configuration "
                "does not name; apply the configuration that does",
            )
        self._demand_serving(self._versions[wrapped.version])
        header = record.bind(wrapped.provider, wrapped.key_id, wrapped.version, wrapped.sealed.mechanism, context.aad())
        return UnwrapItem(key, wrapped.sealed, header)

    def _demand_serving(self, version: RootKeyVersion) -> None:
        if version.state is KeyVersionState.SUSPENDED:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_DISABLED, f"version {version.version} of the root key is suspended; resume it"
            )
        if version.state is KeyVersionState.DESTROYED:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_DESTROYED, f"version {version.version} of the root key is destroyed"
            )

    def _no_active_version(self) -> CustodyError:
        states = {version.state for version in self.ref.versions}
        for state, kind in (
            (KeyVersionState.SUSPENDED, CustodyErrorKind.ROOT_KEY_DISABLED),
            (KeyVersionState.DESTROYED, CustodyErrorKind.ROOT_KEY_DESTROYED),
        ):
            if state in states:
                return CustodyError(kind, f"root key {self.ref.key_id!r} has no active version: {state.lower()}")
        return CustodyError(
            CustodyErrorKind.CONFIGURATION,
            f"root key {self.ref.key_id!r} has no active version in this custody's configuration; add the version's handle",
        )

    async def _inspect(self) -> tuple[RootKeyVersion, ...]:
        """The versions as configured, and Destroyed or Suspended where the key manager says so."""
        asked = [version for version in self.ref.versions if version.state is not KeyVersionState.DESTROYED]
        if not asked:
            return self.ref.versions
        states = await self._provider.inspect([self._keys[version.version] for version in asked])
        found = {version.version: state for version, state in zip(asked, states, strict=True)}
        gone = {KeyVersionState.DESTROYED, KeyVersionState.SUSPENDED}
        return tuple(
            version.model_copy(update={"state": found[version.version]})
            if found.get(version.version) in gone
            else version
            for version in self.ref.versions
        )

    async def _canary(self) -> None:
        if not self.current:
            raise self._no_active_version()
        key, plaintext = self._keys[self.current], secrets.token_bytes(32)
        sealed = (await self._provider.wrap(key, [WrapItem(plaintext, _CANARY_AAD)], monotonic() + _CANARY_DEADLINE))[0]
        if isinstance(sealed, CustodyError):
            raise sealed
        opened = (await self._provider.unwrap([UnwrapItem(key, sealed, _CANARY_AAD)], monotonic() + _CANARY_DEADLINE))[
            0
        ]
        if isinstance(opened, CustodyError):
            raise opened
        if not hmac.compare_digest(opened, plaintext):
            raise CustodyError(
                CustodyErrorKind.UNAVAILABLE, "the key manager does not return what it wrapped; check it"
            )

    def _then(self, future: asyncio.Future[A], transform: Callable[[A], B]) -> asyncio.Future[B]:
        """``transform`` of the future's result; done at once if ``future`` is."""
        chained: asyncio.Future[B] = self._loop.create_future()
        if future.done():
            chained.set_result(transform(future.result()))
        else:
            future.add_done_callback(
                lambda done: None if chained.done() else chained.set_result(transform(done.result()))
            )
        return chained

    def _done(self, outcomes: Outcomes) -> asyncio.Future[Outcomes]:
        future: asyncio.Future[Outcomes] = self._loop.create_future()
        future.set_result(outcomes)
        return future

"""The PKCS#11 provider: the asynchronous face of a token behind the module's thread."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog
from pkcs11 import KeyType

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, Pkcs11Connection, ProviderFacts
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError
from kmip_custody.module_thread import ModuleThread
from kmip_custody.providers.api import Described, FoundKey, Gone, KeyVersion, Options, UnwrapItem, WrapItem
from kmip_custody.providers.pkcs11 import keys, life
from kmip_custody.providers.pkcs11.errors import classify, connection_lost
from kmip_custody.providers.pkcs11.mechanisms import (
    PROFILES,
    KeyObjects,
    Profile,
    authentication_error,
    changed,
)
from kmip_custody.providers.pkcs11.token import LoggedInToken
from kmip_custody.providers.selftest import prove
from kmip_custody.record import Sealed

R = TypeVar("R")

VERSIONS_SEARCHED = 32
"""How many versions ``find`` looks for beyond the last it found: CKA_IDs are derived, so each is asked for, and old ones may be
gone; monthly rotation for well over two years."""

_CANARY_AAD = b"kmip-operator/canary/1"

_log = structlog.get_logger("kmip_custody.pkcs11")


class Pkcs11Provider:
    """See RootKeyProvider. Methods named ``_on_…`` run on the module's thread."""

    name = "pkcs11"
    newer_handle: str | None = None

    def __init__(self, connection: Pkcs11Connection, credential: Credential, options: Options) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._token = LoggedInToken(connection, credential, writable=options.writable)
        self._thread = ModuleThread("pkcs11", options.call_deadline)
        self._profile: Profile | None = None

    @property
    def mechanism(self) -> str:
        """The profile's name; the configured one, or the likely one, before the token is open."""
        if self._profile is not None:
            return self._profile.name
        return "AES_GCM" if self._connection.mechanism == "Auto" else self._connection.mechanism

    @property
    def hung_for(self) -> float:
        """See the protocol."""
        return self._thread.hung_for

    async def open(self, keys: Sequence[KeyVersion] = ()) -> ProviderFacts:
        """See the protocol."""
        return await self._thread.call(lambda: self._on_open(keys))

    async def probe(self) -> ProviderFacts:
        """See the protocol; the mechanism is proved with keys of the session, where the token allows such keys."""
        return await self._thread.call(self._on_probe)

    async def inspect(self, keys: Sequence[KeyVersion]) -> list[KeyVersionState]:
        """See the protocol. Versions made elsewhere are looked for by ``describe`` alone: each is a search of the token."""
        return await self._thread.call(lambda: [self._token.state(key) for key in keys])

    async def self_test(self, key: KeyVersion) -> None:
        """See the protocol."""
        await self._thread.call(lambda: self._on_self_test(key))

    def wrap(
        self, key: KeyVersion, items: Sequence[WrapItem], deadline: float
    ) -> asyncio.Future[list[Sealed | CustodyError]]:
        """See the protocol. Plaintexts are copied: python-pkcs11 takes ``bytes`` alone."""
        name = self.mechanism
        steps = [self._wrap_step(key, name, bytes(item.plaintext), item.aad) for item in items]
        return self._submit(steps, deadline)

    def unwrap(self, items: Sequence[UnwrapItem], deadline: float) -> asyncio.Future[list[bytes | CustodyError]]:
        """See the protocol."""
        return self._submit([self._unwrap_step(item) for item in items], deadline)

    async def find(self, key_id: str) -> tuple[FoundKey, ...]:
        """See the protocol."""
        return await self._thread.call(lambda: self._on_find(key_id))

    async def adopt(self, key_id: str) -> FoundKey:
        """See the protocol; ``key_id`` is a CKA_ID in hex, or a CKA_LABEL."""
        return await self._thread.call(lambda: self._on_adopt(key_id))

    async def create(self, key_id: str, version: int, label: str, length: int) -> FoundKey:
        """See the protocol."""
        return await self._thread.call(lambda: self._on_create(key_id, version, label, length))

    async def describe(self, keys: Sequence[KeyVersion]) -> Described:
        """See the protocol."""
        return await self._thread.call(lambda: self._on_describe(keys))

    async def rotate(self, keys: Sequence[KeyVersion], label: str) -> None:
        """See the protocol; a new key of the same length, whose CKA_ID is derived, so that a repetition finds it."""
        await self._thread.call(lambda: self._on_rotate(keys, label))

    async def disable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """See the protocol; by the attributes that permit use, where the token lets them be changed."""
        await self._thread.call(lambda: life.permit(self._token, keys, allowed=False))

    async def enable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """See the protocol."""
        await self._thread.call(lambda: life.permit(self._token, keys, allowed=True))

    async def destroy(self, keys: Sequence[KeyVersion], *, whole: bool, purge: bool) -> Gone:
        """See the protocol; the AES and MAC keys of each version."""
        return await self._thread.call(lambda: life.destroy(self._token, keys))

    async def close(self) -> None:
        """See the protocol; a hung module is left alone."""
        if not self._thread.hung_for and not self._thread.closed:
            await self._thread.call(self._token.close)
        self._thread.close()

    def _submit(self, steps: list[Callable[[], R]], deadline: float) -> asyncio.Future[list[R | CustodyError]]:
        try:
            return self._thread.submit(steps, deadline)
        except CustodyError as error:
            refused: asyncio.Future[list[R | CustodyError]] = self._loop.create_future()
            refused.set_result([error] * len(steps))
            return refused

    def _wrap_step(self, key: KeyVersion, mechanism: str, plaintext: bytes, aad: bytes) -> Callable[[], Sealed]:
        return lambda: self._on_seal(key, PROFILES[mechanism], plaintext, aad)

    def _unwrap_step(self, item: UnwrapItem) -> Callable[[], bytes]:
        return lambda: self._on_unseal(item)

    def _on_open(self, versions: Sequence[KeyVersion]) -> ProviderFacts:
        self._token.session()
        if self._profile not in self._token.profiles:
            self._profile = None
        if self._profile is None:
            self._profile = self._choose(versions)
        return self._token.facts().model_copy(update={"mechanism": self._profile.name})

    def _choose(self, versions: Sequence[KeyVersion]) -> Profile:
        """The first profile that proves itself through the newest of ``versions``; the first at all without one."""
        profiles = self._token.profiles
        if not versions or len(profiles) == 1:
            return profiles[0]
        first_failure: CustodyError | None = None
        for profile in profiles:
            try:
                self._prove(self._token.objects(versions[-1])[0], profile)
            except CustodyError as error:
                if error.kind is not CustodyErrorKind.ROOT_KEY_UNSUITABLE:
                    raise
                first_failure = first_failure or error
                _log.warning("mechanism.refused", mechanism=profile.name, reason=error.message)
            else:
                return profile
        raise first_failure or CustodyError(CustodyErrorKind.CONFIGURATION, "no mechanism to choose from")

    def _on_probe(self) -> ProviderFacts:
        self._token.session()
        failure: CustodyError | None = None
        for profile in self._token.profiles:
            try:
                objects = self._token.temporary(profile)
                if objects is not None:
                    self._prove(objects, profile)
            except CustodyError as error:
                if error.kind is not CustodyErrorKind.ROOT_KEY_UNSUITABLE:
                    raise
                failure = failure or error
            else:
                self._profile = profile
                return self._token.facts().model_copy(update={"mechanism": profile.name})
        raise failure or CustodyError(CustodyErrorKind.CONFIGURATION, "no mechanism to choose from")

    def _on_self_test(self, key: KeyVersion) -> None:
        self._on_open((key,))
        self._prove(self._token.objects(key)[0], self._profile or self._token.profile)

    def _prove(self, objects: KeyObjects, profile: Profile) -> None:
        def unseal(sealed: Sealed, aad: bytes) -> bytes:
            try:
                return profile.unseal(objects, sealed, aad)
            except CustodyError:
                raise
            except Exception as error:  # python-pkcs11 raises many types here
                if authentication_error(error):
                    raise changed() from None
                raise classify(error, "unwrapping") from None

        def seal(plaintext: bytes, aad: bytes) -> Sealed:
            try:
                return profile.seal(objects, plaintext, aad)
            except Exception as error:  # as above
                raise classify(error, "wrapping") from None

        prove(seal, unseal)

    def _on_seal(self, key: KeyVersion, profile: Profile, plaintext: bytes, aad: bytes) -> Sealed:
        try:
            return profile.seal(self._token.objects(key)[0], plaintext, aad)
        except CustodyError:
            raise
        except Exception as error:  # python-pkcs11 raises AttributeError and others beside its own
            self._start_over(key, error)
        try:
            return profile.seal(self._token.objects(key)[0], plaintext, aad)
        except Exception as error:  # as above
            raise classify(error, "wrapping") from None

    def _on_unseal(self, item: UnwrapItem) -> bytes:
        profile = PROFILES.get(item.sealed.mechanism)
        if profile is None:
            raise CustodyError(
                CustodyErrorKind.INTEGRITY, "the record names a mechanism that this release does not know"
            )
        try:
            return self._unseal_any(item, profile)
        except CustodyError as error:
            if error.kind is not CustodyErrorKind.INTEGRITY:
                raise
            failure: Exception = error
        except Exception as error:  # as above
            failure = error
        # A token says the same of a false record, a lost session, a disabled and a destroyed key. Look the key up afresh, try
        # again, and see whether the key itself works.
        self._start_over(item.key, failure)
        try:
            return self._unseal_any(item, profile)
        except Exception as error:  # as above
            failure = error
        if isinstance(failure, CustodyError) and failure.kind is not CustodyErrorKind.INTEGRITY:
            raise failure
        self._on_canary(item.key, profile)
        if isinstance(failure, CustodyError) or authentication_error(failure):
            raise changed() from None
        raise classify(failure, "unwrapping") from None

    def _unseal_any(self, item: UnwrapItem, profile: Profile) -> bytes:
        candidates = self._token.objects(item.key)
        for objects in candidates[:-1]:
            try:
                return profile.unseal(objects, item.sealed, item.aad)
            except Exception as error:  # as above
                if not authentication_error(error) and not isinstance(error, CustodyError):
                    raise
        return profile.unseal(candidates[-1], item.sealed, item.aad)

    def _on_canary(self, key: KeyVersion, profile: Profile) -> None:
        """A round trip through ``key``.

        Raises:
            CustodyError: the key does not work (as classified); Deactivated keys are tried by their own records alone.
        """
        objects = self._token.objects(key)[0]
        if self._token.retrying("reading the key's attributes", lambda: keys.state(objects, profile)) is (
            KeyVersionState.DEACTIVATED
        ):
            return
        plaintext = secrets.token_bytes(32)
        try:
            opened = profile.unseal(objects, profile.seal(objects, plaintext, _CANARY_AAD), _CANARY_AAD)
        except Exception as error:  # as above
            raise classify(error, "unwrapping") from None
        if not hmac.compare_digest(opened, plaintext):
            raise CustodyError(CustodyErrorKind.UNAVAILABLE, "the token does not return what it wrapped; check the HSM")

    def _start_over(self, key: KeyVersion, error: Exception) -> None:
        self._thread.mark()
        self._token.forget(key)
        if connection_lost(error):
            self._token.drop()

    def _on_find(self, key_id: str) -> tuple[FoundKey, ...]:
        return self._from(key_id, 1)

    def _from(self, key_id: str, first: int) -> tuple[FoundKey, ...]:
        """The versions made under ``key_id``, from ``first`` on."""
        found: list[FoundKey] = []
        version, last = first, first - 1
        while version <= last + VERSIONS_SEARCHED:
            self._thread.mark()
            identifier = keys.cka_id(key_id, version)
            objects = self._search(identifier, KeyType.AES)
            if objects:
                found.append(self._found(KeyVersion(key_id, version, identifier.hex()), objects))
                last = version
            version += 1
        return tuple(found)

    def _on_describe(self, versions: Sequence[KeyVersion]) -> Described:
        known = tuple(FoundKey(key, self._token.state(key)) for key in versions)
        newest = versions[-1]
        found = (*known, *self._from(newest.key_id, newest.version + 1))
        return Described(found, life.facts(self._token, [one.key for one in found]))

    def _on_rotate(self, versions: Sequence[KeyVersion], label: str) -> None:
        self._token.session()
        newest = versions[-1]
        if self._search(keys.cka_id(newest.key_id, newest.version + 1), KeyType.AES):
            return
        length, old_label = life.length_and_label(self._token, newest)
        self._on_create(newest.key_id, newest.version + 1, label or old_label, length)

    def _on_adopt(self, key_id: str) -> FoundKey:
        objects, identifier = self._named(key_id)
        where = f"the key with CKA_ID {identifier.hex()}"
        self._token.retrying("reading the key's attributes", lambda: keys.demand_suitable(objects[0], where, None))
        # The canonical name: the same key adopted by its label and by its CKA_ID must be the same root key.
        return self._settle(KeyVersion(identifier.hex(), 1, identifier.hex()), objects, objects[0].label or key_id)

    def _named(self, key_id: str) -> tuple[list[Any], bytes]:
        """The AES keys that ``key_id`` (CKA_ID in hex, else CKA_LABEL) names, all of one CKA_ID."""
        try:
            identifier = bytes.fromhex(key_id)
        except ValueError:
            identifier = b""
        objects = self._search(identifier, KeyType.AES) if identifier else []
        if not objects:
            labelled = self._token.retrying(
                "looking for the key", lambda: keys.search_label(self._token.session(), key_id)
            )
            identifiers = {bytes(found.id) for found in labelled}
            if len(identifiers) > 1:
                listing = ", ".join(sorted(one.hex() for one in identifiers))
                raise CustodyError(
                    CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                    f"several AES keys are labelled {key_id!r}; name one by its CKA_ID: {listing}",
                )
            objects, identifier = labelled, next(iter(identifiers), b"")
        if not objects:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_NOT_FOUND,
                f"no AES key with CKA_ID or label {key_id!r} is visible in token {self._connection.token_label!r}; "
                "check the identifier and that this user may see the key",
            )
        if not identifier:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                f"the key labelled {key_id!r} has no CKA_ID, so it cannot be told from another; give it one",
            )
        return objects, identifier

    def _on_create(self, key_id: str, version: int, label: str, length: int) -> FoundKey:
        identifier = keys.cka_id(key_id, version)
        name = f"{label or key_id}/{version}"
        objects = self._search(identifier, KeyType.AES)
        if not objects:
            session = self._token.writable_session()
            self._token.once(
                f"generating an AES key of {length} bits",
                lambda: keys.generate_aes(session, identifier, name, length, self._token.profile, store=True),
            )
            objects = self._search(identifier, KeyType.AES)
        if not objects:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                f"the token made the key {name!r} but does not show it to this user; check the user's rights",
            )
        where = f"the key {name!r} (CKA_ID {identifier.hex()})"
        self._token.retrying("reading the key's attributes", lambda: keys.demand_suitable(objects[0], where, length))
        return self._settle(KeyVersion(key_id, version, identifier.hex()), objects, name)

    def _settle(self, key: KeyVersion, objects: list[Any], name: str) -> FoundKey:
        """Choose the mechanism through ``key``, making its MAC key if that mechanism needs one."""
        failure: CustodyError | None = None
        for profile in self._token.profiles:
            if profile.needs_mac:
                self._make_mac(bytes.fromhex(key.handle), f"{name}/mac")
            self._token.forget(key)
            try:
                self._prove(self._token.objects(key)[0], profile)
            except CustodyError as error:
                if error.kind is not CustodyErrorKind.ROOT_KEY_UNSUITABLE:
                    raise
                failure = failure or error
            else:
                self._profile = profile
                return self._found(key, objects)
        raise failure or CustodyError(CustodyErrorKind.CONFIGURATION, "no mechanism to choose from")

    def _make_mac(self, identifier: bytes, label: str) -> None:
        if not self._search(identifier, KeyType.GENERIC_SECRET):
            session = self._token.writable_session()
            self._token.once("generating a MAC key", lambda: keys.generate_mac(session, identifier, label, store=True))

    def _search(self, identifier: bytes, key_type: KeyType) -> list[Any]:
        return self._token.retrying(
            "looking for the key", lambda: keys.search(self._token.session(), identifier, key_type)
        )

    def _found(self, key: KeyVersion, objects: list[Any]) -> FoundKey:
        note = (
            f"{len(objects)} keys share CKA_ID {key.handle}: {objects[0].label!r} wraps, every one of them unwraps"
            if len(objects) > 1
            else ""
        )
        return FoundKey(key, self._token.state(key), note)

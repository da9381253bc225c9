"""The Vault provider: keys named by the root key's id, versions counted by Vault, batches in one request each."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, ProviderFacts, VaultConnection
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError, NotSupportedError
from kmip_custody.providers.api import Described, FoundKey, Gone, KeyVersion, UnwrapItem, WrapItem
from kmip_custody.providers.http import Answer, Calls
from kmip_custody.providers.selftest import prove_async
from kmip_custody.providers.vault import errors
from kmip_custody.providers.vault.policy import TYPES, Policy
from kmip_custody.providers.vault.session import VaultSession
from kmip_custody.record import Sealed

R = TypeVar("R")

MECHANISM = "VAULT_TRANSIT"

REQUEST_DEADLINE = 10.0
"""Seconds for a request that has no deadline of its own."""

_PREFIX = re.compile(r"vault:v([1-9][0-9]*):([A-Za-z0-9+/]+=*)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_NO_SUCH_TYPE = "never-make-a-key"
"""`encrypt` makes the key it does not find where the policy lets it. A type that does not exist makes that an error: a root key
that was deleted must not come back as another."""


class VaultProvider:
    """See RootKeyProvider."""

    name = "vault"
    mechanism = MECHANISM
    hung_for = 0.0

    def __init__(self, connection: VaultConnection, credential: Credential) -> None:
        self._connection = connection
        self._session = VaultSession(connection, credential)
        self._calls = Calls()
        self._seen: set[str] = set()
        self._replaced: set[KeyVersion] = set()
        self.newer_handle: str | None = None

    async def open(self, keys: Sequence[KeyVersion] = ()) -> ProviderFacts:
        """See the protocol."""
        deadline = monotonic() + REQUEST_DEADLINE
        health = await self._session.health(deadline)
        await self._session.open(deadline)
        return ProviderFacts(
            manufacturer="Vault",
            model=f"transit at {self._connection.mount}",
            serial=str(health.get("cluster_id", "")),
            firmware=str(health.get("version", "")),
            mechanism=MECHANISM,
        )

    async def probe(self) -> ProviderFacts:
        """See the protocol; no key is made, so only the engine's presence is proved, where the token may ask for it."""
        facts = await self.open()
        answer = await self._call("GET", f"keys/probe-{secrets.token_hex(4)}")
        if not answer.succeeded and answer.status != 403 and not _absent(answer):
            raise errors.classify(answer, f"looking for the transit engine at {self._connection.mount!r}")
        return facts

    async def inspect(self, keys: Sequence[KeyVersion]) -> list[KeyVersionState]:
        """See the protocol."""
        states = []
        policies: dict[str, Policy | None] = {}
        for key in keys:
            name = _name(key)
            if name not in policies:
                policies[name] = await self._policy(name)
            policy = policies[name]
            states.append(KeyVersionState.DESTROYED if policy is None else policy.state(key))
            if policy is not None and key.version in policy.made and policy.handle(key.version) != key.handle:
                self._replaced.add(key)
            else:
                self._replaced.discard(key)
        newest = max(keys, key=lambda key: key.version)
        policy = policies[_name(newest)]
        newer = policy is not None and policy.latest > newest.version
        self.newer_handle = policy.handle(policy.latest) if policy is not None and newer else None
        return states

    async def self_test(self, key: KeyVersion) -> None:
        """See the protocol."""

        async def seal(plaintext: bytes, aad: bytes) -> Sealed:
            return _or_raise(await self.wrap(key, [WrapItem(plaintext, aad)], monotonic() + REQUEST_DEADLINE))

        async def unseal(sealed: Sealed, aad: bytes) -> bytes:
            return _or_raise(await self.unwrap([UnwrapItem(key, sealed, aad)], monotonic() + REQUEST_DEADLINE))

        await prove_async(seal, unseal)

    def wrap(
        self, key: KeyVersion, items: Sequence[WrapItem], deadline: float
    ) -> asyncio.Future[list[Sealed | CustodyError]]:
        """See the protocol. The version is asked for, so that a rotation nobody was told of is not used."""
        inputs = [
            {"plaintext": _text(item.plaintext), "associated_data": _text(item.aad), "key_version": key.version}
            for item in items
        ]

        async def work() -> list[Sealed | CustodyError]:
            body = {"batch_input": inputs, "type": _NO_SUCH_TYPE}
            return await self._batch("encrypt", key, body, len(inputs), lambda result: _sealed(result, key), deadline)

        return self._calls.submit(len(inputs), work)

    def unwrap(self, items: Sequence[UnwrapItem], deadline: float) -> asyncio.Future[list[bytes | CustodyError]]:
        """See the protocol."""
        wanted = list(items)

        async def work() -> list[bytes | CustodyError]:
            outcomes: list[bytes | CustodyError] = [_foreign()] * len(wanted)
            places = [place for place, item in enumerate(wanted) if item.sealed.mechanism == MECHANISM]
            places = [place for place in places if not wanted[place].sealed.nonce and not wanted[place].sealed.mac]
            if places:
                inputs = [_unwrap_input(wanted[place]) for place in places]
                # All items are of one root key, so of one transit key.
                key = wanted[places[0]].key
                opened = await self._batch("decrypt", key, {"batch_input": inputs}, len(inputs), _plaintext, deadline)
                for place, outcome in zip(places, opened, strict=True):
                    outcomes[place] = outcome
            return outcomes

        return self._calls.submit(len(wanted), work)

    async def find(self, key_id: str) -> tuple[FoundKey, ...]:
        """See the protocol; found by its name, so also a key that was adopted, and checked as one."""
        policy = await self._policy(_checked(key_id))
        if policy is None:
            return ()
        policy.demand_suitable(None)
        return policy.found(key_id)

    async def adopt(self, key_id: str) -> FoundKey:
        """See the protocol; a transit key has one name. Its newest version is what is found first (see the Job)."""
        policy = await self._policy(_checked(key_id))
        if policy is None:
            raise self._absence(key_id)
        policy.demand_suitable(None)
        return policy.found(key_id)[-1]

    async def create(self, key_id: str, version: int, label: str, length: int) -> FoundKey:
        """See the protocol; transit keys have no label."""
        name = _checked(key_id)
        if length not in TYPES:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE, f"transit has no AES key of {length} bits; ask for 256 or 128"
            )
        policy = await self._policy(name)
        if policy is None:
            # Vault makes nothing where the key exists, so this may be repeated.
            answer = await self._call("POST", f"keys/{name}", {"type": TYPES[length], "exportable": False})
            if not answer.succeeded:
                raise errors.classify(answer, f"making transit key {name!r}")
            policy = await self._present(name)
        policy.demand_suitable(length)
        if policy.latest == version - 1:
            policy = await self._rotated(name)
        for one in policy.found(key_id):
            if one.key.version == version:
                return one
        raise CustodyError(
            CustodyErrorKind.CONFIGURATION,
            f"transit key {name!r} has versions {policy.min_available or 1} to {policy.latest}, and version {version} is "
            "neither one of them nor the next",
        )

    async def describe(self, keys: Sequence[KeyVersion]) -> Described:
        """See the protocol; versions that Vault hides keep their known handles."""
        policy = await self._present(_name(keys[-1]))
        known = {key.version: FoundKey(key, policy.state(key)) for key in keys}
        found = {one.key.version: one for one in policy.found(keys[-1].key_id)}
        merged = found | known
        return Described(tuple(merged[version] for version in sorted(merged)), policy.facts)

    async def rotate(self, keys: Sequence[KeyVersion], label: str) -> None:
        """See the protocol."""
        policy = await self._present(_name(keys[-1]))
        if policy.latest <= max(key.version for key in keys):
            await self._rotated(policy.name)

    async def disable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """Not in Vault."""
        raise _cannot("disabled", "take the permission away from the token's policy, which revokes just the same")

    async def enable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """Not in Vault."""
        raise _cannot("enabled", "give the permission back in the token's policy")

    async def destroy(self, keys: Sequence[KeyVersion], *, whole: bool, purge: bool) -> Gone:
        """See the protocol; the key's own safety catch is respected."""
        if not whole:
            raise NotSupportedError(
                "Vault destroys a transit key with all its versions, or the oldest ones by transit/keys/NAME/trim; "
                "not one version alone"
            )
        name = _name(keys[-1])
        policy = await self._policy(name)
        if policy is None:
            return Gone()
        if not policy.facts.deletion_allowed:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION,
                f"transit key {name!r} may not be deleted; if it is to be destroyed, allow it first: "
                f"vault write {self._connection.mount}/keys/{name}/config deletion_allowed=true",
            )
        answer = await self._call("DELETE", f"keys/{name}")
        if not answer.succeeded and not _absent(answer):
            raise errors.classify(answer, f"deleting transit key {name!r}")
        copies = "the key could be exported; " if policy.facts.exportable else ""
        copies += "its value came from outside; " if policy.facts.imported else ""
        return Gone(note=f"{copies}Vault's own storage backups hold the key until they are gone")

    async def close(self) -> None:
        """See the protocol."""
        await self._calls.close()
        await self._session.close()

    async def _call(
        self, method: str, path: str, body: object = None, deadline: float | None = None, *, repeatable: bool = True
    ) -> Answer:
        deadline = monotonic() + REQUEST_DEADLINE if deadline is None else deadline
        full = f"{self._connection.mount}/{path}"
        return await self._session.call(method, full, body, deadline=deadline, repeatable=repeatable)

    async def _batch(
        self,
        operation: str,
        key: KeyVersion,
        body: object,
        count: int,
        read: Callable[[dict[str, Any]], R],
        deadline: float,
    ) -> list[R | CustodyError]:
        name, doing = _name(key), f"{operation}ing by transit key {_name(key)!r}"
        if key in self._replaced:
            raise self._absence(name)
        answer = await self._call("POST", f"{operation}/{name}", body, deadline)
        data = answer.body.get("data")
        results = data.get("batch_results") if isinstance(data, dict) else None
        if not isinstance(results, list):
            if not answer.succeeded:
                raise await self._failure(answer, name, doing)
            raise errors.strange(doing, "no batch_results")
        if len(results) != count or not all(isinstance(result, dict) for result in results):
            raise errors.strange(doing, f"{len(results)} results for {count} items")
        self._seen.add(name)
        return [_outcome(result, read, doing) for result in results]

    async def _failure(self, answer: Answer, name: str, doing: str) -> CustodyError:
        said = errors.words(answer)
        if any(part in said for part in errors.ABSENT) or (errors.NO_MOUNT in said and name in self._seen):
            return self._absence(name)
        return errors.classify(answer, doing)

    async def _policy(self, name: str) -> Policy | None:
        answer = await self._call("GET", f"keys/{name}")
        if _absent(answer):
            return None
        if not answer.succeeded:
            raise await self._failure(answer, name, f"reading transit key {name!r}")
        self._seen.add(name)
        return Policy.read(name, answer.body.get("data"))

    async def _present(self, name: str) -> Policy:
        policy = await self._policy(name)
        if policy is None:
            raise self._absence(name)
        return policy

    async def _rotated(self, name: str) -> Policy:
        answer = await self._call("POST", f"keys/{name}/rotate", {}, repeatable=False)
        if not answer.succeeded:
            raise errors.classify(answer, f"rotating transit key {name!r}")
        return await self._present(name)

    def _absence(self, name: str) -> CustodyError:
        where = f"the transit engine {self._connection.mount!r} of {self._connection.address}"
        if name in self._seen:
            return CustodyError(
                CustodyErrorKind.ROOT_KEY_DESTROYED,
                f"transit key {name!r} was in {where} and is gone or another has its name; "
                "if it was not destroyed on purpose, restore it from a backup of Vault",
            )
        return CustodyError(
            CustodyErrorKind.ROOT_KEY_NOT_FOUND,
            f"transit key {name!r} is not in {where}; check the name, the mount and the namespace",
        )


def _name(key: KeyVersion) -> str:
    return key.handle.rpartition(":v")[0]


def _checked(key_id: str) -> str:
    if not _NAME.fullmatch(key_id):
        raise CustodyError(CustodyErrorKind.CONFIGURATION, f"{key_id!r} cannot be the name of a transit key")
    return key_id


def _absent(answer: Answer) -> bool:
    """A key that is not there is 404 without a word; a mount that is not there is 404 with one."""
    return answer.status == 404 and not errors.words(answer)


def _text(data: bytes | memoryview) -> str:
    return base64.b64encode(data).decode()


def _sealed(result: dict[str, Any], key: KeyVersion) -> Sealed:
    found = _PREFIX.fullmatch(str(result.get("ciphertext", "")))
    if found is None:
        raise errors.strange("wrapping", "no cipher text of its own format")
    if int(found[1]) != key.version:
        raise errors.strange("wrapping", f"version {found[1]} wrapped where {key.version} was asked for")
    return Sealed(MECHANISM, b"", _bytes(found[2]), b"")


def _plaintext(result: dict[str, Any]) -> bytes:
    text = result.get("plaintext")
    if not isinstance(text, str):
        raise errors.strange("unwrapping", "no plain text")
    return _bytes(text)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise errors.strange("reading an answer", "no base64") from None


def _unwrap_input(item: UnwrapItem) -> dict[str, str]:
    ciphertext = f"vault:v{item.key.version}:{_text(item.sealed.ciphertext)}"
    return {"ciphertext": ciphertext, "associated_data": _text(item.aad)}


def _outcome(result: dict[str, Any], read: Callable[[dict[str, Any]], R], doing: str) -> R | CustodyError:
    text = result.get("error")
    if isinstance(text, str) and text:
        return errors.classify_item(text, doing)
    try:
        return read(result)
    except CustodyError as error:
        return error


def _or_raise(outcomes: list[R | CustodyError]) -> R:
    (outcome,) = outcomes
    if isinstance(outcome, CustodyError):
        raise outcome
    return outcome


def _foreign() -> CustodyError:
    return CustodyError(CustodyErrorKind.INTEGRITY, "the record was not made by a transit engine")


def _cannot(what: str, instead: str) -> NotSupportedError:
    return NotSupportedError(f"a transit key cannot be {what}: Vault has no such state; {instead}")

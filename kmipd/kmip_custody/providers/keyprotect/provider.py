"""The Key Protect provider."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any
from uuid import UUID

import structlog

from kmip_contract.rootkey import CustodyErrorKind, KeyProtectConnection, KeyVersionState, ProviderFacts
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError, NotSupportedError
from kmip_custody.providers.api import Described, FoundKey, Gone, KeyVersion, UnwrapItem, WrapItem
from kmip_custody.providers.http import Answer, Calls
from kmip_custody.providers.keyprotect import errors, keys, regions, sealing
from kmip_custody.providers.keyprotect.keys import Metadata
from kmip_custody.providers.keyprotect.session import KeyProtectSession
from kmip_custody.providers.selftest import prove_async
from kmip_custody.record import Sealed

REQUEST_DEADLINE = 15.0
"""Seconds for a request that has no deadline of its own."""

_PAGE = 1000
_ROOT_KEY = "application/vnd.ibm.kms.key+json"
_COLLECTION = "application/vnd.ibm.kms.key+json"

_log = structlog.get_logger("kmip_custody.keyprotect")


class KeyProtectProvider:
    """See RootKeyProvider. A root key is one key of the service; its versions have one state, which is the key's."""

    name = "keyprotect"
    mechanism = sealing.MECHANISM
    hung_for = 0.0

    def __init__(self, connection: KeyProtectConnection, credential: Credential) -> None:
        self._connection = connection
        self._session = KeyProtectSession(connection, credential)
        self._calls = Calls()
        self._seen: set[str] = set()
        self._known: set[str] = set()
        self.newer_handle: str | None = None

    async def open(self, keys: Sequence[KeyVersion] = ()) -> ProviderFacts:
        """See the protocol. Reaching the instance with its permission is proved by counting its keys."""
        answer = await self._call("HEAD", "keys")
        if not answer.succeeded:
            raise errors.classify(answer, "asking for the number of keys", seen=False)
        return ProviderFacts(
            manufacturer="IBM Cloud",
            model=regions.describe(self._connection.service, self._connection.region),
            serial=self._connection.instance_id,
            mechanism=self.mechanism,
        )

    async def probe(self) -> ProviderFacts:
        """See the protocol; no key is made, so the mechanism is proved when there is one."""
        return await self.open()

    async def inspect(self, keys_: Sequence[KeyVersion]) -> list[KeyVersionState]:
        """See the protocol."""
        self._known.update(key.handle for key in keys_)
        self.newer_handle = None
        found = {key_id: await self._metadata(key_id) for key_id in {keys.key_of(key) for key in keys_}}
        for metadata in found.values():
            if metadata is not None and metadata.newest_version:
                self._notice(metadata.id, metadata.newest_version)
        states = []
        for key in keys_:
            metadata = found[keys.key_of(key)]
            states.append(KeyVersionState.DESTROYED if metadata is None else metadata.key_state)
        return states

    async def self_test(self, key: KeyVersion) -> None:
        """See the protocol."""

        async def seal(plaintext: bytes, aad: bytes) -> Sealed:
            return await self._seal(key, sealing.prepare(plaintext, aad), monotonic() + REQUEST_DEADLINE)

        async def unseal(content: Sealed, aad: bytes) -> bytes:
            return await self._unseal(UnwrapItem(key, content, aad), monotonic() + REQUEST_DEADLINE)

        await prove_async(seal, unseal)

    def wrap(
        self, key: KeyVersion, items: Sequence[WrapItem], deadline: float
    ) -> asyncio.Future[list[Sealed | CustodyError]]:
        """See the protocol; one request for each. The newest version wraps, whichever is asked for: it opens all the same."""
        requests = [sealing.prepare(item.plaintext, item.aad) for item in items]

        async def work() -> list[Sealed | CustodyError]:
            return _outcomes(await asyncio.gather(*(self._seal(key, one, deadline) for one in requests), **_ALL))

        return self._calls.submit(len(requests), work)

    def unwrap(self, items: Sequence[UnwrapItem], deadline: float) -> asyncio.Future[list[bytes | CustodyError]]:
        """See the protocol; one request for each."""
        wanted = list(items)

        async def work() -> list[bytes | CustodyError]:
            return _outcomes(await asyncio.gather(*(self._unseal(one, deadline) for one in wanted), **_ALL))

        return self._calls.submit(len(wanted), work)

    async def find(self, key_id: str) -> tuple[FoundKey, ...]:
        """See the protocol; ``key_id`` is that of a key made here, or the service's own of one that was adopted."""
        metadata, note = await self._named(key_id)
        if metadata is None and _is_uuid(key_id):
            metadata = await self._metadata(key_id)
        if metadata is None:
            return ()
        metadata.demand_root_key()
        return await self._found(key_id, metadata, note)

    async def adopt(self, key_id: str) -> FoundKey:
        """See the protocol; ``key_id`` is a key's id or alias. Of several versions the newest is given."""
        metadata = await self._metadata(key_id)
        if metadata is None:
            raise self._absence(key_id)
        metadata.demand_root_key()
        return (await self._found(metadata.id, metadata, ""))[-1]

    async def create(self, key_id: str, version: int, label: str, length: int) -> FoundKey:
        """See the protocol. Names are not unique in the service: of two made at one moment, the older is the one."""
        if length != 256:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                f"Key Protect makes root keys of 256 bits, not {length}; ask for 256, or import one and adopt it",
            )
        metadata, note = await self._named(key_id)
        if metadata is None:
            await self._make(key_id, label)
            metadata, note = await self._named(key_id)
        if metadata is None:
            raise CustodyError(CustodyErrorKind.UNAVAILABLE, "the key was made and is not found yet; try again")
        found = await self._found(key_id, metadata, note)
        if len(found) == version - 1:
            await self._rotate(metadata.id)
            found = await self._found(key_id, await self._present(metadata.id), note)
        if len(found) < version:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION, f"the root key has {len(found)} versions, so {version} is not the next"
            )
        return found[version - 1]

    async def describe(self, keys_: Sequence[KeyVersion]) -> Described:
        """See the protocol."""
        newest = keys_[-1]
        metadata = await self._present(keys.key_of(newest))
        if metadata.state == keys.DESTROYED:
            return Described(tuple(FoundKey(key, metadata.key_state) for key in keys_), metadata.facts)
        return Described(await self._found(newest.key_id, metadata, ""), metadata.facts)

    async def rotate(self, keys_: Sequence[KeyVersion], label: str) -> None:
        """See the protocol."""
        metadata = await self._present(keys.key_of(keys_[-1]))
        if metadata.newest_version not in {key.handle.partition("/")[2] for key in keys_}:
            return
        await self._rotate(metadata.id)

    async def disable(self, keys_: Sequence[KeyVersion], *, whole: bool) -> None:
        """See the protocol; the whole key alone."""
        _demand_whole(whole, "disabled")
        metadata = await self._present(keys.key_of(keys_[-1]))
        if metadata.state != keys.SUSPENDED:
            await self._change(metadata.id, "POST", f"keys/{metadata.id}/actions/disable", "disabling the key")

    async def enable(self, keys_: Sequence[KeyVersion], *, whole: bool) -> None:
        """See the protocol; a deleted key is restored, while that can be."""
        _demand_whole(whole, "enabled")
        metadata = await self._present(keys.key_of(keys_[-1]))
        if metadata.state == keys.DESTROYED:
            await self._change(metadata.id, "POST", f"keys/{metadata.id}/restore", "restoring the key")
        elif metadata.state == keys.SUSPENDED:
            await self._change(metadata.id, "POST", f"keys/{metadata.id}/actions/enable", "enabling the key")

    async def destroy(self, keys_: Sequence[KeyVersion], *, whole: bool, purge: bool) -> Gone:
        """See the protocol: deleted, restorable for 30 days; with ``purge``, 4 hours later, gone for good."""
        _demand_whole(whole, "destroyed")
        metadata = await self._metadata(keys.key_of(keys_[-1]))
        if metadata is None:
            return Gone()
        if metadata.state != keys.DESTROYED:
            await self._change(metadata.id, "DELETE", f"keys/{metadata.id}", "deleting the key")
        elif purge:
            await self._change(metadata.id, "DELETE", f"keys/{metadata.id}/purge", "purging the key")
        after = await self._metadata(metadata.id)
        if after is None:
            return Gone(note="purged")
        return Gone(
            after.restorable_until, after.purge_from, "deleted; until it is purged the key exists and can be restored"
        )

    async def close(self) -> None:
        """See the protocol."""
        await self._calls.close()
        await self._session.close()

    async def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        deadline: float | None = None,
        *,
        query: dict[str, str | int] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        deadline = monotonic() + REQUEST_DEADLINE if deadline is None else deadline
        return await self._session.call(method, path, body, deadline=deadline, query=query, repeatable=repeatable)

    async def _seal(self, key: KeyVersion, request: sealing.Request, deadline: float) -> Sealed:
        key_id = keys.key_of(key)
        answer = await self._call("POST", f"keys/{key_id}/actions/wrap", request.body, deadline)
        if not answer.succeeded:
            raise errors.classify(answer, f"wrapping by key {key_id}", seen=key_id in self._seen)
        self._seen.add(key_id)
        self._notice(key_id, _version(answer.body.get("keyVersion")))
        return sealing.sealed(request, answer.body)

    async def _unseal(self, item: UnwrapItem, deadline: float) -> bytes:
        key_id = keys.key_of(item.key)
        body = sealing.unwrap_body(item.sealed, item.aad)
        answer = await self._call("POST", f"keys/{key_id}/actions/unwrap", body, deadline)
        if not answer.succeeded:
            # What was sent is well-formed but for the record: a complaint about the body is one about the record.
            if answer.status == 400 and errors.code(answer).startswith("BAD_BODY"):
                raise CustodyError(CustodyErrorKind.INTEGRITY, "the record is not one of Key Protect's, or was changed")
            raise errors.classify(answer, f"unwrapping by key {key_id}", seen=key_id in self._seen)
        self._seen.add(key_id)
        # The answer also holds the key wrapped by the newest version. It is left alone: the record binds its version, and is
        # wrapped anew as a whole once that version is configured.
        self._notice(key_id, _version(answer.body.get("rewrappedKeyVersion")))
        return sealing.opened(item.sealed, item.aad, answer.body)

    def _notice(self, key_id: str, version: str) -> None:
        """A version used by the service that the configuration does not name."""
        handle = keys.handle(key_id, version)
        if version and self._known and handle not in self._known and self.newer_handle != handle:
            self.newer_handle = handle
            _log.warning("rootkey.newer_version", handle=handle)

    async def _metadata(self, key_id: str) -> Metadata | None:
        answer = await self._call("GET", f"keys/{key_id}/metadata")
        if answer.status == 404:
            return None
        if not answer.succeeded:
            raise errors.classify(answer, f"reading the metadata of key {key_id}", seen=key_id in self._seen)
        metadata = Metadata.read(next(iter(keys.resources(answer)), None))
        self._seen.add(metadata.id)
        return metadata

    async def _present(self, key_id: str) -> Metadata:
        metadata = await self._metadata(key_id)
        if metadata is None:
            raise self._absence(key_id)
        return metadata

    async def _named(self, key_id: str) -> tuple[Metadata | None, str]:
        """The key made here for ``key_id``, and a note where there are several."""
        name = _name(key_id)
        query: dict[str, str | int] = {"search": f"exact:name:{name}", "extractable": "false", "limit": _PAGE}
        answer = await self._call("GET", "keys", query=query)
        if answer.status == 400 and errors.code(answer) == "KEY_SEARCH_TOO_BROAD":
            found = await self._listed()
        elif not answer.succeeded:
            raise errors.classify(answer, "looking for the key by its name", seen=False)
        else:
            found = [Metadata.read(one) for one in keys.resources(answer)]
        alive = [one for one in found if one.name == name and one.state != keys.DESTROYED]
        ordered = sorted(alive, key=lambda one: (one.made, one.id))
        note = f"{len(ordered)} root keys are named {name!r}: the oldest is used" if len(ordered) > 1 else ""
        return (ordered[0] if ordered else None), note

    async def _listed(self) -> list[Metadata]:
        """Every root key of the key ring, page by page."""
        found: list[Metadata] = []
        while True:
            query: dict[str, str | int] = {"extractable": "false", "limit": _PAGE, "offset": len(found)}
            answer = await self._call("GET", "keys", query=query)
            if not answer.succeeded:
                raise errors.classify(answer, "listing the root keys", seen=False)
            page = [Metadata.read(one) for one in keys.resources(answer)]
            found += page
            if len(page) < _PAGE:
                return found

    async def _found(self, key_id: str, metadata: Metadata, note: str) -> tuple[FoundKey, ...]:
        """Each version, oldest first, counted from 1: the service never forgets one while the key is there."""
        versions: list[dict[str, Any]] = []
        while True:
            query: dict[str, str | int] = {"allKeyStates": "true", "limit": _PAGE, "offset": len(versions)}
            answer = await self._call("GET", f"keys/{metadata.id}/versions", query=query)
            if not answer.succeeded:
                raise errors.classify(answer, "listing the key's versions", seen=True)
            page = keys.resources(answer)
            versions += page
            if len(page) < _PAGE:
                break
        ordered = sorted(versions, key=lambda one: (str(one.get("creationDate", "")), str(one.get("id", ""))))
        handles = [keys.handle(metadata.id, str(one.get("id", ""))) for one in ordered]
        return tuple(
            FoundKey(KeyVersion(key_id, number, handle), metadata.key_state, note)
            for number, handle in enumerate(handles, 1)
        )

    async def _make(self, key_id: str, label: str) -> None:
        resource = {"type": _ROOT_KEY, "name": _name(key_id), "extractable": False}
        if len(label) >= 2:
            resource["description"] = label[:240]
        body = {"metadata": {"collectionType": _COLLECTION, "collectionTotal": 1}, "resources": [resource]}
        # Not repeated: a key that was made though the answer was lost is found by the next Job.
        answer = await self._call("POST", "keys", body, repeatable=False)
        if not answer.succeeded:
            raise errors.classify(answer, "making a root key", seen=False)

    async def _rotate(self, key_id: str) -> None:
        await self._change(key_id, "POST", f"keys/{key_id}/actions/rotate", "rotating the key")

    async def _change(self, key_id: str, method: str, path: str, doing: str) -> None:
        answer = await self._call(method, path, repeatable=False)
        if not answer.succeeded:
            raise errors.classify(answer, f"{doing} {key_id}", seen=True)

    def _absence(self, key_id: str) -> CustodyError:
        nothing = Answer(404, {}, {})
        return errors.classify(nothing, f"looking for key {key_id}", seen=key_id in self._seen)


_ALL: dict[str, Any] = {"return_exceptions": True}


def _outcomes(results: list[Any]) -> list[Any]:
    """Results and CustodyErrors; anything else is a defect and fails the batch."""
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, CustodyError):
            raise result
    return results


def _version(value: object) -> str:
    return str(value.get("id", "")) if isinstance(value, dict) else ""


def _name(key_id: str) -> str:
    name = f"kmip-{key_id}"
    if len(name) > 90:
        raise CustodyError(CustodyErrorKind.CONFIGURATION, "a root key's id has at most 85 characters in Key Protect")
    return name


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _demand_whole(whole: bool, what: str) -> None:
    if not whole:
        raise NotSupportedError(f"in Key Protect a root key is {what} with all its versions, not one version alone")

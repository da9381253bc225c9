"""Root keys in software, for evaluation: derived from a seed file, AES-256-GCM in this process.

Key of a version = HKDF-SHA-256 (RFC 5869) of the seed with the key id and version as its info. Nonces are 96 random bits, which
NIST SP 800-38D §8.3 allows for 2³² records of one key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, ProviderFacts, RootKeyFacts, SoftwareConnection
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError, NotSupportedError
from kmip_custody.providers.api import Described, FoundKey, Gone, KeyVersion, ProviderType, UnwrapItem, WrapItem
from kmip_custody.providers.selftest import prove
from kmip_custody.record import Sealed

MIN_SEED = 32
MECHANISM = "AES_GCM"


class SoftwareProvider:
    """Answers at once, on the caller's thread: nothing here waits."""

    name = "software"
    newer_handle: str | None = None
    mechanism = MECHANISM
    hung_for = 0.0

    def __init__(self, connection: SoftwareConnection, credential: Credential) -> None:
        self._connection = connection
        self._credential = credential
        self._loop = asyncio.get_running_loop()
        self._seed: bytes | None = None
        self._signature: tuple[int, int, int] | None = None
        self._ciphers: dict[tuple[str, int], AESGCM] = {}
        self._rotated: set[KeyVersion] = set()

    async def open(self, keys: Sequence[KeyVersion] = ()) -> ProviderFacts:
        """Read the seed again if its file was replaced."""
        if self._seed is None or self._signature != self._credential.signature():
            self._load()
        return ProviderFacts(manufacturer="kmip-operator", model="Software (evaluation)", mechanism=MECHANISM)

    async def probe(self) -> ProviderFacts:
        """Read the seed and prove a key derived from it."""
        facts = await self.open()
        await self.self_test(KeyVersion("probe", 1, _handle(1)))
        return facts

    async def inspect(self, keys: Sequence[KeyVersion]) -> list[KeyVersionState]:
        """A derived key is there as long as the seed is."""
        await self.open()
        return [KeyVersionState.ACTIVE] * len(keys)

    async def self_test(self, key: KeyVersion) -> None:
        """See the protocol."""
        cipher = self._cipher(key)
        prove(lambda plaintext, aad: _seal(cipher, plaintext, aad), lambda sealed, aad: _open(cipher, sealed, aad))

    def wrap(
        self, key: KeyVersion, items: Sequence[WrapItem], deadline: float
    ) -> asyncio.Future[list[Sealed | CustodyError]]:
        """See the protocol; the future is done."""
        results: list[Sealed | CustodyError]
        try:
            cipher = self._cipher(key)
        except CustodyError as error:
            results = [error] * len(items)
        else:
            results = [_seal(cipher, item.plaintext, item.aad) for item in items]
        future: asyncio.Future[list[Sealed | CustodyError]] = self._loop.create_future()
        future.set_result(results)
        return future

    def unwrap(self, items: Sequence[UnwrapItem], deadline: float) -> asyncio.Future[list[bytes | CustodyError]]:
        """See the protocol; the future is done."""
        results: list[bytes | CustodyError] = []
        for item in items:
            try:
                results.append(_open(self._cipher(item.key), item.sealed, item.aad))
            except CustodyError as error:
                results.append(error)
        future: asyncio.Future[list[bytes | CustodyError]] = self._loop.create_future()
        future.set_result(results)
        return future

    async def find(self, key_id: str) -> tuple[FoundKey, ...]:
        """Nothing is stored, so nothing is found: :meth:`create` always derives the same key."""
        return ()

    async def adopt(self, key_id: str) -> FoundKey:
        """Any id names a key that can be derived."""
        return await self.create(key_id, 1, "", 256)

    async def create(self, key_id: str, version: int, label: str, length: int) -> FoundKey:
        """Derive version ``version``; always 256 bits.

        Raises:
            CustodyError: another length was asked for (RootKeyUnsuitable).
        """
        if length != 256:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                f"a software root key has 256 bits, not {length}; ask for length 256",
            )
        key = KeyVersion(key_id, version, _handle(version))
        self._cipher(key)
        return FoundKey(key, KeyVersionState.ACTIVE)

    async def describe(self, keys: Sequence[KeyVersion]) -> Described:
        """The known versions, and one more if :meth:`rotate` was asked for it: nothing remembers it but this object."""
        await self.open()
        newest = keys[-1]
        versions = (
            *keys,
            *(key for key in self._rotated if key.key_id == newest.key_id and key.version > newest.version),
        )
        facts = RootKeyFacts(exportable=True, imported=False, deletion_allowed=False)
        return Described(tuple(FoundKey(key, KeyVersionState.ACTIVE) for key in versions), facts)

    async def rotate(self, keys: Sequence[KeyVersion], label: str) -> None:
        """Derive the next version."""
        found = await self.create(keys[-1].key_id, keys[-1].version + 1, label, 256)
        self._rotated.add(found.key)

    async def disable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """Not in software."""
        raise _cannot("disabled", "suspend the root key in its configuration")

    async def enable(self, keys: Sequence[KeyVersion], *, whole: bool) -> None:
        """Not in software."""
        raise _cannot("enabled", "resume the root key in its configuration")

    async def destroy(self, keys: Sequence[KeyVersion], *, whole: bool, purge: bool) -> Gone:
        """Not in software."""
        raise _cannot("destroyed", "delete the Secret that holds the seed, and every copy of it")

    async def close(self) -> None:
        """Drop the seed and every key derived from it."""
        self._seed = None
        self._ciphers.clear()

    def _load(self) -> None:
        self._seed = None
        self._ciphers.clear()
        signature = self._credential.signature()
        seed = self._credential.read()
        if len(seed) < MIN_SEED:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION,
                f"seed file {self._connection.seed_file} holds {len(seed)} bytes; at least {MIN_SEED} random bytes are needed "
                "(openssl rand -out FILE 32)",
            )
        self._seed, self._signature = seed, signature

    def _cipher(self, key: KeyVersion) -> AESGCM:
        cipher = self._ciphers.get((key.key_id, key.version))
        if cipher is None:
            if self._seed is None:
                self._load()
            cipher = AESGCM(_derive(self._seed or b"", key))
            self._ciphers[key.key_id, key.version] = cipher
        return cipher


def _derive(seed: bytes, key: KeyVersion) -> bytes:
    name = key.key_id.encode()
    info = b"kmip-operator/software-root-key/1" + len(name).to_bytes(4, "big") + name + key.version.to_bytes(8, "big")
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed)


def _seal(cipher: AESGCM, plaintext: bytes | memoryview, aad: bytes) -> Sealed:
    nonce = os.urandom(12)
    return Sealed(MECHANISM, nonce, cipher.encrypt(nonce, plaintext, aad), b"")


def _open(cipher: AESGCM, sealed: Sealed, aad: bytes) -> bytes:
    if sealed.mechanism == MECHANISM and len(sealed.nonce) == 12 and not sealed.mac:
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, aad)
        except InvalidTag:
            pass
    raise CustodyError(
        CustodyErrorKind.INTEGRITY,
        "the record does not belong to this object, was changed, or was wrapped from another seed",
    )


def _cannot(what: str, instead: str) -> NotSupportedError:
    return NotSupportedError(f"a software root key cannot be {what}: it is derived from its seed; {instead}")


def _handle(version: int) -> str:
    return f"hkdf-sha256/{version}"


PROVIDER = ProviderType(
    credential_file=lambda connection: connection.seed_file,
    text=False,
    make=lambda connection, credential, _: SoftwareProvider(connection, credential),
)

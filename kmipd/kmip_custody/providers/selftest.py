"""The power-on test every provider passes before it wraps a key."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.record import Sealed

_AAD = b"kmip-operator/self-test/1"


async def prove_async(
    seal: Callable[[bytes, bytes], Awaitable[Sealed]], unseal: Callable[[Sealed, bytes], Awaitable[bytes]]
) -> None:
    """Prove that ``unseal`` inverts ``seal`` and refuses wrong AAD and changed nonce, cipher text and MAC.

    ``unseal`` must refuse with CustodyError of kind IntegrityError. Lengths: one AES-256 key, and one that is no multiple of
    eight bytes, which some key-wrap implementations pad silently.

    Raises:
        CustodyError: a round trip failed (as ``seal`` or ``unseal`` raised it), or a check did (RootKeyUnsuitable).
    """
    for length in (32, 37):
        plaintext = secrets.token_bytes(length)
        sealed = await seal(plaintext, _AAD)
        if not hmac.compare_digest(await unseal(sealed, _AAD), plaintext):
            raise _failed(sealed, f"{length} bytes do not come back as they were")
        await _demand_refusal(unseal, sealed, _AAD + b"x", "additional authenticated data")
        await _demand_refusal(unseal, sealed._replace(ciphertext=_changed(sealed.ciphertext)), _AAD, "cipher text")
        if sealed.nonce:
            await _demand_refusal(unseal, sealed._replace(nonce=_changed(sealed.nonce)), _AAD, "nonce")
        if sealed.mac:
            await _demand_refusal(unseal, sealed._replace(mac=_changed(sealed.mac)), _AAD, "MAC")


def prove(seal: Callable[[bytes, bytes], Sealed], unseal: Callable[[Sealed, bytes], bytes]) -> None:
    """:func:`prove_async` for functions that answer at once, also where no event loop runs."""

    async def sealing(plaintext: bytes, aad: bytes) -> Sealed:
        return seal(plaintext, aad)

    async def unsealing(sealed: Sealed, aad: bytes) -> bytes:
        return unseal(sealed, aad)

    _finish(prove_async(sealing, unsealing))


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise AssertionError("it suspended")


def _changed(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


async def _demand_refusal(
    unseal: Callable[[Sealed, bytes], Awaitable[bytes]], sealed: Sealed, aad: bytes, what: str
) -> None:
    try:
        await unseal(sealed, aad)
    except CustodyError as error:
        if error.kind is CustodyErrorKind.INTEGRITY:
            return
        raise
    raise _failed(sealed, f"a changed {what} is not noticed")


def _failed(sealed: Sealed, why: str) -> CustodyError:
    return CustodyError(
        CustodyErrorKind.ROOT_KEY_UNSUITABLE,
        f"mechanism {sealed.mechanism} failed its self-test: {why}; choose another mechanism, and report this to the vendor",
    )

"""How plaintexts are sealed inside a token: one class per mechanism profile."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any, NamedTuple, Protocol

from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass, PKCS11Error
from pkcs11 import exceptions as p11

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.record import Sealed


class KeyObjects(NamedTuple):
    """The token's objects of one root-key version: an AES key, and a secret for MACs where the profile needs one."""

    aes: Any
    mac: Any | None


class Profile(Protocol):
    """A mechanism profile. ``unseal`` raises IntegrityError only for what it checks itself; the token's own errors pass."""

    name: str
    needs: frozenset[Mechanism]
    capabilities: MechanismFlag
    needs_mac: bool

    def seal(self, keys: KeyObjects, plaintext: bytes, aad: bytes) -> Sealed:
        """Seal ``plaintext``, bound to ``aad``."""

    def unseal(self, keys: KeyObjects, sealed: Sealed, aad: bytes) -> bytes:
        """Open ``sealed``."""


class AesGcm:
    """CKM_AES_GCM with a caller's random 96-bit nonce and the AAD as it is."""

    name = "AES_GCM"
    needs = frozenset({Mechanism.AES_GCM})
    capabilities = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
    needs_mac = False

    def seal(self, keys: KeyObjects, plaintext: bytes, aad: bytes) -> Sealed:
        """See Profile. The nonce is read after the call: tokens that insist on their own write it into these bytes."""
        nonce = os.urandom(12)
        ciphertext = keys.aes.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad))
        return Sealed(self.name, nonce, ciphertext, b"")

    def unseal(self, keys: KeyObjects, sealed: Sealed, aad: bytes) -> bytes:
        """See Profile."""
        if len(sealed.nonce) != 12 or len(sealed.ciphertext) < 16 or sealed.mac:
            raise changed()
        opened: bytes = keys.aes.decrypt(
            sealed.ciphertext, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(sealed.nonce, aad)
        )
        return opened


class AesCbcPadHmac:
    """CKM_AES_CBC_PAD, then HMAC-SHA-256 over AAD, IV and cipher text by a second key: for tokens without an AEAD."""

    name = "AES_CBC_PAD_HMAC"
    needs = frozenset({Mechanism.AES_CBC_PAD, Mechanism.SHA256_HMAC})
    capabilities = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
    needs_mac = True

    def seal(self, keys: KeyObjects, plaintext: bytes, aad: bytes) -> Sealed:
        """See Profile."""
        iv = os.urandom(16)
        ciphertext = keys.aes.encrypt(plaintext, mechanism=Mechanism.AES_CBC_PAD, mechanism_param=iv)
        return Sealed(self.name, iv, ciphertext, self._mac(keys, iv, ciphertext, aad))

    def unseal(self, keys: KeyObjects, sealed: Sealed, aad: bytes) -> bytes:
        """See Profile. Nothing is decrypted before its MAC is right."""
        if len(sealed.nonce) != 16:
            raise changed()
        if not hmac.compare_digest(self._mac(keys, sealed.nonce, sealed.ciphertext, aad), sealed.mac):
            raise changed()
        opened: bytes = keys.aes.decrypt(
            sealed.ciphertext, mechanism=Mechanism.AES_CBC_PAD, mechanism_param=sealed.nonce
        )
        return opened

    def _mac(self, keys: KeyObjects, iv: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        if keys.mac is None:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                "the root key has no MAC key beside it (a generic secret with the same CKA_ID), which this mechanism needs; "
                "run the Create or Adopt Job, which makes it",
            )
        mac: bytes = keys.mac.sign(len(aad).to_bytes(4, "big") + aad + iv + ciphertext, mechanism=Mechanism.SHA256_HMAC)
        return mac


class AesKeyWrapPad:
    """AES key wrap with padding (RFC 5649).

    It takes no AAD, so what is wrapped is SHA-256 of the AAD, the plaintext's length (four bytes) and the plaintext: the wrap
    covers all of it. Filled up to eight bytes here, since some tokens hand padded secrets back with their padding. The
    integrity check is 64 bits wide, so this profile is never chosen by itself.
    """

    name = "AES_KEY_WRAP_PAD"
    needs = frozenset({Mechanism.AES_KEY_WRAP_PAD})
    capabilities = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.WRAP | MechanismFlag.UNWRAP
    needs_mac = False

    def seal(self, keys: KeyObjects, plaintext: bytes, aad: bytes) -> Sealed:
        """See Profile."""
        value = hashlib.sha256(aad).digest() + len(plaintext).to_bytes(4, "big") + plaintext
        value += bytes(-len(value) % 8)
        target = keys.aes.session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                Attribute.TOKEN: False,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: False,
                Attribute.EXTRACTABLE: True,
                Attribute.VALUE: value,
            }
        )
        try:
            return Sealed(self.name, b"", keys.aes.wrap_key(target, mechanism=Mechanism.AES_KEY_WRAP_PAD), b"")
        finally:
            target.destroy()

    def unseal(self, keys: KeyObjects, sealed: Sealed, aad: bytes) -> bytes:
        """See Profile."""
        if sealed.nonce or sealed.mac or len(sealed.ciphertext) < 48 or len(sealed.ciphertext) % 8:
            raise changed()
        try:
            target = keys.aes.unwrap_key(
                ObjectClass.SECRET_KEY,
                KeyType.GENERIC_SECRET,
                sealed.ciphertext,
                mechanism=Mechanism.AES_KEY_WRAP_PAD,
                template={Attribute.PRIVATE: True, Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
            )
        except (p11.WrappedKeyInvalid, p11.WrappedKeyLenRange):
            raise changed() from None
        try:
            value: bytes = target[Attribute.VALUE]
        finally:
            target.destroy()
        length = int.from_bytes(value[32:36], "big")
        if not hmac.compare_digest(value[:32], hashlib.sha256(aad).digest()) or any(value[36 + length :]):
            raise changed()
        return value[36 : 36 + length]


PROFILES: dict[str, Profile] = {profile.name: profile for profile in (AesGcm(), AesCbcPadHmac(), AesKeyWrapPad())}
AUTOMATIC = ("AES_GCM", "AES_CBC_PAD_HMAC")
"""What ``mechanism: Auto`` tries, in this order."""


def changed() -> CustodyError:
    """The error of a record that is not authentic."""
    return CustodyError(
        CustodyErrorKind.INTEGRITY,
        "the record does not belong to this object, was changed, or was wrapped by another key",
    )


def offered(token_mechanisms: set[Mechanism], configured: str) -> list[Profile]:
    """The profiles to try on a token with ``token_mechanisms``, best first.

    Raises:
        CustodyError: none is possible (ConfigurationError).
    """
    names = AUTOMATIC if configured == "Auto" else (configured,)
    profiles = [PROFILES[name] for name in names if PROFILES[name].needs <= token_mechanisms]
    if not profiles:
        wanted = " or ".join("+".join(sorted(f"CKM_{m.name}" for m in PROFILES[name].needs)) for name in names)
        raise CustodyError(
            CustodyErrorKind.CONFIGURATION,
            f"the token does not offer {wanted}, which mechanism {configured} needs; choose another mechanism or token",
        )
    return profiles


def authentication_error(error: Exception) -> bool:
    """Whether a token may say this of a record that is not authentic; they do not agree on one return value."""
    return isinstance(error, PKCS11Error | TypeError | ValueError)

"""Root keys as objects of a token: found by CKA_ID, class and type; made so that they cannot leave it.

A version's AES key and its MAC key share one CKA_ID and differ in CKA_KEY_TYPE. CKA_ID of a key made here is derived from the
root key's id and version, so that making it again finds it. CKA_LABEL is ``<label>/<version>``, for people.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, Session
from pkcs11 import exceptions as p11

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState
from kmip_custody.errors import CustodyError
from kmip_custody.providers.pkcs11.mechanisms import KeyObjects, Profile

_CHECK_BLOCK = b"kmip-op/keycheck"
"""One AES block whose encryption orders keys of one CKA_ID. Not the zero block: its encryption is the GHASH key of GCM."""


def cka_id(key_id: str, version: int) -> bytes:
    """CKA_ID (16 bytes) of version ``version`` of the root key ``key_id``."""
    return hashlib.sha256(b"kmip-operator/cka-id/1\0" + key_id.encode() + b"\0" + str(version).encode()).digest()[:16]


def search(session: Session, identifier: bytes, key_type: KeyType) -> list[Any]:
    """All secret keys with CKA_ID ``identifier`` and type ``key_type``, in one order on every machine.

    Raises:
        CustodyError: there are several and the token gives nothing to order them by (RootKeyUnsuitable).
        PKCS11Error: the token's own.
    """
    template = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: key_type,
        Attribute.ID: identifier,
    }
    found = list(session.get_objects(template))
    return found if len(found) < 2 else sorted(found, key=_order)


def search_label(session: Session, label: str) -> list[Any]:
    """All AES keys labelled ``label``, in the order of :func:`search`."""
    found = list(
        session.get_objects(
            {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.LABEL: label}
        )
    )
    return found if len(found) < 2 else sorted(found, key=_order)


def state(objects: KeyObjects, profile: Profile) -> KeyVersionState:
    """Active, Deactivated (unwraps only) or Suspended, from CKA_ENCRYPT, CKA_DECRYPT (CKA_WRAP, CKA_UNWRAP) and CKA_SIGN."""
    protect, process = (
        (Attribute.WRAP, Attribute.UNWRAP)
        if MechanismFlag.WRAP in profile.capabilities
        else (Attribute.ENCRYPT, Attribute.DECRYPT)
    )
    if not objects.aes[process] or (objects.mac is not None and not objects.mac[Attribute.SIGN]):
        return KeyVersionState.SUSPENDED
    return KeyVersionState.ACTIVE if objects.aes[protect] else KeyVersionState.DEACTIVATED


def generate_aes(session: Session, identifier: bytes, label: str, length: int, profile: Profile, *, store: bool) -> Any:
    """Generate an AES key of ``length`` bits inside the token."""
    return session.generate_key(
        KeyType.AES,
        length,
        id=identifier,
        label=label,
        store=store,
        capabilities=profile.capabilities,
        mechanism=Mechanism.AES_KEY_GEN,
        template=_TEMPLATE,
    )


def generate_mac(session: Session, identifier: bytes, label: str, *, store: bool) -> Any:
    """Generate a 256-bit secret for HMAC-SHA-256 inside the token."""
    return session.generate_key(
        KeyType.GENERIC_SECRET,
        256,
        id=identifier,
        label=label,
        store=store,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        mechanism=Mechanism.GENERIC_SECRET_KEY_GEN,
        template=_TEMPLATE,
    )


_TEMPLATE = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    # Modifiable, so that an administrator can suspend the key by its CKA_DECRYPT and let it serve again.
    Attribute.MODIFIABLE: True,
}


def demand_suitable(key: Any, where: str, length: int | None) -> None:
    """Check that ``key`` can be a root key: AES, ``length`` bits if given, sensitive, never extractable.

    Raises:
        CustodyError: RootKeyUnsuitable, with every fault found.
    """
    faults = []
    bits = 8 * int(key[Attribute.VALUE_LEN])
    if length is not None and bits != length:
        faults.append(f"it has {bits} bits, not {length}")
    if length is None and bits not in {128, 192, 256}:
        faults.append(f"it has {bits} bits")
    if key[Attribute.EXTRACTABLE]:
        faults.append("it can be extracted (CKA_EXTRACTABLE is true)")
    if not key[Attribute.SENSITIVE]:
        faults.append("its value can be read (CKA_SENSITIVE is false)")
    if not key[Attribute.TOKEN]:
        faults.append("it vanishes with the session (CKA_TOKEN is false)")
    if faults:
        raise CustodyError(
            CustodyErrorKind.ROOT_KEY_UNSUITABLE,
            f"{where} cannot be a root key: {'; '.join(faults)}. Use a key that is AES, sensitive and not extractable",
        )


def _order(key: Any) -> tuple[bytes, str]:
    return _check_value(key), key.label


def _check_value(key: Any) -> bytes:
    """Three bytes that tell keys apart without telling them: CKA_CHECK_VALUE, else of a block encrypted."""
    try:
        value: bytes = key[Attribute.CHECK_VALUE]
        if value:
            return value
    except p11.PKCS11Error:
        pass
    try:
        block: bytes = key.encrypt(_CHECK_BLOCK, mechanism=Mechanism.AES_ECB)
    except (p11.PKCS11Error, AttributeError):
        raise CustodyError(
            CustodyErrorKind.ROOT_KEY_UNSUITABLE,
            f"several keys have CKA_ID {bytes(key.id).hex()} and the token cannot tell which is which; "
            "give all but one another CKA_ID (do not destroy any that may have wrapped keys)",
        ) from None
    return block[:3]

"""The life of root-key versions in a token: suspended, resumed, destroyed. Everything here runs on the module's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pkcs11 import Attribute, KeyType, MechanismFlag, PKCS11Error
from pkcs11 import exceptions as p11

from kmip_contract.rootkey import CustodyErrorKind, RootKeyFacts
from kmip_custody.errors import CustodyError, NotSupportedError
from kmip_custody.providers.api import Gone, KeyVersion
from kmip_custody.providers.pkcs11 import keys
from kmip_custody.providers.pkcs11.errors import classify, connection_lost
from kmip_custody.providers.pkcs11.token import LoggedInToken

ACTION_PROHIBITED = "0x1b"
"""CKR_ACTION_PROHIBITED as python-pkcs11 words it: it has no exception of its own there."""

_FIXED = (p11.AttributeReadOnly, p11.AttributeTypeInvalid, p11.TemplateInconsistent)
"""The token does not let the attribute be changed (CKA_MODIFIABLE is false, or its own policy)."""


def permit(token: LoggedInToken, versions: Sequence[KeyVersion], *, allowed: bool) -> None:
    """Let ``versions`` be used, or not.

    Raises:
        CustodyError: a version is not there; NotSupportedError: the token does not let the attributes be changed.
    """
    token.writable_session()
    for key in versions:
        found = token.objects(key)
        wraps = MechanismFlag.WRAP in token.profile.capabilities
        use = (Attribute.UNWRAP, Attribute.WRAP) if wraps else (Attribute.DECRYPT, Attribute.ENCRYPT)
        # Other records of the key may have been made by another mechanism: what it has of the others goes the same way.
        other = (Attribute.DECRYPT, Attribute.ENCRYPT) if wraps else (Attribute.UNWRAP, Attribute.WRAP)
        for objects in found:
            for attribute in use if allowed else (*use, *other):
                _set(token, objects.aes, attribute, key, allowed=allowed)
            if objects.mac is not None:
                for attribute in (Attribute.SIGN, Attribute.VERIFY):
                    _set(token, objects.mac, attribute, key, allowed=allowed)
        token.forget(key)


def destroy(token: LoggedInToken, versions: Sequence[KeyVersion]) -> Gone:
    """Destroy every object of ``versions``; what is not there is gone already."""
    session = token.writable_session()
    for key in versions:
        identifier = bytes.fromhex(key.handle)
        for key_type in (KeyType.AES, KeyType.GENERIC_SECRET):
            for found in keys.search(session, identifier, key_type):
                _destroy(token, found, key)
        token.forget(key)
    return Gone(note="copies in the HSM's own backups live on until those are gone")


def facts(token: LoggedInToken, versions: Sequence[KeyVersion]) -> RootKeyFacts:
    """What the token says of those that are there; a key not made in the token, or once extractable, may have a copy."""
    exportable, imported, seen = False, False, False
    for key in versions:
        try:
            found = token.objects(key)
        except CustodyError as error:
            if error.kind.revoked:
                continue
            raise
        for objects in found:
            seen = True
            exportable = exportable or not _reads(objects.aes, Attribute.NEVER_EXTRACTABLE)
            imported = imported or not _reads(objects.aes, Attribute.LOCAL)
    if not seen:
        return RootKeyFacts()
    return RootKeyFacts(exportable=exportable, imported=imported, deletion_allowed=True)


def length_and_label(token: LoggedInToken, key: KeyVersion) -> tuple[int, str]:
    """Bits of a version, and its label without the version."""
    aes = token.objects(key)[0].aes
    try:
        return 8 * int(aes[Attribute.VALUE_LEN]), str(aes.label).removesuffix(f"/{key.version}")
    except PKCS11Error as error:
        raise classify(error, "reading the key's attributes") from None


def _reads(key: Any, attribute: Attribute) -> bool:
    """A boolean attribute; false where the token does not have it."""
    try:
        return bool(key[attribute])
    except PKCS11Error as error:
        if connection_lost(error):
            raise classify(error, "reading the key's attributes") from None
        return False


def _set(token: LoggedInToken, target: Any, attribute: Attribute, key: KeyVersion, *, allowed: bool) -> None:
    if _reads(target, attribute) == allowed:
        return
    try:
        target[attribute] = allowed
    except PKCS11Error as error:
        if isinstance(error, _FIXED) or ACTION_PROHIBITED in str(error):
            raise NotSupportedError(
                f"the token does not let CKA_{attribute.name} of the key with CKA_ID {key.handle} be changed: it cannot be "
                "suspended or resumed there; take away the user's right to the key instead"
            ) from None
        if connection_lost(error):
            token.drop()
        raise classify(error, f"setting CKA_{attribute.name}") from None


def _destroy(token: LoggedInToken, target: Any, key: KeyVersion) -> None:
    try:
        target.destroy()
    except p11.ObjectHandleInvalid:
        return
    except p11.AttributeReadOnly:
        raise _protected(key, "AttributeReadOnly") from None
    except PKCS11Error as error:
        if connection_lost(error):
            token.drop()
        if ACTION_PROHIBITED in str(error):
            raise _protected(key, "CKR_ACTION_PROHIBITED") from None
        raise classify(error, "destroying the key") from None


def _protected(key: KeyVersion, answer: str) -> CustodyError:
    return CustodyError(
        CustodyErrorKind.CONFIGURATION,
        f"the token answered {answer} to destroying the key with CKA_ID {key.handle}: it protects the key (CKA_DESTROYABLE is "
        "false, or the user may not); destroy it with the HSM's own tools",
    )

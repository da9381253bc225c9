"""PKCS#11 return values as custody's error kinds."""

from __future__ import annotations

import pkcs11
from pkcs11 import exceptions as p11

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError

CREDENTIAL = (
    p11.PinIncorrect,
    p11.PinInvalid,
    p11.PinLenRange,
    p11.PinLocked,
    p11.PinExpired,
    p11.PinTooWeak,
    p11.UserPinNotInitialized,
)
"""The token refused the PIN."""

CONNECTION = (
    p11.DeviceError,
    p11.DeviceMemory,
    p11.DeviceRemoved,
    p11.SessionClosed,
    p11.SessionCount,
    p11.SessionHandleInvalid,
    p11.TokenNotPresent,
    p11.TokenNotRecognised,
    p11.SlotIDInvalid,
    p11.UserNotLoggedIn,
    p11.HostMemory,
)
"""The session or the device is gone."""

UNSUITABLE = (
    p11.MechanismInvalid,
    p11.KeyTypeInconsistent,
    p11.KeySizeRange,
    p11.FunctionNotSupported,
    p11.TemplateIncomplete,
    p11.TemplateInconsistent,
    p11.AttributeTypeInvalid,
    p11.AttributeValueInvalid,
    p11.AttributeReadOnly,
    p11.KeyNotWrappable,
    p11.TokenWriteProtected,
    p11.SessionReadOnly,
)
"""The token or the key cannot do this."""

FUNCTION_NOT_PERMITTED = "0x68"
"""CKR_KEY_FUNCTION_NOT_PERMITTED as python-pkcs11 words it: it has no exception of its own there."""


def connection_lost(error: Exception) -> bool:
    """Whether the session must be opened again; a bare PKCS11Error about initialisation means the same."""
    return isinstance(error, CONNECTION) or "not initialized" in str(error)


def classify(error: Exception, doing: str) -> CustodyError:
    """``error``, raised while ``doing``, as a CustodyError."""
    if isinstance(error, CustodyError):
        return error
    name = type(error).__name__
    if isinstance(error, AttributeError) or FUNCTION_NOT_PERMITTED in str(error):
        return CustodyError(
            CustodyErrorKind.ROOT_KEY_DISABLED,
            f"the token does not permit {doing} with the root key (its CKA_ENCRYPT, CKA_DECRYPT or CKA_SIGN is false); "
            "enable the key in the token",
        )
    if isinstance(error, UNSUITABLE):
        return CustodyError(
            CustodyErrorKind.ROOT_KEY_UNSUITABLE,
            f"{doing}: the token answered {name}: it or the key cannot do this; choose another mechanism or key",
        )
    detail = f" ({error})" if isinstance(error, pkcs11.PKCS11Error) and str(error) else ""
    return CustodyError(
        CustodyErrorKind.UNAVAILABLE, f"{doing}: the token answered {name}{detail}; check the HSM and its connection"
    )

"""Loading a PKCS#11 module so that it locks its own data, and finding a token in it."""

from __future__ import annotations

import ctypes
from pathlib import Path

from pkcs11 import PKCS11Error, Token, TokenFlag, _pkcs11

from kmip_contract.rootkey import CustodyErrorKind, ProviderFacts
from kmip_custody.errors import CustodyError

_CKF_OS_LOCKING_OK = 2
_CKR_OK = 0
_CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (PKCS#11 2.40 §4.4)."""

    _fields_ = [
        ("CreateMutex", ctypes.c_void_p),
        ("DestroyMutex", ctypes.c_void_p),
        ("LockMutex", ctypes.c_void_p),
        ("UnlockMutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("pReserved", ctypes.c_void_p),
    ]


class Module(_pkcs11.lib):
    """A module initialised with CKF_OS_LOCKING_OK.

    python-pkcs11 passes no arguments to C_Initialize, which tells the module that it is used by one thread only; modules then
    drop their mutexes, and some have threads of their own.
    """

    def initialize(self) -> None:
        """C_Initialize; a module that is initialised already is taken as it is.

        Raises:
            PKCS11Error: the module refused.
        """
        arguments = _InitializeArgs(flags=_CKF_OS_LOCKING_OK)
        result = ctypes.CDLL(self.so).C_Initialize(ctypes.byref(arguments)) & 0xFFFFFFFF
        if result not in {_CKR_OK, _CKR_CRYPTOKI_ALREADY_INITIALIZED}:
            raise PKCS11Error(f"C_Initialize returned {result:#x}")

    def restart(self) -> None:
        """C_Finalize and C_Initialize: every session is gone afterwards, and slots are looked at afresh."""
        ctypes.CDLL(self.so).C_Finalize(None)
        self.initialize()

    def stop(self) -> None:
        """C_Finalize."""
        ctypes.CDLL(self.so).C_Finalize(None)


def load(path: Path) -> Module:
    """Load and initialise the module at ``path``.

    Raises:
        CustodyError: ModuleNotFound (no such file, or not a PKCS#11 module), ConfigurationError (it refused to initialise).
    """
    if not path.is_file():
        raise CustodyError(
            CustodyErrorKind.MODULE_NOT_FOUND,
            f"PKCS#11 module {path}: no such file in this container; check the path, or the image that should bring it",
        )
    try:
        ctypes.CDLL(str(path)).C_GetFunctionList  # noqa: B018 - the look-up is the test
    except (OSError, AttributeError) as error:
        reason = str(error) if isinstance(error, OSError) else "it does not export C_GetFunctionList"
        raise CustodyError(
            CustodyErrorKind.MODULE_NOT_FOUND,
            f"PKCS#11 module {path} cannot be loaded: {reason}; is it built for this platform and complete?",
        ) from None
    try:
        return Module(str(path))
    except PKCS11Error as error:
        raise CustodyError(
            CustodyErrorKind.CONFIGURATION,
            f"PKCS#11 module {path} does not initialise: {str(error) or type(error).__name__}; "
            "check its configuration file and the files it keeps",
        ) from None


def find_token(module: Module, label: str) -> Token:
    """The token labelled ``label``.

    Raises:
        CustodyError: none or several have the label (TokenNotFound); the message lists the labels found.
    """
    found: list[str] = []
    matching: list[Token] = []
    unreadable = 0
    try:
        slots = module.get_slots(token_present=True)
    except PKCS11Error as error:
        raise CustodyError(
            CustodyErrorKind.UNAVAILABLE,
            f"PKCS#11 module {module.so} cannot list its slots ({type(error).__name__}); check the HSM and its connection",
        ) from None
    for slot in slots:
        try:
            token = slot.get_token()
        except PKCS11Error:
            unreadable += 1
            continue
        if TokenFlag.TOKEN_INITIALIZED in token.flags:
            found.append(token.label)
            if token.label == label:
                matching.append(token)
    if len(matching) == 1:
        return matching[0]
    listing = ", ".join(repr(name) for name in sorted(found)) or "no initialised token"
    extra = f" ({unreadable} slots could not be read)" if unreadable else ""
    what = "no token is" if not matching else f"{len(matching)} tokens are"
    raise CustodyError(
        CustodyErrorKind.TOKEN_NOT_FOUND,
        f"{what} labelled {label!r} in module {module.so}; it shows {listing}{extra}. "
        "Use the label of one of them, or initialise the token",
    )


def describe(token: Token, mechanism: str) -> ProviderFacts:
    """The token's facts."""
    return ProviderFacts(
        manufacturer=token.manufacturer_id,
        model=token.model,
        serial=token.serial.decode("ascii", "replace").strip("\0 "),
        firmware=".".join(str(part) for part in token.firmware_version),
        mechanism=mechanism,
    )

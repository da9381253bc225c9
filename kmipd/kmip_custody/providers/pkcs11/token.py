"""A logged-in token: everything here runs on the module's one thread.

The anchor session is opened with the PIN and stays; work runs in a second session opened without it, since closing a session
that was opened with a PIN logs out all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import structlog
from pkcs11 import KeyType, PKCS11Error, Session, Token

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, Pkcs11Connection, ProviderFacts
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError
from kmip_custody.metrics import LOGINS
from kmip_custody.providers.api import KeyVersion
from kmip_custody.providers.pkcs11 import keys, module
from kmip_custody.providers.pkcs11.errors import CREDENTIAL, classify, connection_lost
from kmip_custody.providers.pkcs11.mechanisms import KeyObjects, Profile, offered

R = TypeVar("R")

REOPEN_FIRST = 1.0
REOPEN_MOST = 30.0
"""Seconds between attempts to open a token that does not open: doubled each time, so that a broken one is not hammered."""

ABSENCE_TRUSTED = 30.0
"""Seconds for which a key's absence, confirmed after a new log-in, is believed without logging in again."""

_log = structlog.get_logger("kmip_custody.token")


class LoggedInToken:
    """Opens itself when used; forgets what it knows and opens again when the session is lost."""

    def __init__(self, connection: Pkcs11Connection, credential: Credential, *, writable: bool = False) -> None:
        self._connection = connection
        self._credential = credential
        self._module: module.Module | None = None
        self._anchor: Session | None = None
        self._work: Session | None = None
        self._writable = writable
        self._token: Token | None = None
        self._objects: dict[KeyVersion, tuple[KeyObjects, ...]] = {}
        self._seen: set[KeyVersion] = set()
        self._absent: dict[KeyVersion, float] = {}
        self._open_error: CustodyError | None = None
        self._open_again_at = 0.0
        self._open_delay = REOPEN_FIRST
        self._was_open = False
        self.profiles: list[Profile] = []

    @property
    def profile(self) -> Profile:
        """The profile new records are made with."""
        return self.profiles[0]

    def facts(self) -> ProviderFacts:
        """The token's facts; it must be open."""
        if self._token is None:
            raise CustodyError(CustodyErrorKind.UNAVAILABLE, "the token is not open")
        return module.describe(self._token, self.profile.name)

    def session(self) -> Session:
        """The session for work, opened if it is not.

        Raises:
            CustodyError: it does not open, or it did not a moment ago.
        """
        if self._work is not None:
            return self._work
        if self._open_error is not None and monotonic() < self._open_again_at:
            raise self._open_error
        try:
            self._open()
        except CustodyError as error:
            self._postpone(error)
            raise
        except PKCS11Error as error:
            failure = classify(error, f"opening token {self._connection.token_label!r}")
            self._postpone(failure)
            raise failure from None
        self._open_error = None
        self._open_delay = REOPEN_FIRST
        if self._work is None:
            raise CustodyError(CustodyErrorKind.UNAVAILABLE, "the token did not open")
        return self._work

    def writable_session(self) -> Session:
        """The session for work, able to make objects that stay."""
        if not self._writable:
            self._writable = True
            self.drop()
        return self.session()

    def objects(self, key: KeyVersion) -> tuple[KeyObjects, ...]:
        """The objects of ``key``, from memory or from the token.

        The first wraps. There are others only where keys share a CKA_ID (two makers at one moment, a careless copy): the order
        is the same for every user of the token, and a record that the first does not open is tried with the others.

        Raises:
            CustodyError: RootKeyNotFound, or RootKeyDestroyed if it was seen before; or the token does not open.
        """
        known = self._objects.get(key)
        if known is None:
            known = self.retrying(f"looking up key {key.handle}", lambda: self._look_up(key))
            self._objects[key] = known
        return known

    def forget(self, key: KeyVersion) -> None:
        """Look ``key`` up afresh the next time."""
        self._objects.pop(key, None)

    def state(self, key: KeyVersion) -> KeyVersionState:
        """The state of ``key`` as the token has it now."""
        self.forget(key)
        try:
            first = self.objects(key)[0]
        except CustodyError as error:
            if error.kind in {CustodyErrorKind.ROOT_KEY_DESTROYED, CustodyErrorKind.ROOT_KEY_NOT_FOUND}:
                return KeyVersionState.DESTROYED
            raise
        return self.retrying("reading the key's attributes", lambda: keys.state(first, self.profile))

    def retrying(self, doing: str, action: Callable[[], R]) -> R:
        """Do ``action``; once more after opening again if the session was lost.

        Raises:
            CustodyError: as classified.
        """
        self.session()
        try:
            return action()
        except PKCS11Error as error:
            if not connection_lost(error):
                raise classify(error, doing) from None
        self.drop()
        self.session()
        try:
            return action()
        except PKCS11Error as error:
            raise classify(error, doing) from None

    def once(self, doing: str, action: Callable[[], R]) -> R:
        """Do ``action``, which must not be repeated blindly: it may have happened though its answer was lost.

        Raises:
            CustodyError: as classified.
        """
        try:
            return action()
        except PKCS11Error as error:
            if connection_lost(error):
                self.drop()
            raise classify(error, doing) from None

    def drop(self) -> None:
        """Close what is open, without asking whether it still answers; the next use opens again."""
        self._objects.clear()
        self._work = self._anchor = self._token = None

    def close(self) -> None:
        """Log out and finalise the module."""
        anchor, self._anchor = self._anchor, None
        self.drop()
        try:
            if anchor is not None:
                anchor.close()
        except PKCS11Error:
            _log.info("token.logout_failed", token=self._connection.token_label)
        if self._module is not None:
            self._module.stop()
            self._module = None

    def _open(self) -> None:
        self.drop()
        pin = self._credential.read()
        if self._module is None:
            self._module = module.load(self._connection.module)
        elif self._was_open or self._open_error is not None:
            self._module.restart()
        token = module.find_token(self._module, self._connection.token_label)
        self.profiles = offered(set(token.slot.get_mechanisms()), self._connection.mechanism)
        self._log_in(token, pin)
        self._token = token
        self._work = token.open(rw=self._writable)
        self._was_open = True

    def _log_in(self, token: Token, pin: bytes) -> None:
        try:
            text = pin.decode()
        except UnicodeDecodeError:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION,
                f"the PIN in {self._credential.path} is not UTF-8 text; PKCS#11 PINs are",
            ) from None
        try:
            self._anchor = token.open(rw=self._writable, user_pin=text)
        except CREDENTIAL as error:
            LOGINS.labels(outcome="refused").inc()
            refusal = self._credential.refused(pin)
            name = type(error).__name__
            _log.error("token.login_refused", token=token.label, answer=name)
            raise CustodyError(refusal.kind, f"token {token.label!r} answered {name}: {refusal.message}") from None
        self._credential.accepted(pin)
        LOGINS.labels(outcome="accepted").inc()
        _log.info("token.logged_in", token=token.label, serial=token.serial.decode("ascii", "replace"))

    def _postpone(self, error: CustodyError) -> None:
        self._open_error = error
        credential_kinds = {CustodyErrorKind.CREDENTIAL_UNCONFIRMED, CustodyErrorKind.CREDENTIAL_REFUSED}
        if error.kind in credential_kinds | {CustodyErrorKind.AUTHORIZATION_LOST}:
            # Only the file is read again: the token is not asked before it holds another credential.
            self._open_again_at = 0.0
            return
        self._open_again_at = monotonic() + self._open_delay
        self._open_delay = min(2 * self._open_delay, REOPEN_MOST)

    def _look_up(self, key: KeyVersion) -> tuple[KeyObjects, ...]:
        identifier = bytes.fromhex(key.handle)
        found = keys.search(self.session(), identifier, KeyType.AES)
        if not found and monotonic() - self._absent.get(key, -ABSENCE_TRUSTED) >= ABSENCE_TRUSTED:
            # A session that silently lost its log-in sees no private objects either: only a new log-in proves absence.
            self.drop()
            found = keys.search(self.session(), identifier, KeyType.AES)
        if not found:
            self._absent[key] = monotonic()
            raise self._absence(key)
        self._absent.pop(key, None)
        self._seen.add(key)
        if len(found) > 1:
            _log.warning("rootkey.duplicates", cka_id=key.handle, count=len(found), wraps_with=found[0].label)
        macs = keys.search(self.session(), identifier, KeyType.GENERIC_SECRET)
        return tuple(KeyObjects(aes, mac) for aes in found for mac in (macs or [None]))

    def _absence(self, key: KeyVersion) -> CustodyError:
        where = f"token {self._connection.token_label!r} of module {self._connection.module}"
        if key in self._seen:
            return CustodyError(
                CustodyErrorKind.ROOT_KEY_DESTROYED,
                f"version {key.version} of the root key (CKA_ID {key.handle}) was in {where} and is gone; "
                "if it was not destroyed on purpose, restore it from the HSM's backup",
            )
        return CustodyError(
            CustodyErrorKind.ROOT_KEY_NOT_FOUND,
            f"version {key.version} of the root key (an AES key with CKA_ID {key.handle}) is not in {where}; "
            "check that this is the right token and that this user may see the key",
        )

    def temporary(self, profile: Profile) -> KeyObjects | None:
        """Keys of this session alone, for a test before there is a root key; ``None`` if this user may not make any."""
        session = self.session()
        try:
            aes = keys.generate_aes(session, b"", "", 256, profile, store=False)
            return KeyObjects(aes, keys.generate_mac(session, b"", "", store=False) if profile.needs_mac else None)
        except PKCS11Error as error:
            if connection_lost(error):
                raise classify(error, "making a key of the session") from None
            _log.info("mechanism.not_proved", mechanism=profile.name, answer=type(error).__name__)
            return None

"""The credential file: read when needed, compared with what a Job confirmed, never tried twice once refused."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from kmip_contract.rootkey import CredentialCheck, CustodyErrorKind
from kmip_custody.errors import CustodyError

MAX_CREDENTIAL = 64 * 1024
"""Bytes; PINs, seeds and tokens are far smaller, so a larger file is a wrong path."""


class Credential:
    """The credential in ``path``. Only a salted digest of a refused one is kept, in memory, under a key of this process.

    ``text``: a line end after the credential is not part of it. With ``require_confirmed`` a credential whose HMAC is not the
    one in ``check`` is not handed out.
    """

    def __init__(
        self, path: Path, *, text: bool, check: CredentialCheck | None = None, require_confirmed: bool = False
    ) -> None:
        self.path = path
        self.check = check
        self._text = text
        self._require_confirmed = require_confirmed
        self._salt = secrets.token_bytes(32)
        self._refused: bytes | None = None
        self._accepted: bytes | None = None

    def read(self) -> bytes:
        """The credential's bytes, for one log-in.

        Raises:
            CustodyError: ConfigurationError (file missing, unreadable, empty), CredentialUnconfirmed (no Job confirmed this
                content), CredentialRefused or AuthorizationLost (the token refused this content before).
        """
        secret = self._read_file()
        if self._require_confirmed and self.check is not None:
            self._demand_confirmed(secret)
        if self._refused is not None and hmac.compare_digest(self._digest(secret), self._refused):
            raise self._refusal()
        return secret

    def accepted(self, secret: bytes) -> None:
        """The token accepted ``secret``."""
        self._accepted = self._digest(secret)
        self._refused = None

    def refused(self, secret: bytes) -> CustodyError:
        """The token refused ``secret``: it is not tried again until the file holds another; the error to raise."""
        self._refused = self._digest(secret)
        return self._refusal()

    def hmac(self) -> str | None:
        """HMAC-SHA-256 (hex) of the credential under the key in ``check.key_file``; ``None`` without a check.

        Raises:
            CustodyError: either file is missing, unreadable or empty (ConfigurationError).
        """
        return None if self.check is None else self._hmac(self._read_file())

    def signature(self) -> tuple[int, int, int] | None:
        """Changes whenever the file is replaced or rewritten; ``None`` while it does not exist."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read_file(self) -> bytes:
        secret = _read(self.path, "credential")
        if self._text:
            secret = secret.removesuffix(b"\n").removesuffix(b"\r")
        if not secret:
            raise _configuration(f"credential file {self.path} is empty; put the credential into it")
        return secret

    def _demand_confirmed(self, secret: bytes) -> None:
        confirmed = self.check.hmac if self.check else None
        if confirmed is None or not hmac.compare_digest(self._hmac(secret), confirmed):
            raise CustodyError(
                CustodyErrorKind.CREDENTIAL_UNCONFIRMED,
                f"the credential in {self.path} is not the one a Job confirmed, so it is not tried on the token; "
                "run the Probe Job with it, or restore the confirmed one",
            )

    def _hmac(self, secret: bytes) -> str:
        if self.check is None:
            raise ValueError("no credential check is configured")
        return hmac.new(_read(self.check.key_file, "credential HMAC key"), secret, hashlib.sha256).hexdigest()

    def _digest(self, secret: bytes) -> bytes:
        return hmac.digest(self._salt, secret, "sha256")

    def _refusal(self) -> CustodyError:
        if self._accepted is not None and self._accepted == self._refused:
            return CustodyError(
                CustodyErrorKind.AUTHORIZATION_LOST,
                f"the token no longer accepts the credential in {self.path}, which it accepted before; it is not tried again: "
                "put the token's present credential into the file",
            )
        return CustodyError(
            CustodyErrorKind.CREDENTIAL_REFUSED,
            f"the token refused the credential in {self.path}; it is not tried again, so that the token does not lock: "
            "put the right credential into the file",
        )


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CREDENTIAL + 1)
    except OSError as error:
        raise _configuration(f"{what} file {path}: {error.strerror}; check the mount and the file's mode") from None
    if not data or len(data) > MAX_CREDENTIAL:
        raise _configuration(
            f"{what} file {path} holds {'nothing' if not data else 'more than 64 KiB'}; check the path"
        )
    return data


def _configuration(message: str) -> CustodyError:
    return CustodyError(CustodyErrorKind.CONFIGURATION, message)

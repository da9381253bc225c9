"""What Key Protect wraps, and how its answers become records.

A plaintext gets one byte before it, which tells what it is; it is also never empty then, since Key Protect makes a key of its
own where it is given none. What is longer than a wrap is meant for is encrypted here (AES-256-GCM, SP 800-38D) by a random key
of its own, and that key is wrapped. The additional authenticated data is given as its SHA-256: Key Protect takes short strings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.providers.keyprotect.errors import strange
from kmip_custody.record import Sealed

MECHANISM = "KEY_PROTECT"
"""Of both: an envelope has a nonce and a MAC field, which holds its wrapped key."""

LONGEST_DIRECT = 1024
"""Bytes wrapped by the root key itself: every symmetric key. The service documents no limit for a wrap, but keys alone."""

_PLAINTEXT = b"\1"
_KEY = b"\2"


class Request(NamedTuple):
    """The body of a wrap, and what of the record is made here."""

    body: dict[str, Any]
    nonce: bytes
    ciphertext: bytes


def prepare(plaintext: bytes | memoryview, aad: bytes) -> Request:
    """What to ask for ``plaintext``."""
    if len(plaintext) <= LONGEST_DIRECT:
        return Request(_body(_PLAINTEXT + bytes(plaintext), aad), b"", b"")
    key, nonce = AESGCM.generate_key(256), os.urandom(12)
    return Request(_body(_KEY + key, aad), nonce, AESGCM(key).encrypt(nonce, plaintext, aad))


def sealed(request: Request, answer: dict[str, Any]) -> Sealed:
    """The record's content of a wrap's answer."""
    wrapped = _decoded(answer.get("ciphertext"), "wrapping")
    if not wrapped:
        raise strange("wrapping")
    if request.nonce:
        return Sealed(MECHANISM, request.nonce, request.ciphertext, wrapped)
    return Sealed(MECHANISM, b"", wrapped, b"")


def unwrap_body(content: Sealed, aad: bytes) -> dict[str, Any]:
    """The body of an unwrap.

    Raises:
        CustodyError: the record was not made here (IntegrityError).
    """
    if content.mechanism != MECHANISM or len(content.nonce) not in {0, 12} or bool(content.mac) != bool(content.nonce):
        raise _false()
    wrapped = content.mac or content.ciphertext
    return {"ciphertext": base64.b64encode(wrapped).decode(), "aad": _aad(aad)}


def opened(content: Sealed, aad: bytes, answer: dict[str, Any]) -> bytes:
    """The plaintext of an unwrap's answer.

    Raises:
        CustodyError: the answer holds none (Unavailable), or it does not open the envelope (IntegrityError).
    """
    plaintext = _decoded(answer.get("plaintext"), "unwrapping")
    mark, plaintext = plaintext[:1], plaintext[1:]
    if mark not in {_PLAINTEXT, _KEY}:
        raise strange("unwrapping")
    if mark != (_KEY if content.nonce else _PLAINTEXT):
        raise _false()
    if not content.nonce:
        return plaintext
    try:
        return AESGCM(plaintext).decrypt(content.nonce, content.ciphertext, aad)
    except (InvalidTag, ValueError):
        raise _false() from None


def _body(plaintext: bytes, aad: bytes) -> dict[str, Any]:
    return {"plaintext": base64.b64encode(plaintext).decode(), "aad": _aad(aad)}


def _aad(aad: bytes) -> list[str]:
    return [base64.b64encode(hashlib.sha256(aad).digest()).decode()]


def _decoded(text: object, doing: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except binascii.Error:
        raise strange(doing) from None


def _false() -> CustodyError:
    return CustodyError(CustodyErrorKind.INTEGRITY, "the record does not belong to this object or was changed")

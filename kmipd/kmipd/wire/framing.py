"""How long a message is, told from its first eight bytes."""

from __future__ import annotations

HEADER_LENGTH = 8
"""Bytes of a TTLV header: tag (3), type (1), length (4) (KMIP 1.4 §9.1.1)."""

_REQUEST_MESSAGE = b"\x42\x00\x78\x01"


class FramingError(ValueError):
    """The bytes are not the start of a request message, or it is longer than allowed: nothing after them can be trusted."""


def message_length(header: bytes, limit: int) -> int:
    """Bytes of the whole message that starts with the eight bytes ``header``, these included.

    Raises:
        FramingError: not a Request Message structure, a length that TTLV does not allow, or more than ``limit`` bytes.
    """
    if header[:4] != _REQUEST_MESSAGE:
        raise FramingError("not a KMIP request message")
    length = int.from_bytes(header[4:8], "big")
    if length & 7:
        raise FramingError("a structure's length is a multiple of eight")
    if HEADER_LENGTH + length > limit:
        raise FramingError(
            f"a message of {HEADER_LENGTH + length} bytes is longer than the {limit} this server accepts"
        )
    return HEADER_LENGTH + length

"""What the server hands to the engine and gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as the server established it for this request.

    ``name`` is the allowlist entry, ``fingerprint`` the lower-case hexadecimal SHA-256 of the DER leaf, ``address`` is
    ``ip:port``. ``operations`` are KMIP operation names (:mod:`kmip_contract.permissions`); DiscoverVersions and Query are
    permitted to every client.
    """

    name: str
    fingerprint: str
    address: str
    operations: frozenset[str]


class AuditEvent(NamedTuple):
    """One batch item, or one message that could not be read (``operation`` is then empty).

    ``status`` and ``reason`` are KMIP's names (``Success``, ``OperationFailed``; ``reason`` is empty on success), ``message``
    the result message, ``protocol_version`` such as ``1.1`` or empty when the header could not be read, ``correlation`` the
    client's correlation value (KMIP 1.4). ``duration_us`` counts the item's processing in microseconds. No key material.
    """

    operation: str
    uids: tuple[str, ...]
    status: str
    reason: str
    message: str
    protocol_version: str
    client: Client
    duration_us: int
    correlation: str = ""


class Reply(NamedTuple):
    """An answer. ``close``: the framing is lost, send ``data`` and hang up."""

    data: bytes
    close: bool


@dataclass(frozen=True, slots=True)
class ServerInformation:
    """What Query tells about this server (KMIP 1.4 §4.25); ``vendor`` at most 60 characters, as old clients' buffers expect."""

    vendor: str = "kmip-operator"
    version: str = ""
    instance: str = ""

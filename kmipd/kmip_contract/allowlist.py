"""The allowlist: which client certificates an instance serves, rendered by the operator, enforced by kmipd."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, field_serializer

from kmip_contract.model import Model

ALLOWLIST_KEY = "allowlist.json"
"""The key of the Secret, and so the file name in the mounted directory."""


class EntryType(StrEnum):
    """How an entry identifies clients."""

    LEAF = "Leaf"
    AUTHORITY = "Authority"


class EntryState(StrEnum):
    """Whether an entry's clients are served."""

    ACTIVE = "Active"
    BLOCKED = "Blocked"


class Serving(StrEnum):
    """The instance's switch: ``Fenced`` refuses every key within seconds and destroys nothing."""

    ENABLED = "Enabled"
    FENCED = "Fenced"


class SubjectMatch(Model):
    """What a certificate of an authority must say, all of what is given; compared exactly and case-sensitively.

    ``common_name`` is the subject's CN; the others are subject alternative names (RFC 5280 §4.2.1.6).
    """

    common_name: str | None = None
    organization: str | None = None
    organizational_unit: str | None = None
    dns_name: str | None = None
    uri: str | None = None


class AllowlistEntry(Model):
    """One trusted leaf or authority.

    ``sha256`` is the lower-case hexadecimal SHA-256 of the DER certificate; ``pem`` the certificate itself (exactly one block).
    ``operations`` are KMIP operation names as in :mod:`kmip_contract.permissions`.
    """

    name: str
    type: EntryType
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    pem: str
    match: SubjectMatch | None = None
    operations: frozenset[str]
    state: EntryState = EntryState.ACTIVE
    not_before: datetime
    not_after: datetime

    @field_serializer("operations")
    def _sorted_operations(self, operations: frozenset[str]) -> list[str]:
        """The same text on every run, so that the operator sees no change where there is none."""
        return sorted(operations)


class Allowlist(Model):
    """All entries of one instance. ``revision`` only grows; kmipd refuses to go back to a smaller one while it runs."""

    version: Literal[1] = 1
    revision: int = Field(ge=0)
    serving: Serving = Serving.ENABLED
    entries: tuple[AllowlistEntry, ...] = ()

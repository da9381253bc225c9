"""A transit key as Vault describes it, and what that means for a root key."""

from __future__ import annotations

from typing import Any, NamedTuple

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, RootKeyFacts
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import FoundKey, KeyVersion
from kmip_custody.providers.vault.errors import strange

TYPES = {256: "aes256-gcm96", 128: "aes128-gcm96"}
"""Bits → transit key type, of those with associated data."""


class Policy(NamedTuple):
    """The part of ``GET transit/keys/NAME`` that matters. ``made``: version → seconds since 1970 of its making."""

    name: str
    type: str
    made: dict[int, int]
    latest: int
    min_available: int
    min_decryption: int
    min_encryption: int
    derived: bool
    facts: RootKeyFacts

    @classmethod
    def read(cls, name: str, data: object) -> Policy:
        """Read the answer's ``data``.

        Raises:
            CustodyError: it is not what Vault gives (Unavailable).
        """
        if not isinstance(data, dict):
            raise strange(f"reading transit key {name!r}", "no data")
        try:
            made = {int(number): _moment(value) for number, value in data["keys"].items()}
            return cls(
                name=name,
                type=str(data["type"]),
                made=made,
                latest=int(data["latest_version"]),
                min_available=int(data.get("min_available_version", 0)),
                min_decryption=int(data.get("min_decryption_version", 1)),
                min_encryption=int(data.get("min_encryption_version", 0)),
                derived=bool(data.get("derived")),
                facts=RootKeyFacts(
                    exportable=bool(data.get("exportable")) or bool(data.get("allow_plaintext_backup")),
                    imported=bool(data.get("imported_key", data.get("imported", False))),
                    deletion_allowed=bool(data.get("deletion_allowed")),
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise strange(f"reading transit key {name!r}", "fields are missing") from None

    def handle(self, version: int) -> str:
        """The version's name: with the moment of its making, so that a later key of the same name is not taken for it."""
        return f"{self.name}:v{version}@{self.made.get(version, 0)}"

    def state(self, key: KeyVersion) -> KeyVersionState:
        """The state of a version, by the key's lowest permitted versions; Destroyed if another key has its name."""
        version = key.version
        gone = version > self.latest or version < self.min_available
        if gone or (version in self.made and self.handle(version) != key.handle):
            return KeyVersionState.DESTROYED
        if version < self.min_decryption:
            return KeyVersionState.SUSPENDED
        return KeyVersionState.DEACTIVATED if version < self.min_encryption else KeyVersionState.ACTIVE

    def found(self, key_id: str) -> tuple[FoundKey, ...]:
        """Every version that is there, oldest first; Vault hides those before min_decryption_version, so their age too."""
        keys = [KeyVersion(key_id, version, self.handle(version)) for version in sorted(self.made)]
        return tuple(FoundKey(key, self.state(key), self._note()) for key in keys)

    def _note(self) -> str:
        return "the key can be exported or was backed up in plain text" if self.facts.exportable else ""

    def demand_suitable(self, length: int | None) -> None:
        """Check that the key can be a root key.

        Raises:
            CustodyError: RootKeyUnsuitable, with every fault found.
        """
        faults = []
        if self.type not in TYPES.values():
            faults.append(f"its type is {self.type}, not one of {', '.join(TYPES.values())}")
        elif length is not None and self.type != TYPES.get(length):
            faults.append(f"its type is {self.type}, not of {length} bits")
        if self.derived:
            faults.append("it is derived, so each use needs a context")
        if self.facts.exportable:
            faults.append("it can leave Vault (exportable or allow_plaintext_backup is true)")
        if faults:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                f"transit key {self.name!r} cannot be a root key: {'; '.join(faults)}",
            )


def _moment(value: Any) -> int:
    """Symmetric keys have seconds since 1970 here, others an object."""
    return value if isinstance(value, int) else 0

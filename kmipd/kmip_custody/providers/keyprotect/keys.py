"""A root key as Key Protect describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from kmip_contract.rootkey import CustodyErrorKind, KeyVersionState, RootKeyFacts
from kmip_custody.errors import CustodyError
from kmip_custody.providers.api import KeyVersion
from kmip_custody.providers.http import Answer
from kmip_custody.providers.keyprotect.errors import strange

SUSPENDED, DEACTIVATED, DESTROYED = 2, 3, 5

_STATES = {
    0: KeyVersionState.SUSPENDED,
    1: KeyVersionState.ACTIVE,
    SUSPENDED: KeyVersionState.SUSPENDED,
    DEACTIVATED: KeyVersionState.DEACTIVATED,
    DESTROYED: KeyVersionState.DESTROYED,
}
"""Key Protect's numbers (pre-activation, active, suspended, deactivated, destroyed): not those of KMIP."""


class Metadata(NamedTuple):
    """One resource of ``GET /keys/{id}/metadata``."""

    id: str
    name: str
    state: int
    extractable: bool
    imported: bool
    made: str
    newest_version: str
    purge_from: datetime | None
    restorable_until: datetime | None

    @classmethod
    def read(cls, resource: object) -> Metadata:
        """Read a resource.

        Raises:
            CustodyError: it is not what the service gives (Unavailable).
        """
        if not isinstance(resource, dict) or not isinstance(resource.get("id"), str):
            raise strange("reading the key's metadata")
        state = resource.get("state")
        if state not in _STATES:
            raise strange("reading the key's state")
        version = resource.get("keyVersion")
        return cls(
            id=resource["id"],
            name=str(resource.get("name", "")),
            state=int(state),
            extractable=resource.get("extractable") is not False,
            imported=bool(resource.get("imported")),
            made=str(resource.get("creationDate", "")),
            newest_version=str(version.get("id", "")) if isinstance(version, dict) else "",
            purge_from=_moment(resource.get("purgeAllowedFrom")),
            restorable_until=_moment(resource.get("restoreExpirationDate")),
        )

    @property
    def key_state(self) -> KeyVersionState:
        """The state of the key, which is that of each of its versions."""
        return _STATES[self.state]

    @property
    def facts(self) -> RootKeyFacts:
        """For a person. Standard keys can be read; root keys never."""
        return RootKeyFacts(exportable=self.extractable, imported=self.imported, deletion_allowed=None)

    def demand_root_key(self) -> None:
        """Raises CustodyError (RootKeyUnsuitable) if it is a standard key."""
        if self.extractable:
            raise CustodyError(
                CustodyErrorKind.ROOT_KEY_UNSUITABLE,
                f"key {self.id} ({self.name!r}) is a standard key, which can be read out; name a root key",
            )


def resources(answer: Answer) -> list[dict[str, Any]]:
    """The answer's resources."""
    found = answer.body.get("resources")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def handle(key: str, version: str) -> str:
    """The name of one version: the key's id and the version's."""
    return f"{key}/{version}"


def key_of(key: KeyVersion) -> str:
    """The key's id of a version."""
    return key.handle.partition("/")[0]


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None

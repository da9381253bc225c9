"""The decision what becomes of an archived object where the database may hold one of the same identifier."""

from __future__ import annotations

from enum import Enum

from kmipd.objects.lifecycle import DESTROYED
from kmipd.storage.api import StoredObject


class Decision(Enum):
    """What a restore does with one archived object; the values are for people."""

    ADD = "added"
    REPLACE = "replaced by the archive's newer state"
    DESTROY = "destroyed, as the archive says"
    SAME = "the same already"
    KEEP = "kept, newer than the archive's"
    KEEP_DESTROYED = "kept destroyed"
    DESTROYED_IN_ARCHIVE = "kept, although the archive says it was destroyed (--apply-destroyed destroys it)"
    FOREIGN = "kept, because the archive's object of the same identifier is another one"

    @property
    def writes(self) -> bool:
        """Whether the archive's row is written."""
        return self in {Decision.ADD, Decision.REPLACE, Decision.DESTROY}


def is_destroyed(row: StoredObject) -> bool:
    """Whether only attributes are left."""
    return row.material is None or row.state in DESTROYED


def decide(held: StoredObject | None, archived: StoredObject, *, apply_destroyed: bool) -> Decision:
    """What to do with ``archived`` where the database holds ``held``.

    Nothing newer is overwritten, and what was destroyed in the database never returns. Destruction cannot be undone, so an
    archive's is applied only on request: the archive may come from a copy of the keyspace that someone tried things on.
    """
    if held is None:
        return Decision.ADD
    if held == archived:
        return Decision.SAME
    if (held.object_type, held.initial_date) != (archived.object_type, archived.initial_date):
        return Decision.FOREIGN
    if is_destroyed(held):
        return Decision.KEEP_DESTROYED
    if is_destroyed(archived):
        return Decision.DESTROY if apply_destroyed else Decision.DESTROYED_IN_ARCHIVE
    if archived.revision > held.revision and archived.last_change_date >= held.last_change_date:
        return Decision.REPLACE
    return Decision.KEEP

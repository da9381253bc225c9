"""Locate: by index where it can, by looking at the candidates where it must (KMIP 1.4 §4.9)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from kmipd.objects.index import ARCHIVED, DATED, DESTROYED, ONLINE, index_entry, index_of, storage_entry
from kmipd.objects.managed import ManagedObject, from_stored, to_stored
from kmipd.objects.rules import BY_NAME, SERVER_PREFIX
from kmipd.objects.values import check_fields, covers, field_of, invalid, is_custom
from kmipd.objects.view import instances
from kmipd.operations.context import Context
from kmipd.storage.api import IndexEntry, LocateQuery, StorageError
from kmipd.wire import tags
from kmipd.wire.attributes import Attribute
from kmipd.wire.enums import ObjectGroupMember
from kmipd.wire.payloads import LocateRequest, LocateResponse
from kmipd.wire.ttlv import ItemType
from kmipd.wire.versions import V1_3

_CHUNK: Final = 64
"""Objects looked at between two turns of the event loop, about a millisecond of work."""

_MAX_CONDITIONS: Final = 64
"""Attributes of one Locate: objects have fewer, and databases limit what one statement may hold."""

_COLUMNS: Final = {
    "Object Type": "object_type",
    "Cryptographic Algorithm": "algorithm",
    "Cryptographic Length": "length",
}
_MASK: Final = "usage_mask"


@dataclass(slots=True)
class Search:
    """What a Locate asks, sorted by how it can be found. ``exact`` filters look at each candidate."""

    entries: list[IndexEntry] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)
    exact: dict[str, list[Attribute]] = field(default_factory=dict)
    uid: str | None = None
    group: str | None = None
    impossible: bool = False

    def add(self, attribute: Attribute) -> None:
        """Add a condition.

        Raises:
            OperationFailed: InvalidField for an attribute that does not exist or has a wrong type.
        """
        name, _, kind, value = attribute
        rule = BY_NAME.get(name)
        if rule is None and not is_custom(name) and not name.startswith(SERVER_PREFIX):
            if name == "Storage Status Mask":
                return
            raise invalid(f"{name[:100]!r} is not an attribute")
        if not kind:
            raise invalid(f"{name[:100]} has no value")
        if rule is not None and kind != rule.type:
            raise invalid(f"{name} has the wrong type")
        if rule is not None and kind == ItemType.STRUCTURE:
            check_fields(rule, value)
        column = _COLUMNS.get(name)
        if name == "Unique Identifier":
            self.impossible |= self.uid not in {None, value}
            self.uid = value
        elif column is not None:
            self.impossible |= self.columns.get(column, value) != value
            self.columns[column] = value
        elif name == "Cryptographic Usage Mask":
            self.columns[_MASK] = self.columns.get(_MASK, 0) | value
        else:
            if name == "Object Group":
                self.group = value
            entry = index_entry(name, kind, value) if _whole(name, value) else None
            if entry is not None:
                self.entries.append(entry)
            if entry is None:
                self.exact.setdefault(name, []).append(attribute)

    def matches(self, managed: ManagedObject, context: Context) -> bool:
        """Whether a candidate has everything that index and columns did not decide."""
        return all(self._has(managed, name, wanted, context) for name, wanted in self.exact.items())

    @staticmethod
    def _has(managed: ManagedObject, name: str, wanted: list[Attribute], context: Context) -> bool:
        # The newest rules apply: whoever names an attribute of a later version knows it.
        rule = BY_NAME.get(name)
        version = rule.last or context.version if rule is not None else context.version
        present = instances(managed, name, version, context.now)
        if rule is not None and rule.type == ItemType.DATE_TIME:
            bounds = [attribute.value for attribute in wanted]
            return any(min(bounds) <= instance.value <= max(bounds) for instance in present)
        return all(
            any(
                instance.type == attribute.type and covers(attribute.value, instance.value, attribute.type)
                for instance in present
            )
            for attribute in wanted
        )


def _whole(name: str, value: Any) -> bool:
    """Whether a structured value names all that the index covers; a part of one is looked for among candidates."""
    fields = {
        "Link": (tags.LINK_TYPE, tags.LINKED_OBJECT_IDENTIFIER),
        "Application Specific Information": (tags.APPLICATION_NAMESPACE, tags.APPLICATION_DATA),
        "Alternative Name": (tags.ALTERNATIVE_NAME_VALUE, tags.ALTERNATIVE_NAME_TYPE),
    }.get(name, ())
    return all(field_of(value, tag) is not None for tag in fields)


def _query(search: Search, entry: IndexEntry, *, alone: bool = False, state: int | None = None) -> LocateQuery:
    """The part of a search that the database decides; ``entry`` says where, when no attribute does or it must stand ``alone``.

    Initial Date is a column: one value is that second, two are a range (KMIP 1.4 §4.9).
    """
    bounds = [attribute.value for attribute in search.exact.get("Initial Date", ())]
    return LocateQuery(
        entries=(entry,) if alone or not search.entries else tuple(search.entries),
        object_type=search.columns.get("object_type"),
        state=state,
        algorithm=search.columns.get("algorithm"),
        length=search.columns.get("length"),
        usage_mask=search.columns.get(_MASK),
        initial_date_from=min(bounds, default=None),
        initial_date_to=max(bounds, default=None),
    )


async def locate(context: Context, request: LocateRequest) -> LocateResponse:
    """The identifiers of all objects that have every attribute asked for, newest first."""
    search = Search()
    conditions = [*request.attributes, *(request.template.attributes if request.template else [])]
    if len(conditions) > _MAX_CONDITIONS:
        raise invalid(f"Locate takes at most {_MAX_CONDITIONS} attributes")
    for attribute in conditions:
        search.add(attribute)
    mask = ONLINE if request.storage_status_mask is None else request.storage_status_mask
    offset = request.offset_items or 0
    limit = request.maximum_items
    if offset < 0 or (limit is not None and limit < 0):
        raise invalid("Maximum Items and Offset Items cannot be negative")
    uids: list[str] = []
    total = 0
    if search.impossible or not mask & (ONLINE | ARCHIVED | DESTROYED):
        pass
    elif search.uid is not None:
        uids, total = await _one(context, search, mask, offset, limit)
    else:
        uids, total = await _many(context, search, mask, request.object_group_member, offset, limit)
    context.placeholder = uids[0] if len(uids) == 1 else None
    context.uids += uids[:16]
    return LocateResponse(total if context.version >= V1_3 and (offset or limit is not None) else None, uids)


async def _one(context: Context, search: Search, mask: int, offset: int, limit: int | None) -> tuple[list[str], int]:
    """Unique Identifier and whatever else was given."""
    stored = await context.services.storage.get(search.uid or "")
    if stored is None:
        return [], 0
    managed = from_stored(stored)
    columns = {"object_type": managed.object_type, "algorithm": managed.algorithm, "length": managed.length}
    bits = search.columns.pop(_MASK, 0)
    found = (
        bool(mask & (DESTROYED if managed.destroyed else ONLINE))
        and managed.usage_mask & bits == bits
        and all(columns[name] == value for name, value in search.columns.items())
        and search.matches(managed, context)
        and all(entry in _entries(managed) for entry in search.entries)
    )
    uids = [managed.uid] if found else []
    return uids[offset:][:limit], len(uids)


def _entries(managed: ManagedObject) -> list[IndexEntry]:
    return [
        entry
        for name, values in managed.attributes.items()
        for _, kind, value in values
        if (entry := index_entry(name, kind, value)) is not None
    ]


async def _many(
    context: Context, search: Search, mask: int, member: int | None, offset: int, limit: int | None
) -> tuple[list[str], int]:
    if mask & DESTROYED:
        return _page(await _with_destroyed(context, search, mask), offset, limit)
    if not mask & ONLINE:
        return [], 0
    query = _query(search, storage_entry(ONLINE))
    if member is not None:
        return _page(await _members(context, search, query, member), offset, limit)
    left = set(search.exact) - {"Initial Date"}
    if left == {"State"} and len(search.exact["State"]) == 1 and await _settle_dates(context):
        query = _query(search, storage_entry(ONLINE), state=search.exact["State"][0].value)
        left.clear()
    if left:
        return _page(await _filtered(context, search, query), offset, limit)
    page = await context.services.storage.locate(query, offset=offset, limit=limit)
    return page.uids, page.total


def _page(uids: list[str], offset: int, limit: int | None) -> tuple[list[str], int]:
    return uids[offset:][:limit], len(uids)


async def _settle_dates(context: Context) -> bool:
    """Write the states that dates have brought about, so that the rows say what is so now; ``False`` when that failed."""
    storage = context.services.storage
    waiting = (await storage.locate(LocateQuery(entries=(DATED,)), offset=0, limit=None)).uids
    for start in range(0, len(waiting), _CHUNK):
        if start:
            await asyncio.sleep(0)
        for stored in await storage.get_many(waiting[start : start + _CHUNK]):
            managed = from_stored(stored)
            managed.state = managed.state_at(context.now)
            if managed.state == stored.state:
                continue
            try:
                if not await storage.replace(to_stored(managed), index_of(managed, context.now)):
                    return False
            except StorageError:
                return False
    return True


async def _filtered(context: Context, search: Search, query: LocateQuery) -> list[str]:
    """Candidates that match, looked at in chunks so that other clients are served in between."""
    page = await context.services.storage.locate(query, offset=0, limit=None)
    found: list[str] = []
    for start in range(0, len(page.uids), _CHUNK):
        if start:
            await asyncio.sleep(0)
        rows = await context.services.storage.get_many(page.uids[start : start + _CHUNK])
        for stored in rows:
            managed = from_stored(stored)
            if search.matches(managed, context):
                found.append(managed.uid)
    return found


async def _with_destroyed(context: Context, search: Search, mask: int) -> list[str]:
    """Destroyed objects have no index entries of their own: they are looked at one by one, after those that exist."""
    found: list[str] = []
    if mask & ONLINE:
        found = await _filtered(context, search, _query(search, storage_entry(ONLINE)))
    gone = await _filtered(context, search, _query(search, storage_entry(DESTROYED), alone=True))
    for managed in [await context.load(uid) for uid in gone] if search.entries else []:
        if not all(entry in _entries(managed) for entry in search.entries):
            gone.remove(managed.uid)
    return found + gone


async def _members(context: Context, search: Search, query: LocateQuery, member: int) -> list[str]:
    """Members of a group, oldest first: those never served, or beginning with the default one (KMIP 1.4 §9.1.3.2.34)."""
    if search.group is None:
        raise invalid("Object Group Member needs an Object Group")
    if member == ObjectGroupMember.GroupMemberFresh:
        search.exact["Fresh"] = [Attribute("Fresh", None, ItemType.BOOLEAN, True)]
    elif member != ObjectGroupMember.GroupMemberDefault:
        raise invalid("unknown object group member")
    oldest = list(reversed(await _filtered(context, search, query)))
    if member == ObjectGroupMember.GroupMemberFresh:
        return oldest
    return context.services.rotation.next(search.group.encode(), oldest)

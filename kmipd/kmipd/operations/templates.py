"""Template objects: their attributes where a request names them (KMIP 1.2 §2.1.8, §2.2.6)."""

from __future__ import annotations

from kmipd.objects.errors import OperationFailed
from kmipd.objects.index import index_entry
from kmipd.objects.template import NewAttributes
from kmipd.operations.context import Context
from kmipd.storage.api import LocateQuery
from kmipd.wire.attributes import Attribute, TemplateAttribute, read_template
from kmipd.wire.enums import ObjectType, ResultReason
from kmipd.wire.ttlv import Item, ItemType, decode_items


async def expand(context: Context, new: NewAttributes, template: TemplateAttribute) -> NewAttributes:
    """Add what a request gives a new object: the named templates' attributes in order, then its own.

    Raises:
        OperationFailed: ItemNotFound for an unknown template, InvalidField for an attribute that cannot be set.
    """
    for name in template.names:
        new.add(await _content(context, name))
    new.add(template.attributes)
    return new


async def _content(context: Context, name: list[Item]) -> list[Attribute]:
    """The attributes a template object gives, without the template's own name."""
    entry = index_entry("Name", ItemType.STRUCTURE, name)
    if entry is None:
        raise OperationFailed(ResultReason.InvalidField, "a template's name has no value")
    query = LocateQuery(entries=(entry,), object_type=int(ObjectType.Template))
    page = await context.services.storage.locate(query, offset=0, limit=1)
    if not page.uids:
        raise OperationFailed(ResultReason.ItemNotFound, "no template has this name")
    stored = await context.row(page.uids[0])
    item = decode_items(await context.unwrap(stored))[0]
    return [attribute for attribute in read_template(item[1]).attributes if attribute.name != "Name"]

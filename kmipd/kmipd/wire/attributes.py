"""Attribute and Template-Attribute structures as 1.x messages carry them (KMIP 1.4 §2.1.1, §2.1.8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kmipd.wire import tags
from kmipd.wire.ttlv import Item, TtlvError, encode_integer, encode_item, encode_structure, encode_text

_ATTRIBUTE = tags.ATTRIBUTE << 8 | 1
_ATTRIBUTE_NAME = tags.ATTRIBUTE_NAME << 8 | 7
_ATTRIBUTE_INDEX = tags.ATTRIBUTE_INDEX << 8 | 2
_NAME = tags.NAME << 8 | 1


class Attribute(NamedTuple):
    """An attribute by its text name; ``instance`` is its Attribute Index.

    ``type`` is the item type of ``value``; they are 0 and ``None`` when no value was given.
    """

    name: str
    instance: int | None
    type: int
    value: Any


@dataclass(slots=True)
class TemplateAttribute:
    """Template names (KMIP 1.0 to 1.2) and attributes."""

    names: list[list[Item]] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)


def read_attribute(items: list[Item]) -> Attribute:
    """An attribute from the content of its structure; the index may stand anywhere in it.

    Raises:
        TtlvError: it has no name.
    """
    name: str | None = None
    index: int | None = None
    kind = 0
    value: Any = None
    for word, content in items:
        if word == _ATTRIBUTE_NAME:
            name = content
        elif word >> 8 == tags.ATTRIBUTE_VALUE:
            kind = word & 0xFF
            value = content
        elif word == _ATTRIBUTE_INDEX:
            index = content
    if name is None:
        raise TtlvError("an attribute has no name")
    return Attribute(name, index, kind, value)


def read_template(items: list[Item]) -> TemplateAttribute:
    """A Template-Attribute (or Template) from the content of its structure.

    Raises:
        TtlvError: an attribute in it is malformed.
    """
    template = TemplateAttribute()
    for word, content in items:
        if word == _ATTRIBUTE:
            template.attributes.append(read_attribute(content))
        elif word == _NAME:
            template.names.append(content)
    return template


def encode_attribute(attribute: Attribute) -> bytes:
    """An Attribute structure; an index of 0 is left out, as clients expect."""
    return encode_structure(
        tags.ATTRIBUTE,
        encode_text(tags.ATTRIBUTE_NAME, attribute.name),
        encode_integer(tags.ATTRIBUTE_INDEX, attribute.instance) if attribute.instance else b"",
        b"" if not attribute.type else encode_item((tags.ATTRIBUTE_VALUE << 8 | attribute.type, attribute.value)),
    )


def encode_template(template: TemplateAttribute) -> bytes:
    """A Template-Attribute structure."""
    return encode_structure(
        tags.TEMPLATE_ATTRIBUTE,
        *[encode_item((_NAME, name)) for name in template.names],
        *[encode_attribute(attribute) for attribute in template.attributes],
    )

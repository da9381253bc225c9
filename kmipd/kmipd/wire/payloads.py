"""Payloads as classes, decoded and encoded by :mod:`kmipd.wire.payload_table`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from kmipd.wire import tags
from kmipd.wire.attributes import (
    Attribute,
    TemplateAttribute,
    encode_attribute,
    encode_template,
    read_attribute,
    read_template,
)
from kmipd.wire.enums import Operation
from kmipd.wire.messages import encode_protocol_version
from kmipd.wire.payload_table import OBJECT_TAGS, Direction, PayloadRow, rows_of
from kmipd.wire.tag_table import BY_TAG
from kmipd.wire.ttlv import Item, ItemType, TtlvError, encode_item
from kmipd.wire.versions import Version

Structure = list[Item]


class MissingField(ValueError):
    """A required field of a payload is absent."""


@dataclass(slots=True)
class ProtocolVersions:
    """DiscoverVersions, both ways: ``(major, minor)``, best first."""

    versions: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class QueryRequest:
    """Query."""

    functions: list[int] = field(default_factory=list)


@dataclass(slots=True)
class QueryResponse:
    """Query's answer."""

    operations: list[int] = field(default_factory=list)
    object_types: list[int] = field(default_factory=list)
    vendor_identification: str | None = None
    server_information: Structure | None = None
    application_namespaces: list[str] = field(default_factory=list)
    extensions: list[Structure] = field(default_factory=list)
    attestation_types: list[int] = field(default_factory=list)
    rng_parameters: list[Structure] = field(default_factory=list)
    profiles: list[Structure] = field(default_factory=list)
    validations: list[Structure] = field(default_factory=list)
    capabilities: list[Structure] = field(default_factory=list)
    registration_methods: list[int] = field(default_factory=list)


@dataclass(slots=True)
class CreateRequest:
    """Create."""

    object_type: int = 0
    template: TemplateAttribute = field(default_factory=TemplateAttribute)


@dataclass(slots=True)
class CreateResponse:
    """Create's answer."""

    object_type: int = 0
    unique_identifier: str = ""
    template: TemplateAttribute | None = None


@dataclass(slots=True)
class RegisterRequest:
    """Register; ``managed_object`` is the object's structure, ``None`` when the request has none."""

    object_type: int = 0
    template: TemplateAttribute = field(default_factory=TemplateAttribute)
    managed_object: Item | None = None


@dataclass(slots=True)
class RegisterResponse:
    """Register's answer."""

    unique_identifier: str = ""
    template: TemplateAttribute | None = None


@dataclass(slots=True)
class GetRequest:
    """Get; ``unique_identifier`` is ``None`` for the ID placeholder, here and in the classes below."""

    unique_identifier: str | None = None
    key_format_type: int | None = None
    key_wrap_type: int | None = None
    key_compression_type: int | None = None
    wrapping: Structure | None = None


@dataclass(slots=True)
class GetResponse:
    """Get's answer; ``managed_object`` may be given as its encoding."""

    object_type: int = 0
    unique_identifier: str = ""
    managed_object: Item | bytes | None = None


@dataclass(slots=True)
class GetAttributesRequest:
    """GetAttributes; no names ask for all."""

    unique_identifier: str | None = None
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class GetAttributesResponse:
    """GetAttributes' answer."""

    unique_identifier: str = ""
    attributes: list[Attribute] = field(default_factory=list)


@dataclass(slots=True)
class UniqueIdentifierRequest:
    """GetAttributeList, Activate and Destroy."""

    unique_identifier: str | None = None


@dataclass(slots=True)
class UniqueIdentifierResponse:
    """The answer of Activate, Revoke and Destroy."""

    unique_identifier: str = ""


@dataclass(slots=True)
class GetAttributeListResponse:
    """GetAttributeList's answer."""

    unique_identifier: str = ""
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AttributeRequest:
    """AddAttribute and ModifyAttribute."""

    unique_identifier: str | None = None
    attribute: Attribute = Attribute("", None, 0, None)  # noqa: RUF009 - immutable


@dataclass(slots=True)
class DeleteAttributeRequest:
    """DeleteAttribute."""

    unique_identifier: str | None = None
    attribute_name: str = ""
    attribute_index: int | None = None


@dataclass(slots=True)
class AttributeResponse:
    """The answer of AddAttribute, ModifyAttribute and DeleteAttribute."""

    unique_identifier: str = ""
    attribute: Attribute = Attribute("", None, 0, None)  # noqa: RUF009 - immutable


@dataclass(slots=True)
class LocateRequest:
    """Locate."""

    maximum_items: int | None = None
    offset_items: int | None = None
    storage_status_mask: int | None = None
    object_group_member: int | None = None
    attributes: list[Attribute] = field(default_factory=list)
    template: TemplateAttribute | None = None


@dataclass(slots=True)
class LocateResponse:
    """Locate's answer."""

    located_items: int | None = None
    unique_identifiers: list[str] = field(default_factory=list)


class RevocationReason(NamedTuple):
    """Why an object is revoked."""

    code: int
    message: str | None


@dataclass(slots=True)
class RevokeRequest:
    """Revoke."""

    unique_identifier: str | None = None
    reason: RevocationReason = RevocationReason(0, None)  # noqa: RUF009 - immutable
    compromise_occurrence_date: int | None = None


def _read_version(items: Structure) -> tuple[int, int]:
    values = dict(items)
    try:
        return values[tags.PROTOCOL_VERSION_MAJOR << 8 | 2], values[tags.PROTOCOL_VERSION_MINOR << 8 | 2]
    except KeyError:
        raise TtlvError("a protocol version is incomplete") from None


def _read_reason(items: Structure) -> RevocationReason:
    values = dict(items)
    code = values.get(tags.REVOCATION_REASON_CODE << 8 | 5)
    if code is None:
        raise MissingField("Revocation Reason Code")
    return RevocationReason(code, values.get(tags.REVOCATION_MESSAGE << 8 | 7))


def encode_reason(reason: RevocationReason) -> bytes:
    """A Revocation Reason structure."""
    items: Structure = [(tags.REVOCATION_REASON_CODE << 8 | 5, reason.code)]
    if reason.message is not None:
        items.append((tags.REVOCATION_MESSAGE << 8 | 7, reason.message))
    return encode_item((tags.REVOCATION_REASON << 8 | 1, items))


_READERS: dict[int, Callable[[Structure], Any]] = {
    tags.PROTOCOL_VERSION: _read_version,
    tags.TEMPLATE_ATTRIBUTE: read_template,
    tags.ATTRIBUTE: read_attribute,
    tags.REVOCATION_REASON: _read_reason,
}
_WRITERS: dict[int, Callable[[Any], bytes]] = {
    tags.PROTOCOL_VERSION: lambda version: encode_protocol_version(*version),
    tags.TEMPLATE_ATTRIBUTE: encode_template,
    tags.ATTRIBUTE: encode_attribute,
    tags.REVOCATION_REASON: encode_reason,
}

P = TypeVar("P")


class PayloadCodec(Generic[P]):
    """Decodes and encodes one operation's payload of one direction."""

    def __init__(self, cls: type[P], rows: tuple[PayloadRow, ...]) -> None:
        self.payload_class = cls
        self._rows = rows
        self._readers: dict[int, tuple[PayloadRow, Callable[[Any], Any] | None]] = {}
        self._known: set[int] = set()
        self._required: list[PayloadRow] = [row for row in rows if row.required]
        for row in rows:
            word = row.tag << 8 | self._type(row)
            self._readers[word] = (row, _READERS.get(row.tag))
            self._known.add(row.tag)

    @staticmethod
    def _type(row: PayloadRow) -> ItemType:
        kind = BY_TAG[row.tag].type
        if kind is None:
            raise ValueError(f"{row.name} has no single item type")
        return kind

    def decode(self, version: Version, items: Structure) -> P:
        """A payload from its items; fields that the operation does not have are skipped, and so are those of later versions.

        Raises:
            TtlvError: a field of a wrong type, twice, or malformed inside.
            MissingField: a required field is absent.
        """
        payload = self.payload_class()
        seen: set[str] = set()
        for item in items:
            word = item[0]
            entry = self._readers.get(word)
            if entry is None:
                if word >> 8 in self._known:
                    raise TtlvError(f"{BY_TAG[word >> 8].name} has the wrong type")
                continue
            row, reader = entry
            if row.since > version:
                continue
            value = item[1] if reader is None else reader(item[1])
            if row.repeat:
                getattr(payload, row.name).append(value)
            elif row.name in seen:
                raise TtlvError(f"{BY_TAG[row.tag].name} is given twice")
            else:
                setattr(payload, row.name, item if row.tag in OBJECT_TAGS else value)
            seen.add(row.name)
        for row in self._required:
            if row.name not in seen:
                raise MissingField(BY_TAG[row.tag].name)
        return payload

    def encode(self, version: Version, payload: P) -> bytes:
        """The content of a payload structure for ``version``."""
        parts: list[bytes] = []
        written: set[str] = set()
        for row in self._rows:
            value = getattr(payload, row.name)
            if value is None or row.since > version or row.name in written:
                continue
            if row.tag in OBJECT_TAGS:
                parts.append(value if isinstance(value, bytes) else encode_item(value))
                written.add(row.name)
                continue
            writer = _WRITERS.get(row.tag)
            word = row.tag << 8 | self._type(row)
            values = value if row.repeat else (value,)
            parts.extend([encode_item((word, one)) if writer is None else writer(one) for one in values])
        return b"".join(parts)


def _codec(cls: type[P], operation: Operation, direction: Direction) -> PayloadCodec[P]:
    return PayloadCodec(cls, rows_of(operation, direction))


_CLASSES: dict[Operation, tuple[type[Any], type[Any]]] = {
    Operation.DiscoverVersions: (ProtocolVersions, ProtocolVersions),
    Operation.Query: (QueryRequest, QueryResponse),
    Operation.Create: (CreateRequest, CreateResponse),
    Operation.Register: (RegisterRequest, RegisterResponse),
    Operation.Get: (GetRequest, GetResponse),
    Operation.GetAttributes: (GetAttributesRequest, GetAttributesResponse),
    Operation.GetAttributeList: (UniqueIdentifierRequest, GetAttributeListResponse),
    Operation.AddAttribute: (AttributeRequest, AttributeResponse),
    Operation.ModifyAttribute: (AttributeRequest, AttributeResponse),
    Operation.DeleteAttribute: (DeleteAttributeRequest, AttributeResponse),
    Operation.Locate: (LocateRequest, LocateResponse),
    Operation.Activate: (UniqueIdentifierRequest, UniqueIdentifierResponse),
    Operation.Revoke: (RevokeRequest, UniqueIdentifierResponse),
    Operation.Destroy: (UniqueIdentifierRequest, UniqueIdentifierResponse),
}

REQUESTS: dict[int, PayloadCodec[Any]] = {
    operation: _codec(classes[0], operation, Direction.REQUEST) for operation, classes in _CLASSES.items()
}
RESPONSES: dict[int, PayloadCodec[Any]] = {
    operation: _codec(classes[1], operation, Direction.RESPONSE) for operation, classes in _CLASSES.items()
}

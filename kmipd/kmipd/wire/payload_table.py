"""The table of payload fields: a row for each field of each operation's request and response, in the order KMIP demands.

A later protocol version is further rows (and ``last`` on the rows it retires).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from kmipd.wire import tags
from kmipd.wire.enums import Operation
from kmipd.wire.versions import V1_0, V1_1, V1_2, V1_3, V1_4, Version


class Direction(IntEnum):
    """Whose payload."""

    REQUEST = 0
    RESPONSE = 1


class PayloadRow(NamedTuple):
    """A field: its place is the row's place. ``name`` is the field of the payload's class in :mod:`kmipd.wire.payloads`."""

    operation: Operation
    direction: Direction
    name: str
    tag: int
    required: bool
    repeat: bool = False
    since: Version = V1_0
    last: Version | None = V1_4


OBJECT_TAGS: Final = (
    tags.CERTIFICATE,
    tags.SYMMETRIC_KEY,
    tags.PRIVATE_KEY,
    tags.PUBLIC_KEY,
    tags.SPLIT_KEY,
    tags.TEMPLATE,
    tags.SECRET_DATA,
    tags.OPAQUE_OBJECT,
    tags.PGP_KEY,
)
"""The structures of managed objects; Register's request and Get's response hold exactly one."""

_O = Operation
_Q = Direction.REQUEST
_R = Direction.RESPONSE
_UID = tags.UNIQUE_IDENTIFIER


def _objects(operation: Operation, direction: Direction) -> tuple[PayloadRow, ...]:
    return tuple(PayloadRow(operation, direction, "managed_object", tag, False) for tag in OBJECT_TAGS)


ROWS: Final[tuple[PayloadRow, ...]] = (
    PayloadRow(_O.DiscoverVersions, _Q, "versions", tags.PROTOCOL_VERSION, False, repeat=True),
    PayloadRow(_O.DiscoverVersions, _R, "versions", tags.PROTOCOL_VERSION, False, repeat=True),
    PayloadRow(_O.Query, _Q, "functions", tags.QUERY_FUNCTION, True, repeat=True),
    PayloadRow(_O.Query, _R, "operations", tags.OPERATION, False, repeat=True),
    PayloadRow(_O.Query, _R, "object_types", tags.OBJECT_TYPE, False, repeat=True),
    PayloadRow(_O.Query, _R, "vendor_identification", tags.VENDOR_IDENTIFICATION, False),
    PayloadRow(_O.Query, _R, "server_information", tags.SERVER_INFORMATION, False),
    PayloadRow(_O.Query, _R, "application_namespaces", tags.APPLICATION_NAMESPACE, False, repeat=True),
    PayloadRow(_O.Query, _R, "extensions", tags.EXTENSION_INFORMATION, False, repeat=True, since=V1_1),
    PayloadRow(_O.Query, _R, "attestation_types", tags.ATTESTATION_TYPE, False, repeat=True, since=V1_2),
    PayloadRow(_O.Query, _R, "rng_parameters", tags.RNG_PARAMETERS, False, repeat=True, since=V1_3),
    PayloadRow(_O.Query, _R, "profiles", tags.PROFILE_INFORMATION, False, repeat=True, since=V1_3),
    PayloadRow(_O.Query, _R, "validations", tags.VALIDATION_INFORMATION, False, repeat=True, since=V1_3),
    PayloadRow(_O.Query, _R, "capabilities", tags.CAPABILITY_INFORMATION, False, repeat=True, since=V1_3),
    PayloadRow(_O.Query, _R, "registration_methods", tags.CLIENT_REGISTRATION_METHOD, False, repeat=True, since=V1_3),
    PayloadRow(_O.Create, _Q, "object_type", tags.OBJECT_TYPE, True),
    PayloadRow(_O.Create, _Q, "template", tags.TEMPLATE_ATTRIBUTE, True),
    PayloadRow(_O.Create, _R, "object_type", tags.OBJECT_TYPE, True),
    PayloadRow(_O.Create, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.Create, _R, "template", tags.TEMPLATE_ATTRIBUTE, False),
    PayloadRow(_O.Register, _Q, "object_type", tags.OBJECT_TYPE, True),
    PayloadRow(_O.Register, _Q, "template", tags.TEMPLATE_ATTRIBUTE, True),
    *_objects(_O.Register, _Q),
    PayloadRow(_O.Register, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.Register, _R, "template", tags.TEMPLATE_ATTRIBUTE, False),
    PayloadRow(_O.Get, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.Get, _Q, "key_format_type", tags.KEY_FORMAT_TYPE, False),
    PayloadRow(_O.Get, _Q, "key_wrap_type", tags.KEY_WRAP_TYPE, False, since=V1_4),
    PayloadRow(_O.Get, _Q, "key_compression_type", tags.KEY_COMPRESSION_TYPE, False),
    PayloadRow(_O.Get, _Q, "wrapping", tags.KEY_WRAPPING_SPECIFICATION, False),
    PayloadRow(_O.Get, _R, "object_type", tags.OBJECT_TYPE, True),
    PayloadRow(_O.Get, _R, "unique_identifier", _UID, True),
    *_objects(_O.Get, _R),
    PayloadRow(_O.GetAttributes, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.GetAttributes, _Q, "names", tags.ATTRIBUTE_NAME, False, repeat=True),
    PayloadRow(_O.GetAttributes, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.GetAttributes, _R, "attributes", tags.ATTRIBUTE, False, repeat=True),
    PayloadRow(_O.GetAttributeList, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.GetAttributeList, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.GetAttributeList, _R, "names", tags.ATTRIBUTE_NAME, True, repeat=True),
    PayloadRow(_O.AddAttribute, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.AddAttribute, _Q, "attribute", tags.ATTRIBUTE, True),
    PayloadRow(_O.AddAttribute, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.AddAttribute, _R, "attribute", tags.ATTRIBUTE, True),
    PayloadRow(_O.ModifyAttribute, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.ModifyAttribute, _Q, "attribute", tags.ATTRIBUTE, True),
    PayloadRow(_O.ModifyAttribute, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.ModifyAttribute, _R, "attribute", tags.ATTRIBUTE, True),
    PayloadRow(_O.DeleteAttribute, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.DeleteAttribute, _Q, "attribute_name", tags.ATTRIBUTE_NAME, True),
    PayloadRow(_O.DeleteAttribute, _Q, "attribute_index", tags.ATTRIBUTE_INDEX, False),
    PayloadRow(_O.DeleteAttribute, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.DeleteAttribute, _R, "attribute", tags.ATTRIBUTE, True),
    PayloadRow(_O.Locate, _Q, "maximum_items", tags.MAXIMUM_ITEMS, False),
    # Offset Items came with 1.3; clients of every version send it, and one that is not heeded loops for ever.
    PayloadRow(_O.Locate, _Q, "offset_items", tags.OFFSET_ITEMS, False),
    PayloadRow(_O.Locate, _Q, "storage_status_mask", tags.STORAGE_STATUS_MASK, False),
    PayloadRow(_O.Locate, _Q, "object_group_member", tags.OBJECT_GROUP_MEMBER, False),
    PayloadRow(_O.Locate, _Q, "attributes", tags.ATTRIBUTE, False, repeat=True),
    # Not in the specification; FortiOS wraps the attributes so.
    PayloadRow(_O.Locate, _Q, "template", tags.TEMPLATE_ATTRIBUTE, False),
    PayloadRow(_O.Locate, _R, "located_items", tags.LOCATED_ITEMS, False, since=V1_3),
    PayloadRow(_O.Locate, _R, "unique_identifiers", _UID, False, repeat=True),
    PayloadRow(_O.Activate, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.Activate, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.Revoke, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.Revoke, _Q, "reason", tags.REVOCATION_REASON, True),
    PayloadRow(_O.Revoke, _Q, "compromise_occurrence_date", tags.COMPROMISE_OCCURRENCE_DATE, False),
    PayloadRow(_O.Revoke, _R, "unique_identifier", _UID, True),
    PayloadRow(_O.Destroy, _Q, "unique_identifier", _UID, False),
    PayloadRow(_O.Destroy, _R, "unique_identifier", _UID, True),
)


def rows_of(operation: Operation, direction: Direction) -> tuple[PayloadRow, ...]:
    """The fields of one payload in order."""
    return tuple(row for row in ROWS if row.operation is operation and row.direction is direction)

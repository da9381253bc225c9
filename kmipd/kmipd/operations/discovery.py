"""DiscoverVersions and Query: what the server speaks, does and is (KMIP 1.4 §4.25, §4.26)."""

from __future__ import annotations

from kmipd.objects.errors import OperationFailed
from kmipd.operations.context import Context
from kmipd.wire import tags
from kmipd.wire.enums import (
    DestroyAction,
    ObjectType,
    Operation,
    QueryFunction,
    ResultReason,
    RNGAlgorithm,
    ShreddingAlgorithm,
    UnwrapMode,
)
from kmipd.wire.payloads import ProtocolVersions, QueryRequest, QueryResponse
from kmipd.wire.ttlv import Item, ItemType
from kmipd.wire.versions import SUPPORTED, V1_1, V1_2, V1_3, V1_4, Version, version_of

_OBJECT_TYPES: dict[ObjectType, tuple[Version, Version]] = {
    ObjectType.Certificate: (10, V1_4),
    ObjectType.SymmetricKey: (10, V1_4),
    ObjectType.PublicKey: (10, V1_4),
    ObjectType.PrivateKey: (10, V1_4),
    ObjectType.SplitKey: (10, V1_4),
    ObjectType.Template: (10, V1_4),
    ObjectType.SecretData: (10, V1_4),
    ObjectType.OpaqueObject: (10, V1_4),
    ObjectType.PGPKey: (V1_2, V1_4),
}
"""Object types by the first and last version that has them."""

_BOOLEAN = ItemType.BOOLEAN
_ENUMERATION = ItemType.ENUMERATION

OPERATING_SYSTEM_RNG: list[Item] = [(tags.RNG_ALGORITHM << 8 | _ENUMERATION, int(RNGAlgorithm.Unspecified))]
"""Keys come from the operating system's generator, which KMIP has no name for (KMIP 1.4 §2.1.18)."""


async def discover_versions(_: Context, request: ProtocolVersions) -> ProtocolVersions:
    """The versions both sides speak, best first; all of the server's when the client names none."""
    supported = [(version // 10, version % 10) for version in SUPPORTED]
    if not request.versions:
        return ProtocolVersions(supported)
    return ProtocolVersions([pair for pair in supported if pair in request.versions])


def _operations(version: Version) -> list[int]:
    known = [int(operation) for operation in HANDLED]
    return [value for value in known if value != Operation.DiscoverVersions or version >= V1_1]


HANDLED: tuple[Operation, ...] = (
    Operation.Create,
    Operation.Register,
    Operation.Locate,
    Operation.Get,
    Operation.GetAttributes,
    Operation.GetAttributeList,
    Operation.AddAttribute,
    Operation.ModifyAttribute,
    Operation.DeleteAttribute,
    Operation.Activate,
    Operation.Revoke,
    Operation.Destroy,
    Operation.Query,
    Operation.DiscoverVersions,
)
"""The operations this server has."""


def _capabilities(version: Version) -> list[Item]:
    items: list[Item] = [
        (tags.STREAMING_CAPABILITY << 8 | _BOOLEAN, False),
        (tags.ASYNCHRONOUS_CAPABILITY << 8 | _BOOLEAN, False),
        (tags.ATTESTATION_CAPABILITY << 8 | _BOOLEAN, False),
    ]
    if version >= V1_4:
        items += [
            (tags.BATCH_UNDO_CAPABILITY << 8 | _BOOLEAN, False),
            (tags.BATCH_CONTINUE_CAPABILITY << 8 | _BOOLEAN, True),
        ]
    return [
        *items,
        (tags.UNWRAP_MODE << 8 | _ENUMERATION, int(UnwrapMode.NotProcessed)),
        (tags.DESTROY_ACTION << 8 | _ENUMERATION, int(DestroyAction.KeyMaterialDeleted)),
        (tags.SHREDDING_ALGORITHM << 8 | _ENUMERATION, int(ShreddingAlgorithm.Unspecified)),
    ]


async def query(context: Context, request: QueryRequest) -> QueryResponse:
    """Answer each function asked; what the server does not have is an empty answer."""
    version = context.version
    information = context.services.information
    response = QueryResponse()
    for function in request.functions:
        if function == QueryFunction.QueryOperations:
            response.operations = _operations(version)
        elif function == QueryFunction.QueryObjects:
            response.object_types = [
                int(kind) for kind, (since, last) in _OBJECT_TYPES.items() if since <= version <= last
            ]
        elif function == QueryFunction.QueryServerInformation:
            response.vendor_identification = " ".join(
                part for part in (information.vendor, information.version, information.instance) if part
            )
        elif function == QueryFunction.QueryRNGs and version >= V1_3:
            response.rng_parameters = [OPERATING_SYSTEM_RNG]
        elif function == QueryFunction.QueryCapabilities and version >= V1_3:
            response.capabilities = [_capabilities(version)]
        elif function not in {int(known) for known in QueryFunction}:
            raise OperationFailed(ResultReason.InvalidField, "unknown query function")
    return response


def is_supported(major: int, minor: int) -> bool:
    """Whether requests of this protocol version are served."""
    return version_of(major, minor) in SUPPORTED

"""Which function serves which operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from kmip_contract.permissions import ALWAYS_PERMITTED
from kmipd.operations import attributes, create, discovery, get, lifecycle, locate
from kmipd.operations.context import Context
from kmipd.wire.enums import Operation
from kmipd.wire.payloads import REQUESTS, RESPONSES, PayloadCodec

Function = Callable[[Context, Any], Awaitable[Any]]


class Handler(NamedTuple):
    """One operation: its name, whether every client may call it, its payloads, and the function."""

    name: str
    always: bool
    request: PayloadCodec[Any]
    response: PayloadCodec[Any]
    function: Function


_FUNCTIONS: Final[dict[Operation, Function]] = {
    Operation.DiscoverVersions: discovery.discover_versions,
    Operation.Query: discovery.query,
    Operation.Create: create.create,
    Operation.Register: create.register,
    Operation.Get: get.get,
    Operation.GetAttributes: attributes.get_attributes,
    Operation.GetAttributeList: attributes.get_attribute_list,
    Operation.AddAttribute: attributes.add_attribute,
    Operation.ModifyAttribute: attributes.modify_attribute,
    Operation.DeleteAttribute: attributes.delete_attribute,
    Operation.Locate: locate.locate,
    Operation.Activate: lifecycle.activate,
    Operation.Revoke: lifecycle.revoke,
    Operation.Destroy: lifecycle.destroy,
}

HANDLERS: Final[dict[int, Handler]] = {
    operation: Handler(
        operation.name, operation.name in ALWAYS_PERMITTED, REQUESTS[operation], RESPONSES[operation], function
    )
    for operation, function in _FUNCTIONS.items()
}

_NAMES: Final = {int(operation): operation.name for operation in Operation}


def name_of(operation: int) -> str:
    """An operation's name for people, also when it is none."""
    return _NAMES.get(operation) or f"0x{operation:08x}"

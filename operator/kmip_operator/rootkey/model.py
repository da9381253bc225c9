"""The RootKey resource."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kmip_operator.resource import (
    ApiModel,
    LabelText,
    Reference,
    Status,
    map_list,
    rule,
    rules,
    union,
)


class SourceType(StrEnum):
    """Where the key comes from."""

    CREATE = "Create"
    ADOPT = "Adopt"


class CreateSource(ApiModel):
    """A key to make in the key manager."""

    algorithm: Literal["AES"] = Field()
    """The algorithm: AES."""
    length: Annotated[Literal[128, 192, 256], Field(json_schema_extra={"format": "int32"})]
    """Length in bits: 128, 192 or 256."""


class AdoptSource(ApiModel):
    """A key that exists in the key manager."""

    key_id: Annotated[str, Field(min_length=1, max_length=256)] = Field(alias="keyID")
    """The key's identifier in the key manager. For PKCS11: its CKA_ID in hexadecimal, or its label."""


class Source(ApiModel):
    """Where the key comes from."""

    model_config = ConfigDict(json_schema_extra=rules(*union("type", Create="create", Adopt="adopt")))

    type: SourceType
    """Create: make the key, or take it back when a RootKey of this name made it before. Adopt: use a key that exists."""
    create: CreateSource | None = None
    """The key to make. Only with type Create."""
    adopt: AdoptSource | None = None
    """The key to use. Only with type Adopt."""


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class SelectorRequirement(ApiModel):
    """A demand on one label."""

    key: Annotated[str, Field(min_length=1, max_length=317)]
    """The label."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist."""
    values: (
        Annotated[list[LabelText], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})] | None
    ) = None
    """The values, for In and NotIn."""


class LabelSelector(ApiModel):
    """Chooses objects by their labels; all that is given must hold. Empty: every object."""

    match_labels: Annotated[dict[str, LabelText], Field(max_length=32)] | None = None
    """Labels the object must have with these values."""
    match_expressions: (
        Annotated[
            list[SelectorRequirement], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
        ]
        | None
    ) = None
    """Demands on labels."""

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is chosen."""
        if any(labels.get(key) != value for key, value in (self.match_labels or {}).items()):
            return False
        return all(_holds(requirement, labels) for requirement in self.match_expressions or [])


def _holds(requirement: SelectorRequirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    values = requirement.values or []
    match requirement.operator:
        case SelectorOperator.IN:
            return value is not None and value in values
        case SelectorOperator.NOT_IN:
            return value is None or value not in values
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None


class RootKeySpec(ApiModel):
    """What the user says."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.keyManagerRef.name == oldSelf.keyManagerRef.name",
                "keyManagerRef cannot be changed: make another RootKey",
            ),
            rule("self.source == oldSelf.source", "source cannot be changed: make another RootKey"),
        )
    )

    key_manager_ref: Reference
    """The KeyManager that holds the key."""
    source: Source
    """Where the key comes from."""
    allowed_instances: LabelSelector | None = None
    """Which KmipInstances of the namespace may use the key, by their labels. Default: all of them. An instance that is no
    longer chosen stops serving keys."""


class KeyVersion(ApiModel):
    """One version of the key."""

    version: Annotated[int, Field(ge=1)]
    """Counts from 1."""
    handle: str
    """The key manager's name of this version."""
    state: str
    """Active: wraps and unwraps. Deactivated: unwraps only. Suspended, Destroyed: neither."""


class KeyspaceState(StrEnum):
    """How a keyspace depends on the key."""

    SERVING = "Serving"
    RETAINED = "Retained"


class BoundKeyspace(ApiModel):
    """Keys of one instance that only this key unwraps."""

    id: Annotated[str, Field(max_length=63)]
    """The keyspace."""
    instance: str
    """Name of the KmipInstance that serves, or served, it."""
    state: KeyspaceState
    """Serving: a KmipInstance uses it. Retained: its volume or certificates were kept when the instance was deleted."""


class RootKeyStatus(Status):
    """What the operator answers."""

    key_id: str | None = Field(default=None, alias="keyID")
    """The key's identifier in the key manager."""
    current_version: Annotated[int, Field(ge=0)] | None = None
    """The version that wraps."""
    versions: Annotated[list[KeyVersion], Field(json_schema_extra=map_list("version"))] | None = None
    """Every version of the key."""
    keyspaces: Annotated[list[BoundKeyspace], Field(json_schema_extra=map_list("id"))] | None = None
    """The keyspaces that only this key unwraps. While there are any, the RootKey cannot be deleted."""


class RootKey(ApiModel):
    """The key that wraps every key of the instances that refer to it. It never leaves its key manager.

    Deleting a RootKey never destroys the key in the key manager, and is refused while keyspaces depend on it.
    """

    spec: RootKeySpec
    """Which key, and who may use it."""
    status: RootKeyStatus | None = None
    """Whether it can be used, and what depends on it. Written by the operator."""

"""What the models of the four kinds share: the base class, field types with their schema, and validation rules (CEL)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

RULES = "x-kubernetes-validations"


class ApiModel(BaseModel):
    """A part of a custom resource. Unknown fields are ignored: another release's API server may know more."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    def to_manifest(self) -> dict[str, Any]:
        """The JSON form; fields that are ``None`` are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """One CEL rule. ``message`` says what is wrong and what to write instead."""
    return {"rule": expression, "message": message, **more}


def rules(*items: dict[str, str]) -> dict[str, Any]:
    """Schema extension holding CEL rules."""
    return {RULES: list(items)}


def union(discriminator: str, **members: str) -> list[dict[str, str]]:
    """Rules of a union: the member that ``discriminator`` names must be there, the others must not.

    Args:
        discriminator: the field whose value chooses.
        members: value of the discriminator → member field.
    """
    return [
        rule(
            f"has(self.{member}) == (self.{discriminator} == '{value}')",
            f"{member} must be given when {discriminator} is {value}, and only then",
        )
        for value, member in members.items()
    ]


def map_list(key: str) -> dict[str, Any]:
    """Schema extension of a list whose items are known by ``key``."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


SET_LIST: dict[str, Any] = {"x-kubernetes-list-type": "set"}

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
]
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
HostName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$",
    ),
]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
AbsolutePath = Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/[^\x00]*$")]
ImageReference = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^\S+$")]
Duration = Annotated[str, Field(min_length=2, max_length=32, pattern=r"^([0-9]+(ms|s|m|h))+$")]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelText = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
AnnotationText = Annotated[str, Field(max_length=4096)]

_QUANTITY = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": r"^[0-9]+(\.[0-9]{1,9})?([KMGTPE]i|[numkMGTPE]|[eE][0-9]{1,2})?$",
    "x-kubernetes-int-or-string": True,
    "maxLength": 64,
}
Quantity = Annotated[int | str, Field(json_schema_extra=_QUANTITY)]


class PullPolicy(StrEnum):
    """When the kubelet fetches an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Reference(ApiModel):
    """Names an object in the same namespace."""

    name: ObjectName
    """Name of the object, in the same namespace."""


class SecretKeyReference(ApiModel):
    """Names one key of a Secret in the same namespace."""

    name: ObjectName
    """Name of the Secret, in the same namespace."""
    key: DataKey | None = None
    """Key within the Secret's data."""


class Resources(ApiModel):
    """Compute resources of a container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=8)] | None = None
    """What the scheduler reserves, such as cpu: 100m, memory: 64Mi."""
    limits: Annotated[dict[str, Quantity], Field(max_length=8)] | None = None
    """What the container may not exceed."""


class ConditionStatus(StrEnum):
    """Whether the condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One observation of the object's state (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """What is observed, such as Ready. Reconciling and Stalled are true when something is going on or wrong."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=1024)]
    """One word for why."""
    message: Annotated[str, Field(max_length=32768)]
    """What was found and, when something is wrong, the field it is about and what to do."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)]
    """The metadata.generation this was observed for."""


class Status(ApiModel):
    """What every kind answers."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The metadata.generation the operator last acted on. While it is smaller than metadata.generation, the rest is old."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=map_list("type"))] | None = None
    """Ready says whether it works; Reconciling and Stalled, when True, say what is going on or what to mend."""

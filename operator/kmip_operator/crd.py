"""The four CustomResourceDefinitions, generated from the models.

pydantic's JSON schema becomes a structural schema: references are put in place, alternatives with null vanish, no defaults are
written (a default in a schema would appear in the cluster and not in Git).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kmip_operator.clientcertificate.model import ClientCertificate
from kmip_operator.keymanager.model import KeyManager
from kmip_operator.kmipinstance.model import KmipInstance
from kmip_operator.naming import GROUP
from kmip_operator.resource import ApiModel
from kmip_operator.rootkey.model import RootKey

Schema = dict[str, Any]

MAX_BYTES = 64 * 1024
"""Client-side apply keeps a copy in an annotation, and an object's annotations share 256 KiB; small CRDs stay far below."""

_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)


@dataclass(frozen=True)
class Column:
    """One printer column; ``wide`` ones appear with ``-o wide`` alone."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def manifest(self) -> Schema:
        """The column as the CRD says it."""
        more = {"priority": 1} if self.wide else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description, **more}


def _condition(condition_type: str, what: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{condition_type}")].{what}'


_READY = Column("Ready", _condition("Ready"), "Whether it works.")
_REASON = Column("Reason", _condition("Ready", "reason"), "Why it is, or is not, ready.")
_AGE = Column("Age", ".metadata.creationTimestamp", "Since when it exists.", type="date")
_MESSAGE = Column("Message", _condition("Ready", "message"), "What was found, and what to do.", wide=True)


@dataclass(frozen=True)
class Kind:
    """One custom resource."""

    kind: str
    plural: str
    short_name: str
    model: type[ApiModel]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = field(default=())


KINDS = (
    Kind(
        "KeyManager",
        "keymanagers",
        "km",
        KeyManager,
        (
            _READY,
            _REASON,
            Column("Type", ".spec.type", "What kind of key manager it is."),
            Column("Provider", ".status.summary", "What the key manager says of itself."),
            Column("Authorized", _condition("Authorized"), "Whether it accepts the credentials."),
            _MESSAGE,
            _AGE,
        ),
    ),
    Kind(
        "RootKey",
        "rootkeys",
        "rk",
        RootKey,
        (
            _READY,
            _REASON,
            Column("KeyManager", ".spec.keyManagerRef.name", "Where the key is."),
            Column("Usable", _condition("Usable"), "Whether serving pods can unwrap keys with it now."),
            Column("Version", ".status.currentVersion", "The version that wraps.", type="integer"),
            Column("KeyID", ".status.keyID", "The key's identifier in the key manager.", wide=True),
            _MESSAGE,
            _AGE,
        ),
        (".spec.keyManagerRef.name",),
    ),
    Kind(
        "KmipInstance",
        "kmipinstances",
        "ki",
        KmipInstance,
        (
            _READY,
            _REASON,
            Column("Address", ".status.address", "Where to connect."),
            Column("Pods", ".status.pods", "Pods that serve, of those that should."),
            Column("Server-Until", ".status.serverCertificate.notAfter", "Until when the server certificate is valid."),
            Column("RootKey", ".spec.rootKeyRef.name", "The root key that wraps its keys.", wide=True),
            Column("Keyspace", ".status.keyspace", "The identity of its keys.", wide=True),
            Column("SHA-256", ".status.serverCertificate.sha256", "Fingerprint of the server certificate.", wide=True),
            _MESSAGE,
            _AGE,
        ),
        (".spec.rootKeyRef.name",),
    ),
    Kind(
        "ClientCertificate",
        "clientcertificates",
        "kcc",
        ClientCertificate,
        (
            _READY,
            _REASON,
            Column("Instance", ".spec.instanceRef.name", "The instance that serves the client."),
            Column("Applied", ".status.appliedPods", "Pods that enforce it, of those that serve."),
            Column("Valid-Until", ".status.notAfter", "Until when the certificate is valid."),
            Column("Last-Seen", ".status.lastSeen", "The last day on which the client made a request."),
            Column("Subject", ".status.subject", "The certificate's subject.", wide=True),
            Column("SHA-256", ".status.sha256", "The certificate's fingerprint.", wide=True),
            _MESSAGE,
            _AGE,
        ),
        (".spec.instanceRef.name",),
    ),
)


def structural(schema: Schema, definitions: Schema) -> Schema:
    """A pydantic JSON schema as a structural schema.

    Args:
        schema: the schema, or a part of it.
        definitions: what its references point to.

    Raises:
        ValueError: it holds something a structural schema cannot say.
    """
    schema = _resolve(schema, definitions)
    if schema.get("x-kubernetes-int-or-string"):
        return {key: value for key, value in schema.items() if key not in {"title", "type", "default"}}
    result: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    result.update({key: value for key, value in schema.items() if key.startswith("x-kubernetes-")})
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "properties" in schema:
        result["properties"] = {name: structural(part, definitions) for name, part in schema["properties"].items()}
        if schema.get("required"):
            result["required"] = list(schema["required"])
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(schema["additionalProperties"], definitions)
    if "items" in schema:
        result["items"] = structural(schema["items"], definitions)
    if "type" not in result:
        raise ValueError(f"no type in {schema}")
    return result


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    """Follow references and drop alternatives with null; what stands beside a reference wins over what it points to."""
    while True:
        if "anyOf" in schema and not schema.get("x-kubernetes-int-or-string"):
            others = [part for part in schema["anyOf"] if part.get("type") != "null"]
            if len(others) != 1:
                raise ValueError(f"a structural schema has no alternatives: {schema}")
            schema = {**others[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
        elif "$ref" in schema:
            target = definitions[schema["$ref"].rpartition("/")[2]]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        else:
            return schema


def definition(kind: Kind) -> Schema:
    """One CustomResourceDefinition."""
    generated = kind.model.model_json_schema(by_alias=True)
    root = structural(generated, generated.get("$defs", {}))
    root["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **root["properties"],
    }
    version: Schema = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.manifest() for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short_name],
                "categories": ["kmip"],
            },
            "versions": [version],
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def render(kind: Kind) -> str:
    """The definition as YAML, the same on every run."""
    text: str = yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return text


def file_name(kind: Kind) -> str:
    """Name of the definition's file."""
    return f"{GROUP}_{kind.plural}.yaml"


def write(directory: Path) -> list[Path]:
    """Write the definitions into a directory; the paths written."""
    paths = []
    for kind in KINDS:
        path = directory / file_name(kind)
        path.write_text(render(kind), encoding="utf-8")
        paths.append(path)
    return paths

"""Would an apply change anything? Compares a manifest with the live object and with what the operator owns of it.

Server-side apply records which fields a manager has set (``metadata.managedFields``, structure ``fieldsV1``). An apply is
needed when a field of the manifest is missing or differs in the live object, when the operator owns a field that the manifest
no longer has, or when another manager took a field over. Fields that the API server or others add are nobody's business here.
Pure functions, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kmip_operator.kube.client import FIELD_MANAGER

# Set by the API server or meaningless in a comparison.
_IDENTITY = frozenset({"apiVersion", "kind"})
_IDENTITY_METADATA = frozenset({"name", "namespace", "resourceVersion", "uid"})


class Change(StrEnum):
    """What is different about one field."""

    MISSING = "missing"
    DIFFERENT = "different"
    NO_LONGER_WANTED = "no longer wanted"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field (a path such as ``spec.ports[name=kmip].port``) and what is different about it; never its value."""

    path: str
    change: Change


def owned_fields(live: Mapping[str, Any], manager: str = FIELD_MANAGER) -> Mapping[str, Any] | None:
    """The ``fieldsV1`` of ``manager``'s applies to the main resource, or ``None`` when it never applied."""
    for entry in live.get("metadata", {}).get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Mapping[str, Any] = entry.get("fieldsV1") or {}
            return fields
    return None


def differences(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Why ``manifest`` must be applied to ``live``; empty when an apply would change nothing.

    A manifest that was never applied by the operator differs at least in ``metadata.managedFields``.
    """
    owned = owned_fields(live)
    found = list(_wanted(_content(manifest), live, ""))
    if owned is None:
        found.append(Difference("metadata.managedFields", Change.MISSING))
    else:
        found += _unwanted(owned, _content(manifest), "")
    return tuple(dict.fromkeys(found))


def _content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in manifest.items() if key not in _IDENTITY and key != "status"}
    content["metadata"] = {key: value for key, value in manifest["metadata"].items() if key not in _IDENTITY_METADATA}
    return content


def _wanted(wanted: Any, live: Any, path: str) -> Iterator[Difference]:
    """Fields of ``wanted`` that ``live`` has not, or not with that value."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            # Empty objects are dropped by many types' serialisation: wanting {} of nothing is no difference.
            if wanted:
                yield Difference(path, Change.MISSING if live is None else Change.DIFFERENT)
            return
        for key, value in wanted.items():
            if value is None:
                continue
            yield from _wanted(value, live.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list):
        if live is None and not wanted:
            return
        if not isinstance(live, list):
            yield Difference(path, Change.MISSING if live is None else Change.DIFFERENT)
            return
        yield from _wanted_items(wanted, live, path)
    elif wanted != live:
        yield Difference(path, Change.MISSING if live is None else Change.DIFFERENT)


def _wanted_items(wanted: list[Any], live: list[Any], path: str) -> Iterator[Difference]:
    if all(isinstance(item, Mapping) for item in wanted):
        for position, item in enumerate(wanted):
            match = _counterpart(item, position, live)
            yield from _wanted(item, match, f"{path}[{_label(item, position)}]")
    elif any(item not in live for item in wanted):
        yield Difference(path, Change.DIFFERENT)


# What identifies an item in the lists the operator writes (list-map keys of the built-in types), most specific first.
_KEYS = ("uid", "mountPath", "topologyKey", "name", "containerPort", "port", "key", "type")


def _counterpart(item: Mapping[str, Any], position: int, live: list[Any]) -> Any:
    """The live item of the same identity, else the one at the same position."""
    for key in _KEYS:
        if key in item:
            same = [other for other in live if isinstance(other, Mapping) and other.get(key) == item[key]]
            if len(same) == 1:
                return same[0]
            if not same:
                return None
    return live[position] if position < len(live) else None


def _label(item: Mapping[str, Any], position: int) -> str:
    for key in _KEYS:
        if isinstance(item.get(key), str | int):
            return f"{key}={item[key]}"
    return str(position)


def _unwanted(owned: Mapping[str, Any], wanted: Any, path: str) -> Iterator[Difference]:
    """Fields that are owned but that ``wanted`` no longer has."""
    items = 0
    for key, nested in owned.items():
        if key == ".":
            continue
        kind, _, rest = key.partition(":")
        if kind == "f":
            here = f"{path}.{rest}" if path else rest
            if not isinstance(wanted, Mapping) or wanted.get(rest) is None:
                if not _is_empty(nested, wanted):
                    yield Difference(here, Change.NO_LONGER_WANTED)
            elif nested:
                yield from _unwanted(nested, wanted[rest], here)
        elif kind == "k":
            items += 1
            match = _keyed(json.loads(rest), wanted)
            if match is None:
                yield Difference(f"{path}[{rest}]", Change.NO_LONGER_WANTED)
            else:
                yield from _unwanted(nested, match, f"{path}[{rest}]")
        elif kind == "v":
            items += 1
            if not isinstance(wanted, list) or json.loads(rest) not in wanted:
                yield Difference(path, Change.NO_LONGER_WANTED)
    if items and isinstance(wanted, list) and len(wanted) != items:
        # Two wanted items collapsed into one, or one lost its owner: the apply decides.
        yield Difference(path, Change.DIFFERENT)


def _is_empty(nested: Mapping[str, Any], wanted: Any) -> bool:
    """An owned field that holds nothing (``f:data: {}`` of an empty map) is not missed."""
    return not isinstance(wanted, Mapping) and not nested


def _keyed(keys: Mapping[str, Any], wanted: Any) -> Mapping[str, Any] | None:
    """The wanted list item with these list-map keys; a key the manifest leaves out was defaulted (``protocol: TCP``)."""
    if not isinstance(wanted, list):
        return None
    for item in wanted:
        if isinstance(item, Mapping) and all(key not in item or item[key] == value for key, value in keys.items()):
            return item
    return None

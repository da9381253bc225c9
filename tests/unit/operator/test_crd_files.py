"""The committed CRDs: generated, small, structural, documented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmip_operator import crd

CRDS = Path(__file__).parents[3] / "crds"
KINDS = pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)


def schema_of(kind: crd.Kind) -> dict[str, Any]:
    found: dict[str, Any] = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], f"{path}[]")


@KINDS
def test_the_committed_file_is_what_the_models_say(kind: crd.Kind) -> None:
    assert (CRDS / crd.file_name(kind)).read_text() == crd.render(kind), "run: make crds"


def test_there_are_no_other_files() -> None:
    assert {path.name for path in CRDS.iterdir()} == {crd.file_name(kind) for kind in crd.KINDS}


@KINDS
def test_it_is_small_enough_for_every_way_of_applying_it(kind: crd.Kind) -> None:
    assert len(crd.render(kind).encode()) < crd.MAX_BYTES


@KINDS
def test_it_has_no_references_defaults_or_unknown_fields(kind: crd.Kind) -> None:
    text = crd.render(kind)
    for word in ("$ref", "$defs", "default:", "x-kubernetes-preserve-unknown-fields", "anyOf:\n    - type: 'null'"):
        assert word not in text


@KINDS
def test_every_field_is_explained(kind: crd.Kind) -> None:
    for path, part in walk(schema_of(kind)):
        if path.startswith((".spec", ".status")) and not path.endswith("[]"):
            assert part.get("description"), path


@KINDS
def test_everything_a_user_writes_is_bounded(kind: crd.Kind) -> None:
    for path, part in walk(schema_of(kind)["properties"]["spec"], "spec"):
        if part.get("type") == "array":
            assert "maxItems" in part, path
        if part.get("type") == "string" and "enum" not in part:
            assert "maxLength" in part, path
        if part.get("type") == "object" and "additionalProperties" in part:
            assert "maxProperties" in part, path
        if part.get("type") == "integer" and "enum" not in part:
            assert "minimum" in part, path


@KINDS
def test_lists_have_a_type_that_server_side_apply_merges_by(kind: crd.Kind) -> None:
    for path, part in walk(schema_of(kind)):
        if part.get("type") == "array":
            assert part.get("x-kubernetes-list-type"), path


@KINDS
def test_it_belongs_to_the_category_and_has_a_short_name_and_a_status(kind: crd.Kind) -> None:
    spec = crd.definition(kind)["spec"]
    assert spec["names"]["categories"] == ["kmip"]
    assert spec["names"]["shortNames"] == [
        {"KeyManager": "km", "RootKey": "rk", "KmipInstance": "ki", "ClientCertificate": "kcc"}[kind.kind]
    ]
    assert spec["versions"][0]["subresources"] == {"status": {}}
    assert [column["name"] for column in spec["versions"][0]["additionalPrinterColumns"]][:2] == ["Ready", "Reason"]

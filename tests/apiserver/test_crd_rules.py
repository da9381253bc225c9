"""Every CEL rule of the CRDs on a real API server: one object that it accepts, one that it refuses with its message."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kind.native.apiserver import ApiServer
from kmip_operator import crd

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "crd-rules"
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

Manifest = dict[str, Any]

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def server(apiserver: ApiServer) -> ApiServer:
    apiserver.kubectl("apply", "--server-side", "-f", str(CRDS))
    names = [f"{kind.plural}.kmip.dev" for kind in crd.KINDS]
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", *names)
    apiserver.run_kubectl("create", "namespace", NAMESPACE)
    return apiserver


KEY_MANAGER: Manifest = {
    "type": "PKCS11",
    "pkcs11": {"tokenLabel": "kmip", "module": {"path": "/usr/lib/p11.so"}},
    "credentials": {"use": {"secretRef": {"name": "hsm-user"}}},
}
SOFTWARE: Manifest = {"type": "Software", "credentials": {"use": {"secretRef": {"name": "seed"}}}}
ROOT_KEY: Manifest = {
    "keyManagerRef": {"name": "luna"},
    "source": {"type": "Create", "create": {"algorithm": "AES", "length": 256}},
}
INSTANCE: Manifest = {"rootKeyRef": {"name": "crk"}}
POSTGRESQL: Manifest = {
    **INSTANCE,
    "storage": {"type": "PostgreSQL", "postgresql": {"connectionSecretRef": {"name": "pg"}}},
}
LEAF: Manifest = {"instanceRef": {"name": "vc"}, "type": "Leaf", "leaf": {"pem": PEM}}
AUTHORITY: Manifest = {
    "instanceRef": {"name": "vc"},
    "type": "Authority",
    "authority": {"pem": PEM, "match": {"commonName": "vc"}},
}


def changed(spec: Manifest, path: str, value: Any) -> Manifest:
    """The spec with one field set, or removed with ``None``."""
    result = copy.deepcopy(spec)
    *way, last = path.split(".")
    place = result
    for name in way:
        place = place.setdefault(name, {})
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return result


def service(**fields: Any) -> Manifest:
    return changed(INSTANCE, "service", fields)


# Kind, accepted spec, refused spec, and the rule's message.
CREATED: list[tuple[str, Manifest, Manifest, str]] = [
    ("KeyManager", KEY_MANAGER, {**SOFTWARE, "type": "PKCS11"}, "pkcs11 must be given when type is PKCS11"),
    ("KeyManager", SOFTWARE, {**KEY_MANAGER, "type": "Software"}, "pkcs11 must be given when type is PKCS11"),
    ("RootKey", ROOT_KEY, changed(ROOT_KEY, "source.create", None), "create must be given when type is Create"),
    (
        "RootKey",
        changed(ROOT_KEY, "source", {"type": "Adopt", "adopt": {"keyID": "a1"}}),
        changed(ROOT_KEY, "source", {"type": "Adopt", "create": {"algorithm": "AES", "length": 256}}),
        "adopt must be given when type is Adopt",
    ),
    (
        "KmipInstance",
        service(type="NodePort", nodePort=31696),
        service(nodePort=31696),
        "nodePort needs type NodePort or LoadBalancer",
    ),
    *(
        (
            "KmipInstance",
            service(type="LoadBalancer", **{field: value}),
            service(type="NodePort", **{field: value}),
            "loadBalancerIP, loadBalancerClass and loadBalancerSourceRanges need type LoadBalancer",
        )
        for field, value in (
            ("loadBalancerIP", "198.51.100.7"),
            ("loadBalancerClass", "example.com/internal"),
            ("loadBalancerSourceRanges", ["10.0.0.0/8"]),
        )
    ),
    (
        "KmipInstance",
        service(type="LoadBalancer", externalTrafficPolicy="Local"),
        service(type="ClusterIP", externalTrafficPolicy="Local"),
        "externalTrafficPolicy needs type NodePort or LoadBalancer",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "storage", {"type": "SQLite", "sqlite": {"size": "2Gi"}}),
        changed(POSTGRESQL, "storage.sqlite", {"size": "2Gi"}),
        "sqlite can be given only when type is SQLite",
    ),
    (
        "KmipInstance",
        POSTGRESQL,
        changed(INSTANCE, "storage", {"type": "PostgreSQL"}),
        "postgresql must be given when type is PostgreSQL",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "cache", {"maxAge": "1m"}),
        changed(INSTANCE, "cache", {"maxAge": "61s"}),
        "maxAge must be at most 60s",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "pod", {"labels": {"team": "a"}}),
        changed(INSTANCE, "pod", {"labels": {"kmip.dev/instance": "a"}}),
        "labels of kmip.dev/ and app.kubernetes.io/ belong to the operator",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "pod", {"annotations": {"example.com/a": "a"}}),
        changed(INSTANCE, "pod", {"annotations": {"kmip.dev/config": "a"}}),
        "annotations of kmip.dev/ belong to the operator",
    ),
    (
        "KmipInstance",
        changed(POSTGRESQL, "regions", [{"name": "a", "replicas": 2}, {"name": "b"}]),
        changed(INSTANCE, "regions", [{"name": "a"}, {"name": "b"}]),
        "SQLite storage serves one region with one replica",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "regions", [{"name": "a", "replicas": 1}]),
        changed(INSTANCE, "regions", [{"name": "a", "replicas": 2}]),
        "SQLite storage serves one region with one replica",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "regions", [{"name": "pods-a"}]),
        changed(INSTANCE, "regions", [{"name": "pods"}]),
        "a region cannot be named pods",
    ),
    (
        "KmipInstance",
        changed(INSTANCE, "regions", [{"name": "a", "service": {"type": "NodePort"}}]),
        {**INSTANCE, "regions": [{"name": "a"}], "service": {"type": "NodePort"}},
        "service is for an instance without regions",
    ),
    ("ClientCertificate", LEAF, changed(LEAF, "leaf", None), "leaf must be given when type is Leaf"),
    (
        "ClientCertificate",
        AUTHORITY,
        {**AUTHORITY, "leaf": {"pem": PEM}},
        "leaf must be given when type is Leaf",
    ),
    (
        "ClientCertificate",
        AUTHORITY,
        changed(AUTHORITY, "authority", None),
        "authority must be given when type is Authority",
    ),
    (
        "ClientCertificate",
        changed(LEAF, "leaf", {"secretRef": {"name": "vc", "key": "tls.crt"}}),
        changed(LEAF, "leaf.secretRef", {"name": "vc"}),
        "give either pem or secretRef",
    ),
    ("ClientCertificate", LEAF, changed(LEAF, "leaf", {}), "give either pem or secretRef"),
    (
        "ClientCertificate",
        changed(AUTHORITY, "authority.match", {"uri": "spiffe://example/vc"}),
        changed(AUTHORITY, "authority.match", {}),
        "match must say at least one of",
    ),
    (
        "ClientCertificate",
        changed(LEAF, "permissions", {"operations": ["Get"]}),
        changed(LEAF, "permissions", {"profile": "Full", "operations": ["Get"]}),
        "give either profile or operations",
    ),
    (
        "ClientCertificate",
        changed(LEAF, "leaf.pem", f"\n {PEM}"),
        changed(LEAF, "leaf.pem", f"{PEM}-----BEGIN EC PRIVATE KEY-----\nAA\n-----END EC PRIVATE KEY-----\n"),
        "must not hold a private key",
    ),
    (
        "ClientCertificate",
        LEAF,
        changed(LEAF, "leaf.pem", "not a certificate"),
        "must begin with -----BEGIN CERTIFICATE-----",
    ),
    ("ClientCertificate", LEAF, changed(LEAF, "leaf.pem", PEM * 2), "must hold exactly one certificate"),
    (
        "ClientCertificate",
        LEAF,
        changed(LEAF, "leaf.pem", "-----BEGIN CERTIFICATE-----\nAAAA"),
        "must end with -----END CERTIFICATE-----",
    ),
]

# Kind, first spec, accepted change, refused change, and the rule's message.
SQLITE: Manifest = changed(
    INSTANCE,
    "storage",
    {"type": "SQLite", "sqlite": {"size": "2Gi", "storageClassName": "fast", "accessMode": "ReadWriteOnce"}},
)
UPDATED: list[tuple[str, Manifest, Manifest, Manifest, str]] = [
    (
        "KeyManager",
        SOFTWARE,
        changed(SOFTWARE, "credentials.use.secretRef.name", "seed-2"),
        KEY_MANAGER,
        "type cannot be changed",
    ),
    (
        "RootKey",
        ROOT_KEY,
        changed(ROOT_KEY, "allowedInstances", {"matchLabels": {"a": "b"}}),
        changed(ROOT_KEY, "keyManagerRef.name", "other"),
        "keyManagerRef cannot be changed",
    ),
    ("RootKey", ROOT_KEY, ROOT_KEY, changed(ROOT_KEY, "source.create.length", 128), "source cannot be changed"),
    (
        "KmipInstance",
        INSTANCE,
        changed(INSTANCE, "serving", "Fenced"),
        changed(INSTANCE, "rootKeyRef.name", "other"),
        "rootKeyRef cannot be changed",
    ),
    (
        "KmipInstance",
        INSTANCE,
        changed(INSTANCE, "storage", {"type": "SQLite"}),
        POSTGRESQL,
        "storage.type cannot be changed",
    ),
    ("KmipInstance", SQLITE, SQLITE, changed(SQLITE, "storage.sqlite.size", "3Gi"), "size cannot be changed"),
    (
        "KmipInstance",
        SQLITE,
        SQLITE,
        changed(SQLITE, "storage.sqlite.storageClassName", None),
        "storageClassName cannot be changed",
    ),
    (
        "KmipInstance",
        SQLITE,
        SQLITE,
        changed(SQLITE, "storage.sqlite.accessMode", "ReadWriteOncePod"),
        "accessMode cannot be changed",
    ),
    (
        "KmipInstance",
        POSTGRESQL,
        changed(POSTGRESQL, "storage.postgresql.schema", "kmip"),
        changed(POSTGRESQL, "storage.postgresql.schema", "other"),
        "schema cannot be changed",
    ),
    (
        "ClientCertificate",
        LEAF,
        changed(LEAF, "state", "Blocked"),
        changed(LEAF, "instanceRef.name", "other"),
        "instanceRef cannot be changed",
    ),
]

# What the schema itself refuses, and a word of the API server's answer.
MALFORMED: list[tuple[str, Manifest, str]] = [
    ("KeyManager", changed(KEY_MANAGER, "pkcs11.tokenLabel", "x" * 33), "spec.pkcs11.tokenLabel"),
    ("KeyManager", changed(KEY_MANAGER, "pkcs11.module.path", "relative.so"), "spec.pkcs11.module.path"),
    ("KeyManager", changed(KEY_MANAGER, "type", "Vault"), "spec.type"),
    (
        "KeyManager",
        changed(KEY_MANAGER, "pkcs11.environment", [{"name": "A-B", "value": ""}]),
        "spec.pkcs11.environment",
    ),
    (
        "KeyManager",
        changed(KEY_MANAGER, "pkcs11.environment", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "Duplicate value",
    ),
    ("RootKey", changed(ROOT_KEY, "source.create.length", 512), "spec.source.create.length"),
    ("RootKey", changed(ROOT_KEY, "rotation", {"interval": "2160h"}), 'unknown field "spec.rotation"'),
    ("KmipInstance", changed(POSTGRESQL, "regions", [{"name": "Tokyo"}]), "spec.regions[0].name"),
    ("KmipInstance", changed(POSTGRESQL, "regions", [{"name": "a"}, {"name": "a"}]), "Duplicate value"),
    ("KmipInstance", changed(INSTANCE, "serving", "Maybe"), "spec.serving"),
    ("KmipInstance", changed(INSTANCE, "cache", {"maxAge": "1 minute"}), "spec.cache.maxAge"),
    ("KmipInstance", service(hostNames=["kms 1"]), "spec.service.hostNames"),
    ("KmipInstance", changed(INSTANCE, "storage", {"type": "SQLite", "sqlite": {"size": "big"}}), "size"),
    ("KmipInstance", {}, "spec.rootKeyRef"),
    ("ClientCertificate", changed(LEAF, "permissions", {"operations": ["Explode"]}), "spec.permissions.operations[0]"),
    ("ClientCertificate", changed(LEAF, "leaf.pem", PEM + " " * 17000), "spec.leaf.pem"),
]


def name_of(*case: Any) -> str:
    return "-".join(word for word in (case[0], case[-1]) if isinstance(word, str)).replace(" ", "_")[:70]


def apply(server: ApiServer, kind: str, name: str, spec: Manifest, *options: str) -> tuple[bool, str]:
    manifest = {
        "apiVersion": "kmip.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
    done = server.run_kubectl("apply", "--validate=strict", *options, "-f", "-", stdin=json.dumps(manifest))
    return done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "good", "bad", "message"), CREATED, ids=[name_of(*case) for case in CREATED])
def test_a_rule_accepts_one_and_refuses_the_other(
    server: ApiServer, kind: str, good: Manifest, bad: Manifest, message: str
) -> None:
    accepted, answer = apply(server, kind, "created", good, "--dry-run=server")
    assert accepted, answer
    accepted, answer = apply(server, kind, "created", bad, "--dry-run=server")
    assert not accepted
    assert message in answer


@pytest.mark.parametrize(("number", "case"), list(enumerate(UPDATED)), ids=[name_of(*case) for case in UPDATED])
def test_a_rule_accepts_one_change_and_refuses_the_other(
    server: ApiServer, number: int, case: tuple[str, Manifest, Manifest, Manifest, str]
) -> None:
    kind, first, good, bad, message = case
    name = f"updated-{number}"
    for spec in (first, good):
        accepted, answer = apply(server, kind, name, spec)
        assert accepted, answer
    accepted, answer = apply(server, kind, name, bad)
    assert not accepted
    assert message in answer


@pytest.mark.parametrize(("kind", "spec", "word"), MALFORMED, ids=[name_of(*case) for case in MALFORMED])
def test_the_schema_refuses(server: ApiServer, kind: str, spec: Manifest, word: str) -> None:
    accepted, answer = apply(server, kind, "malformed", spec, "--dry-run=server")
    assert not accepted
    assert word in answer


def rules_in(schema: Manifest) -> Iterator[str]:
    for item in schema.get("x-kubernetes-validations", []):
        yield item["message"]
    for part in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(part, dict):
            yield from rules_in(part)


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_every_rule_has_an_example_here(kind: crd.Kind) -> None:
    schema = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    shown = [case[-1] for case in (*CREATED, *UPDATED) if case[0] == kind.kind]
    for message in rules_in(schema):
        assert any(isinstance(part, str) and message.startswith(part) for part in shown), message

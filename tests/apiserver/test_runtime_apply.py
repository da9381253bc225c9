"""Applying children on a real API server: no needless write, drift repaired and said, other owners respected."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmip_operator.kube.apply import Applied, Applier, Outcome
from kmip_operator.kube.cache import Caches
from kmip_operator.kube.client import Client
from kmip_operator.kube.errors import ConflictError, NotLeadingError
from kmip_operator.kube.events import EventRecorder
from kmip_operator.kube.ownership import differences
from kmip_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, EVENTS, SECRETS, Resource
from kmip_operator.kube.transport import Transport, load_configuration

pytestmark = pytest.mark.apiserver

LABELS = {"app.kubernetes.io/managed-by": "kmip-operator"}


class Bench:
    """An applier whose caches are brought up to date by hand, as a watch would."""

    def __init__(self, transport: Transport, kubectl: Any) -> None:
        self.written: Counter[tuple[str, str]] = Counter()
        self.client = Client(transport, count=lambda verb, plural: self.written.update([(verb, plural)]))
        self.kubectl = kubectl
        self.caches = Caches(nodes=False)
        self.applier = Applier(self.client, self.caches)

    async def apply(self, manifest: dict[str, Any]) -> Applied:
        return await self.applier.apply(manifest, "owner-uid")

    async def see(self, resource: Resource, name: str) -> dict[str, Any] | None:
        live = await self.client.get(resource, "default", name)
        if live is None:
            self.caches.stores[resource].remove("default", name)
        else:
            self.caches.learn(resource, live)
        return live

    def writes(self) -> int:
        return self.written.total()


@pytest.fixture
async def bench(apiserver: Any) -> AsyncIterator[Bench]:
    transport = Transport(await load_configuration(Path(apiserver.kubeconfig)))
    yield Bench(transport, apiserver.kubectl)
    await transport.close()


@pytest.fixture
def name() -> str:
    return f"child-{uuid.uuid4().hex[:8]}"


def config_map(name: str, data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    labels = {**LABELS, **metadata.pop("labels", {})}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "labels": labels, **metadata},
        "data": data,
    }


def deployment(name: str, replicas: int) -> dict[str, Any]:
    pod = {
        "containers": [
            {
                "name": "kmipd",
                "image": "example/kmipd:1",
                "ports": [{"name": "kmip", "containerPort": 5696}, {"name": "admin", "containerPort": 8080}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": "run", "mountPath": "/run/kmip"}],
            }
        ],
        "volumes": [{"name": "run", "emptyDir": {}}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": name}},
            }
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": LABELS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


async def test_a_second_apply_writes_nothing_also_after_a_restart(bench: Bench, name: str) -> None:
    assert (await bench.apply(deployment(name, 2))).outcome is Outcome.CREATED
    before = bench.writes()
    assert (await bench.apply(deployment(name, 2))).outcome is Outcome.UNCHANGED
    await bench.see(DEPLOYMENTS, name)
    restarted = Applier(bench.client, bench.caches)
    assert (await restarted.apply(deployment(name, 2), "owner-uid")).outcome is Outcome.UNCHANGED
    assert bench.writes() == before


async def test_a_wanted_change_is_a_change_and_a_field_no_longer_wanted_goes(bench: Bench, name: str) -> None:
    await bench.apply(config_map(name, {"a": "1", "b": "2"}, annotations={"x": "y"}))
    changed = await bench.apply(config_map(name, {"a": "1"}))
    assert changed.outcome is Outcome.CHANGED
    assert set(changed.fields) == {"data.b", "metadata.annotations"} or set(changed.fields) == {
        "data.b",
        "metadata.annotations.x",
    }
    live = await bench.see(CONFIG_MAPS, name)
    assert live is not None
    assert live["data"] == {"a": "1"}
    assert "annotations" not in live["metadata"]


async def test_an_edit_by_hand_is_put_back_and_named(bench: Bench, name: str) -> None:
    await bench.apply(deployment(name, 2))
    bench.kubectl("patch", "deployment", name, "-n", "default", "--type=merge", '--patch={"spec":{"replicas":7}}')
    await bench.see(DEPLOYMENTS, name)
    corrected = await bench.apply(deployment(name, 2))
    assert corrected.outcome is Outcome.CORRECTED
    assert corrected.fields == ("spec.replicas",)
    live = await bench.see(DEPLOYMENTS, name)
    assert live is not None
    assert live["spec"]["replicas"] == 2
    before = bench.writes()
    assert (await bench.apply(deployment(name, 2))).outcome is Outcome.UNCHANGED
    assert bench.writes() == before


async def test_additions_by_others_are_left_alone(bench: Bench, name: str) -> None:
    await bench.apply(config_map(name, {"a": "1"}))
    bench.kubectl("label", "configmap", name, "-n", "default", "team=storage")
    await bench.see(CONFIG_MAPS, name)
    before = bench.writes()
    assert (await bench.apply(config_map(name, {"a": "1"}))).outcome is Outcome.UNCHANGED
    assert bench.writes() == before


async def test_a_deleted_child_comes_back(bench: Bench, name: str) -> None:
    await bench.apply(config_map(name, {"a": "1"}))
    bench.kubectl("delete", "configmap", name, "-n", "default")
    await bench.see(CONFIG_MAPS, name)
    corrected = await bench.apply(config_map(name, {"a": "1"}))
    assert corrected.outcome is Outcome.CORRECTED
    assert corrected.fields == ("metadata",)


async def test_another_managers_field_is_never_forced(bench: Bench, name: str) -> None:
    await bench.apply(config_map(name, {"a": "1"}))
    theirs = json.dumps(config_map(name, {"a": "theirs"}))
    bench.kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-", stdin=theirs
    )
    await bench.see(CONFIG_MAPS, name)
    conflict = await bench.apply(config_map(name, {"a": "1"}))
    assert conflict.outcome is Outcome.CONFLICT
    assert conflict.owner == "argocd-controller"
    assert conflict.fields == (".data.a",)
    live = await bench.see(CONFIG_MAPS, name)
    assert live is not None
    assert live["data"] == {"a": "theirs"}


async def test_an_update_by_another_controller_is_a_conflict_not_drift(bench: Bench, name: str) -> None:
    await bench.apply(deployment(name, 2))
    bench.kubectl(
        "patch",
        "deployment",
        name,
        "-n",
        "default",
        "--field-manager=some-autoscaler",
        '--patch={"spec":{"replicas":5}}',
    )
    await bench.see(DEPLOYMENTS, name)
    conflict = await bench.apply(deployment(name, 2))
    assert conflict.outcome is Outcome.CONFLICT
    assert conflict.owner == "some-autoscaler"


async def test_a_foreign_object_of_the_same_name_is_not_taken_over(bench: Bench, name: str) -> None:
    bench.kubectl("create", "configmap", name, "-n", "default", "--from-literal=mine=1")
    await bench.see(CONFIG_MAPS, name)
    assert (await bench.apply(config_map(name, {"a": "1"}))).outcome is Outcome.CONFLICT
    assert (await bench.applier.create(config_map(name, {"a": "1"}))).outcome is Outcome.CONFLICT
    with pytest.raises(ConflictError):
        await bench.applier.delete(CONFIG_MAPS, "default", name)
    live = await bench.see(CONFIG_MAPS, name)
    assert live is not None
    assert live["data"] == {"mine": "1"}


async def test_what_the_operator_created_it_may_change_by_apply(bench: Bench, name: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default", "labels": LABELS},
        "type": "Opaque",
        "data": {"a": base64.b64encode(b"1").decode()},
    }
    assert (await bench.applier.create(secret)).outcome is Outcome.CREATED
    assert (await bench.applier.create(secret)).outcome is Outcome.UNCHANGED
    renewed = {**secret, "data": {"a": base64.b64encode(b"2").decode()}}
    assert (await bench.apply(renewed)).outcome is Outcome.CHANGED
    live = await bench.client.get(SECRETS, "default", name)
    assert live is not None
    assert base64.b64decode(live["data"]["a"]) == b"2"
    before = bench.writes()
    assert (await bench.apply(renewed)).outcome is Outcome.UNCHANGED
    assert bench.writes() == before


async def test_a_delete_hits_only_the_object_that_was_meant(bench: Bench, name: str) -> None:
    await bench.apply(config_map(name, {"a": "1"}))
    old = await bench.see(CONFIG_MAPS, name)
    assert old is not None
    bench.kubectl("delete", "configmap", name, "-n", "default")
    await bench.client.create(CONFIG_MAPS, config_map(name, {"a": "new"}))
    with pytest.raises(ConflictError):
        await bench.client.delete(CONFIG_MAPS, "default", name, uid=old["metadata"]["uid"])
    await bench.see(CONFIG_MAPS, name)
    assert await bench.applier.delete(CONFIG_MAPS, "default", name)
    assert not await bench.applier.delete(CONFIG_MAPS, "default", name)


async def test_an_event_is_posted_once_and_counted_after_a_restart(bench: Bench, name: str) -> None:
    await bench.apply(config_map(name, {"a": "1"}))
    regarding = await bench.see(CONFIG_MAPS, name)
    assert regarding is not None
    for _ in range(3):
        recorder = EventRecorder(bench.client, "test", time.monotonic)
        for _ in range(5):
            await recorder.post(regarding, kind="Warning", reason="Stalled", note="Something is missing.")
    found = json.loads(
        bench.kubectl(
            "get", "events.events.k8s.io", "-n", "default", "-o", "json", f"--field-selector=regarding.name={name}"
        )
    )["items"]
    assert len(found) == 1
    assert found[0]["series"]["count"] >= 2
    assert bench.written[("post", EVENTS.plural)] == 3


async def test_no_write_without_leadership(apiserver: Any, name: str) -> None:
    def refuse() -> None:
        raise NotLeadingError("not leading")

    transport = Transport(await load_configuration(Path(apiserver.kubeconfig)))
    client = Client(transport, guard=refuse)
    try:
        with pytest.raises(NotLeadingError):
            await client.create(CONFIG_MAPS, config_map(name, {}))
        assert await client.get(CONFIG_MAPS, "default", name) is None
    finally:
        await transport.close()


WORDS = st.text("abc", min_size=1, max_size=2)
CONTENTS = st.tuples(
    st.dictionaries(WORDS, WORDS, max_size=4),
    st.dictionaries(WORDS, WORDS, max_size=3),
    st.sets(st.sampled_from(["kmip.dev/a", "kmip.dev/b"]), max_size=2),
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(first=CONTENTS, second=CONTENTS)
def test_differences_says_exactly_when_an_apply_would_change_something(apiserver: Any, first: Any, second: Any) -> None:
    """The API server is the oracle: an apply that changes nothing leaves the resource version as it is."""
    import asyncio

    name = f"oracle-{uuid.uuid4().hex[:8]}"

    def manifest(contents: Any) -> dict[str, Any]:
        data, annotations, finalizers = contents
        metadata: dict[str, Any] = {"annotations": annotations} if annotations else {}
        if finalizers:
            metadata["finalizers"] = sorted(finalizers)
        return config_map(name, data, **metadata)

    async def scenario() -> None:
        transport = Transport(await load_configuration(Path(apiserver.kubeconfig)))
        client = Client(transport)
        try:
            live = await client.apply(CONFIG_MAPS, manifest(first))
            assert differences(manifest(first), live) == ()
            predicted = differences(manifest(second), live)
            after = await client.apply(CONFIG_MAPS, manifest(second))
            changed = after["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]
            assert bool(predicted) == changed
            assert differences(manifest(second), after) == ()
        finally:
            await transport.close()

    asyncio.run(scenario())

"""Carrying out plans against an API server that refuses some of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from support.operator_samples import NOW

from kmip_operator.carryout import CarryOut, Done, Obstacle
from kmip_operator.kube.apply import Applier
from kmip_operator.kube.cache import Caches
from kmip_operator.kube.client import Client
from kmip_operator.kube.errors import ApiError
from kmip_operator.kube.events import EventRecorder
from kmip_operator.kube.resources import KMIP_INSTANCES, PODS, SERVICES
from kmip_operator.kube.transport import Transport
from kmip_operator.plan import Event, Manifest, Plan, PodPatch, Ref
from kmip_operator.reasons import Reason

OURS = {"app.kubernetes.io/managed-by": "kmip-operator"}
TAKEN = "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
PLACE = "/api/v1/namespaces/keys"


class Api:
    """Answers every write with the object written, unless its path is to be refused."""

    def __init__(self, refused: Mapping[str, tuple[int, str]]) -> None:
        self.refused = refused
        self.written: list[str] = []
        self.bodies: dict[str, Any] = {}

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        place = request.path.removeprefix(PLACE + "/")
        if request.method == "GET":
            return web.json_response({"kind": "Status", "reason": "NotFound"}, status=404)
        if request.method == "POST" and not request.path.endswith("events"):
            place += f"/{body['metadata']['name']}"
        if place in self.refused:
            code, message = self.refused[place]
            return web.json_response({"kind": "Status", "reason": "Refused", "message": message}, status=code)
        self.written.append(f"{request.method} {place}")
        self.bodies[place] = body
        metadata = {"name": place.rsplit("/", 1)[-1], "namespace": "keys", "uid": "uid", "resourceVersion": "9"}
        return web.json_response({"metadata": metadata})


@asynccontextmanager
async def serving(api: Api) -> AsyncIterator[tuple[CarryOut, Caches]]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    transport = Transport(configuration)
    client, caches = Client(transport), Caches(nodes=False)
    try:
        yield CarryOut(client, caches, Applier(client, caches), EventRecorder(client, "test", lambda: 0.0)), caches
    finally:
        await transport.close()
        await runner.cleanup()


def child(kind: str, name: str, api_version: str = "v1") -> Manifest:
    metadata = {"name": name, "namespace": "keys", "labels": dict(OURS)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def live(manifest: Manifest, version: str = "1") -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{version}", "resourceVersion": version}}


INSTANCE: Manifest = {
    "apiVersion": KMIP_INSTANCES.api_version,
    "kind": "KmipInstance",
    "metadata": {"name": "vc", "namespace": "keys", "uid": "uid-vc", "generation": 3, "resourceVersion": "5"},
    "spec": {},
    "status": {"caCertificate": "before"},
}
STATUS = "/apis/kmip.dev/v1alpha1/namespaces/keys/kmipinstances/vc/status"
EVENTS = "/apis/events.k8s.io/v1/namespaces/keys/events"


def plan(**parts: Any) -> Plan:
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "x"}
    defaults: dict[str, Any] = {
        "create": (),
        "apply": (child("Service", "vc"), child("ConfigMap", "vc")),
        "replace": (),
        "delete": (Ref("v1", "Service", "keys", "old"),),
        "pod_patches": (PodPatch("vc-0", {}, {"kmip.dev/allowlist-revision": "7"}),),
        "status": {"caCertificate": "after", "conditions": [ready]},
        "events": (Event("Normal", Reason.READY, "It serves."),),
        "requeue_after": None,
        "poll_pods": False,
    }
    return Plan(**{**defaults, **parts})


async def carried(api: Api, wanted: Plan) -> Done:
    async with serving(api) as (carry_out, caches):
        caches.learn(PODS, live(child("Pod", "vc-0")))
        caches.learn(SERVICES, live(child("Service", "old")))
        return await carry_out(KMIP_INSTANCES, INSTANCE, wanted, NOW)


def stalled(api: Api) -> Manifest:
    status = api.bodies[STATUS][1]["value"]
    return next(item for item in status["conditions"] if item["type"] == "Stalled")


@pytest.mark.parametrize("code", [400, 403, 413, 422])
async def test_a_refused_child_holds_nothing_else_back(code: int) -> None:
    api = Api({"services/vc": (code, TAKEN)})
    done = await carried(api, plan())
    assert api.written == [
        f"POST {EVENTS}",
        "PATCH configmaps/vc",
        "DELETE services/old",
        "PATCH pods/vc-0",
        f"PATCH {STATUS}",
        f"POST {EVENTS}",
    ]
    assert done.obstacles == [Obstacle("Service", "vc", Reason.INVALID_SPEC, stalled(api)["message"])]
    assert stalled(api)["reason"] == "InvalidSpec"
    assert stalled(api)["observedGeneration"] == 3
    assert "Service/vc" in stalled(api)["message"]
    assert TAKEN in stalled(api)["message"]
    assert api.bodies[STATUS][1]["value"]["caCertificate"] == "after"


async def test_running_pods_stay_while_their_successors_are_refused() -> None:
    api = Api({"/apis/apps/v1/namespaces/keys/deployments/vc": (403, "exceeded quota")})
    await carried(api, plan(apply=(child("Deployment", "vc", "apps/v1"), child("ConfigMap", "vc"))))
    assert "DELETE services/old" not in api.written
    assert "PATCH pods/vc-0" in api.written


async def test_what_is_said_of_a_secret_is_not_repeated() -> None:
    api = Api({"secrets/vc-allowlist": (422, "data: Invalid value: hunter2")})
    done = await carried(api, plan(apply=(child("Secret", "vc-allowlist"),)))
    assert "Secret/vc-allowlist" in stalled(api)["message"]
    assert "hunter2" not in json.dumps(api.bodies) + json.dumps(done.log_fields())


async def test_a_refused_secret_is_not_made_empty_and_not_told_of() -> None:
    authority = child("Secret", "vc-ca")
    api = Api({"secrets/vc-ca": (403, "exceeded quota")})
    control = child("Secret", "vc-control")
    await carried(api, plan(create=(authority, control), apply=(authority, control, child("ConfigMap", "vc"))))
    assert "PATCH secrets/vc-control" not in api.written
    assert "PATCH configmaps/vc" in api.written
    assert "PATCH pods/vc-0" in api.written
    assert api.bodies[STATUS][1]["value"]["caCertificate"] == "before"
    assert stalled(api)["message"].startswith("Secret/vc-ca")
    assert json.dumps(api.bodies[EVENTS]).count("It serves.") == 0


async def test_a_refused_patch_of_a_pod_leaves_the_others() -> None:
    api = Api({"pods/vc-0": (422, "no")})
    patches = (PodPatch("vc-0", {}, {"a": "1"}), PodPatch("vc-1", {}, {"a": "1"}))
    async with serving(api) as (carry_out, caches):
        for patch in patches:
            caches.learn(PODS, live(child("Pod", patch.name)))
        done = await carry_out(KMIP_INSTANCES, INSTANCE, plan(apply=(), delete=(), pod_patches=patches), NOW)
    assert done.pods == ["vc-1"]


async def test_trouble_that_passes_ends_the_round() -> None:
    api = Api({"services/vc": (401, "who are you")})
    with pytest.raises(ApiError):
        await carried(api, plan())
    assert api.written == []


def owned(manifest: Manifest, owner: str, uid: str, kind: str = "KmipInstance") -> Manifest:
    reference = {"apiVersion": "kmip.dev/v1alpha1", "kind": kind, "name": owner, "uid": uid, "controller": True}
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def instance(name: str, uid: str) -> Manifest:
    metadata = {"name": name, "namespace": "keys", "uid": uid, "resourceVersion": "1"}
    return {"apiVersion": KMIP_INSTANCES.api_version, "kind": "KmipInstance", "metadata": metadata, "spec": {}}


async def taken_over(present: Manifest, *others: Manifest) -> tuple[Api, Done]:
    """What comes of a plan that wants the Service ``present`` for the instance vc."""
    api = Api({})
    async with serving(api) as (carry_out, caches):
        caches.learn(SERVICES, present)
        for other in others:
            caches.learn(KMIP_INSTANCES, other)
        wanted = plan(apply=(owned(child("Service", "a-b"), "vc", "uid-vc"),), delete=(), pod_patches=())
        return api, await carry_out(KMIP_INSTANCES, INSTANCE, wanted, NOW)


async def test_an_object_of_another_instance_is_left_to_it() -> None:
    present = live(owned(child("Service", "a-b"), "a-b", "uid-a-b"))
    api, done = await taken_over(present, instance("a-b", "uid-a-b"))
    assert "PATCH services/a-b" not in api.written
    assert [(item.name, item.reason) for item in done.obstacles] == [("a-b", Reason.FIELD_CONFLICT)]
    assert "belongs to KmipInstance a-b" in stalled(api)["message"]


@pytest.mark.parametrize(
    ("present", "others"),
    [
        pytest.param(owned(child("Service", "a-b"), "vc", "uid-before"), [], id="own-owner-made-again"),
        pytest.param(owned(child("Service", "a-b"), "vc", "uid-before"), [("vc", "uid-vc")], id="own-owner-known"),
        pytest.param(owned(child("Service", "a-b"), "a-b", "uid-a-b"), [], id="other-owner-gone"),
        pytest.param(
            owned(child("Service", "a-b"), "a-b", "uid-a-b"), [("a-b", "uid-new")], id="other-owner-made-again"
        ),
        pytest.param(child("Service", "a-b"), [("a-b", "uid-a-b")], id="no-owner"),
    ],
)
async def test_an_object_that_no_other_living_instance_owns_is_taken(
    present: Manifest, others: list[tuple[str, str]]
) -> None:
    api, done = await taken_over(live(present), *(instance(*other) for other in others))
    assert "PATCH services/a-b" in api.written
    assert not done.obstacles


async def test_an_object_that_is_going_is_not_waited_for() -> None:
    present = live(owned(child("Service", "a-b"), "a-b", "uid-a-b"))
    present["metadata"]["deletionTimestamp"] = "2026-11-01T10:00:00Z"
    api, _ = await taken_over(present, instance("a-b", "uid-a-b"))
    assert "PATCH services/a-b" in api.written

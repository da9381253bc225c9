"""Pods and nodes fail: no acknowledged key is lost, and a client that connects again is served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.e2e_clients import REFUSALS
from support.e2e_cluster import Cluster
from support.e2e_processes import kill_pod_process

from demo.certificates import ClientIdentity, vcenter_identity
from demo.clients import Endpoint
from demo.steps import wait_for
from demo.vcenter import UnexpectedAnswerError, create, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CREATES = 20
TRIES = 20
"""Connections that a client opens before it gives a request up; it waits 0.25 s between two."""


def restarts(cluster: Cluster, namespace: str, pod: str) -> int:
    found = cluster.get("pod", namespace, pod)["status"]
    return sum(each["restartCount"] for each in (*found["containerStatuses"], *found["initContainerStatuses"]))


@pytest.mark.parametrize("program", ["kmipd", "kmip-custody"])
def test_kill_9_right_after_creates_loses_none(cluster: Cluster, main_job: Any, program: str) -> None:
    endpoint, vcenter = main_job.vsphere, vcenter_identity(main_job.work, "vcenter")
    cluster.until_reachable(endpoint, vcenter)
    before = restarts(cluster, "vsphere", "vc-tokyo-0")
    uid = cluster.get("pod", "vsphere", "vc-tokyo-0")["metadata"]["uid"]
    with endpoint.connect(vcenter) as connection:
        keys = [create(connection) for _ in range(CREATES)]
        kill_pod_process(uid, program)
    wait_for(
        "the container's restart",
        lambda: restarts(cluster, "vsphere", "vc-tokyo-0") > before or None,
        timeout=60,
        every=0.2,
    )
    cluster.wait_ready("vsphere", timeout=120)
    client = Persistent(endpoint, vcenter)
    assert len({client.get(key) for key in keys}) == CREATES


def test_the_node_of_the_volume_restarts(cluster: Cluster, main_job: Any) -> None:
    endpoint, vcenter = main_job.vsphere, vcenter_identity(main_job.work, "vcenter")
    cluster.wait_ready("vsphere", timeout=120)
    client = Persistent(endpoint, vcenter)
    keys = {key: client.get(key) for key in [client.create() for _ in range(CREATES)]}
    node = cluster.get("pod", "vsphere", "vc-tokyo-0")["spec"]["nodeName"]
    cluster.native("node", "kill", node)
    assert not endpoint.accepts(vcenter)
    cluster.native("node", "start", node)
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=120s")
    cluster.until_reachable(endpoint, vcenter)
    assert {key: client.get(key) for key in keys} == keys
    cluster.wait_ready("vsphere", timeout=180)
    cluster.wait_ready("regions", timeout=180)


@dataclass
class Persistent:
    """A client that opens a new connection when one fails, as storage does; it counts how often."""

    endpoint: Endpoint
    identity: ClientIdentity
    again: int = 0

    def create(self) -> str:
        return str(self._tried(create))

    def get(self, key: str) -> bytes:
        return bytes(self._tried(lambda connection: get(connection, key)))

    def _tried(self, request: Any) -> Any:
        pause = threading.Event()
        for _ in range(TRIES):
            try:
                with self.endpoint.connect(self.identity) as connection:
                    return request(connection)
            except UnexpectedAnswerError:
                raise
            except REFUSALS:
                self.again += 1
                pause.wait(0.25)
        raise AssertionError(f"not served after {TRIES} connections")


@dataclass
class Load:
    """A client that works until it is told to stop; ``failure`` is the first request that was given up."""

    client: Persistent
    requests: int = 0
    failure: BaseException | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                key = self.client.create()
                assert len(self.client.get(key)) == 32
                self.requests += 2
        except BaseException as error:
            self.failure = error


@contextmanager
def under_load(endpoint: Endpoint, identity: ClientIdentity) -> Iterator[Load]:
    load = Load(Persistent(endpoint, identity))
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        thread.join()
    assert load.failure is None, load.failure
    assert load.requests > 0


def test_rolling_and_scaling_fail_no_request_of_a_client_that_reconnects(cluster: Cluster, main_job: Any) -> None:
    namespace, name = "regions", "everywhere"
    endpoint, vcenter = main_job.regions[0], vcenter_identity(main_job.work, "vcenter")
    cluster.wait_ready(namespace, timeout=180)
    before = {pod["metadata"]["name"] for pod in cluster.pods(namespace, name)}

    def patch(body: str) -> None:
        cluster.kubectl("-n", namespace, "patch", "kmipinstance", name, "--type=json", "-p", body)

    def as_many_as(wanted: int) -> bool | None:
        return True if len(cluster.items("pods", namespace, f"kmip.dev/instance={name}")) == wanted else None

    with under_load(endpoint, vcenter) as load:
        patch('[{"op": "add", "path": "/spec/pod", "value": {"annotations": {"example.com/rolled": "yes"}}}]')
        wait_for(
            "all pods replaced",
            lambda: None if before & {pod["metadata"]["name"] for pod in cluster.pods(namespace, name)} else True,
            timeout=180,
            every=0.5,
        )
        cluster.wait_ready(namespace, timeout=180)
    print(f"rolling: {load.requests} requests, {load.client.again} connections opened again")
    with under_load(endpoint, vcenter) as load:
        patch('[{"op": "replace", "path": "/spec/regions/0/replicas", "value": 1}]')
        wait_for("one pod less", lambda: as_many_as(2), timeout=120, every=0.5)
        patch('[{"op": "replace", "path": "/spec/regions/0/replicas", "value": 2}]')
        wait_for("as many pods as before", lambda: as_many_as(3), timeout=120, every=0.5)
        cluster.wait_ready(namespace, timeout=180)
    print(f"scaling: {load.requests} requests, {load.client.again} connections opened again")
    patch('[{"op": "remove", "path": "/spec/pod"}]')
    cluster.wait_ready(namespace, timeout=180)

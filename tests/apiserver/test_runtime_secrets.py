"""The metadata watch of Secrets and the census, against a real API server."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kmip_operator.kube.cache import Caches
from kmip_operator.kube.census import Census
from kmip_operator.kube.client import Client
from kmip_operator.kube.metadata_watch import SecretIndex, SecretMeta, SecretWatch
from kmip_operator.kube.resources import CONFIG_MAPS, SECRETS, Resource
from kmip_operator.kube.transport import Transport, load_configuration

pytestmark = pytest.mark.apiserver

LABELS = {"app.kubernetes.io/managed-by": "kmip-operator"}


@pytest.fixture
async def client(apiserver: Any) -> AsyncIterator[Client]:
    transport = Transport(await load_configuration(Path(apiserver.kubeconfig)))
    yield Client(transport)
    await transport.close()


@pytest.fixture
def namespace(apiserver: Any) -> str:
    name = f"secrets-{uuid.uuid4().hex[:8]}"
    apiserver.kubectl("create", "namespace", name)
    return name


def secret(namespace: str, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"pin": "c2VjcmV0"}}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


async def test_only_secrets_that_matter_are_kept_and_told_of(client: Client, namespace: str) -> None:
    wanted = {(namespace, "mine")}
    index = SecretIndex(lambda space, name: (space, name) in wanted)
    told: list[tuple[str, str]] = []

    def changed(space: str, meta: SecretMeta) -> None:
        told.append((space, meta.name))

    await client.create(SECRETS, secret(namespace, "foreign"))
    await client.create(SECRETS, secret(namespace, "mine"))
    await client.create(SECRETS, secret(namespace, "made", LABELS))
    watch = SecretWatch(client, index, namespace, changed)
    running = asyncio.create_task(watch.run())
    await watch.listed()
    assert {name for _, name in index.names(namespace)} == {"mine", "made"}
    told.clear()
    await client.merge(SECRETS, namespace, "foreign", {"metadata": {"annotations": {"a": "b"}}})
    await client.merge(SECRETS, namespace, "mine", {"data": {"pin": "bmV3"}})
    await until(lambda: bool(told))
    assert told == [(namespace, "mine")]
    live = await client.get(SECRETS, namespace, "mine")
    meta = index.get(namespace, "mine")
    assert live is not None
    assert meta is not None
    assert str(meta.version) == live["metadata"]["resourceVersion"]
    assert "data" not in json.dumps([meta.labels, meta.annotations])
    await client.delete(SECRETS, namespace, "mine", uid=live["metadata"]["uid"])
    await until(lambda: index.get(namespace, "mine") is None)
    assert told[-1] == (namespace, "mine")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_many_foreign_secrets_take_no_memory(client: Client, namespace: str) -> None:
    """A sixth of them in a test; the growth per Secret is what counts."""
    amount = int(os.environ.get("KMIP_TEST_FOREIGN_SECRETS", "2000"))
    # 4 kB each, as Helm releases are.
    body = {"pin": "A" * 4096}
    gate = asyncio.Semaphore(32)

    async def make(number: int) -> None:
        async with gate:
            await client.create(SECRETS, {**secret(namespace, f"foreign-{number}"), "data": body})

    await asyncio.gather(*(make(number) for number in range(amount)))
    index = SecretIndex(lambda *_: False)
    watch = SecretWatch(client, index, namespace, lambda *_: None)
    before = resident()
    running = asyncio.create_task(watch.run())
    await watch.listed()
    grown = resident() - before
    print(f"{amount} foreign Secrets: {grown / 1e6:.1f} MB more resident memory, {len(index)} kept")
    assert len(index) == 0
    # One page of 500 metadata objects is in memory at a time, however many there are.
    assert grown < 25e6
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


async def test_the_census_finds_what_the_watches_missed(client: Client, namespace: str) -> None:
    def config_map(name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": namespace, "labels": LABELS}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}

    caches = Caches(nodes=False)
    caches.stores = {CONFIG_MAPS: caches.stores[CONFIG_MAPS]}
    gone: list[tuple[Resource, str]] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    census = Census(
        client,
        caches,
        (namespace,),
        lambda resource, manifest: gone.append((resource, manifest["metadata"]["name"])),
        sleep=sleep,
    )
    for name in ("stays", "goes"):
        caches.learn(CONFIG_MAPS, await client.create(CONFIG_MAPS, config_map(name)))
    assert await census.take() == ()
    # A deletion that no event told of.
    goes = caches.current(CONFIG_MAPS, namespace, "goes")
    assert goes is not None
    await client.delete(CONFIG_MAPS, namespace, "goes", uid=goes["metadata"]["uid"])
    # A creation that no event told of, as when a watch is dead.
    await client.create(CONFIG_MAPS, config_map("unheard"))
    missing = await census.take(grace=1.0)
    assert gone == [(CONFIG_MAPS, "goes")]
    assert caches.current(CONFIG_MAPS, namespace, "goes") is None
    assert [item.name.name for item in missing] == ["unheard"]
    assert sum(slept) >= 1.0

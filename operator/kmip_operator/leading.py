"""What the leader does: fill the caches, work the queue, ask the pods, compare with the API from time to time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from kubernetes.aio.client.configuration import Configuration

from kmip_operator.app import kopf_registry, run_kopf
from kmip_operator.carryout import CarryOut
from kmip_operator.health import Health
from kmip_operator.kube.answers import Answers
from kmip_operator.kube.apply import Applier
from kmip_operator.kube.cache import Caches, Key
from kmip_operator.kube.census import Census
from kmip_operator.kube.client import Client, Manifest
from kmip_operator.kube.errors import ApiError, NotFoundError, UnreachableError
from kmip_operator.kube.events import EventRecorder
from kmip_operator.kube.metadata_watch import SecretMeta, SecretWatch
from kmip_operator.kube.pods import StatusClient
from kmip_operator.kube.queue import WorkQueue
from kmip_operator.kube.resources import (
    KINDS,
    KMIP_INSTANCES,
    PODS,
    Resource,
)
from kmip_operator.kube.secret_texts import SecretTexts
from kmip_operator.metrics import Metrics
from kmip_operator.observing import Sources
from kmip_operator.polling import Poller
from kmip_operator.reconciler import Reconciler
from kmip_operator.rounds import rounds
from kmip_operator.routing import Router
from kmip_operator.settings import Settings

_log = logging.getLogger(__name__)

FIRST_CENSUS_GRACE = 60.0
"""Seconds for kopf to deliver everything at the start; 10,000 objects take a few."""

CRD_PAUSE = 2.0


class Leader:
    """All the parts of a leading process. Use :meth:`run`."""

    def __init__(
        self, client: Client, configuration: Configuration, settings: Settings, metrics: Metrics, health: Health
    ) -> None:
        self._client = client
        self._configuration = configuration
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self.caches = Caches(nodes=not settings.namespaces)
        self._router = Router(self.caches)
        self._texts = SecretTexts(client, self.caches)
        self._status = StatusClient()
        answers = Answers()
        self._poller = Poller(client, self.caches, self._texts, self._status, answers, self._answered, time.monotonic)
        self._applier = Applier(client, self.caches)
        recorder = EventRecorder(client, settings.identity, time.monotonic)
        carry_out = CarryOut(client, self.caches, self._applier, recorder)
        sources = Sources(client, self.caches, self._texts, answers, settings.images)
        reconciler = Reconciler(rounds(sources), self.caches, carry_out, self._poller, metrics)
        self.queue: WorkQueue[Key] = WorkQueue(reconciler, workers=settings.workers, observer=metrics)
        health.oldest = self.queue.oldest

    async def run(self, stop: asyncio.Event, kopf_started: Callable[[], None]) -> None:
        """Lead until ``stop`` is set; ``kopf_started`` is called once kopf has taken the signal handlers.

        Raises:
            Exception: what killed a watch, the census or kopf.
        """
        await self._wait_for_crds()
        watches = [
            SecretWatch(self._client, self.caches.secrets, scope, self._secret_changed)
            for scope in self._settings.scopes
        ]
        ready, kopf_stop = asyncio.Event(), asyncio.Event()
        registry = kopf_registry(self._configuration, tuple(self.caches.stores), self._receive)
        background = [
            *(asyncio.create_task(watch.run(), name="secret watch") for watch in watches),
            asyncio.create_task(self._work(watches), name="work"),
        ]
        # kopf ends every task that was made after it at its own end, so it comes last.
        kopf = asyncio.create_task(
            run_kopf(registry, self._settings.namespaces, started=ready, stop=kopf_stop), name="kopf"
        )
        starting = asyncio.create_task(ready.wait(), name="kopf start")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait((kopf, starting), return_when=asyncio.FIRST_COMPLETED)
            kopf_started()
            done, _ = await asyncio.wait((*background, kopf, stopping), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # No write after this: the Lease can be given back.
            await _cancel(background)
            kopf_stop.set()
            starting.cancel()
            stopping.cancel()
            await asyncio.wait((kopf,), timeout=2.0)
            await self._status.close()

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        self._metrics.queue_depth.set(self.queue.depth)
        self._metrics.queue_oldest.set(self.queue.oldest())
        for resource, store in self.caches.stores.items():
            self._metrics.cached.labels(resource.plural).set(len(store))
        self._metrics.cached.labels("secrets").set(len(self.caches.secrets))

    async def _work(self, watches: list[SecretWatch]) -> None:
        """Fill the caches completely, then work: a decision on half a list would withdraw certificates."""
        census = Census(self._client, self.caches, self._settings.scopes, self._ended)
        for watch in watches:
            await watch.listed()
        started = time.monotonic()
        while missing := await self._take(census, FIRST_CENSUS_GRACE):
            _log.warning("caches incomplete", extra={"missing": len(missing), "first": str(missing[0])})
        self._health.synced = True
        _log.info("caches complete", extra={"seconds": round(time.monotonic() - started, 3)})
        for key in self._router.everything():
            self.queue.add(key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run(), name="queue")
            group.create_task(self._poller.queue.run(), name="pod queue")
            group.create_task(self._census_loop(census), name="census")

    async def _census_loop(self, census: Census) -> None:
        while True:
            await asyncio.sleep(self._settings.census_interval if not self._health.behind else 30.0)
            try:
                missing = await census.take()
            except (ApiError, UnreachableError) as error:
                # Says nothing about the watches; when the API is back, so are they.
                _log.warning("census not taken", extra={"error": str(error)})
                continue
            if missing:
                self._health.behind += 1
                _log.error("watch events do not arrive", extra={"objects": len(missing), "first": str(missing[0])})
            else:
                self._health.behind = 0
                self._metrics.census.set_to_current_time()

    async def _take(self, census: Census, grace: float) -> tuple[object, ...]:
        try:
            missing = await census.take(grace)
        except (ApiError, UnreachableError) as error:
            _log.warning("census not taken", extra={"error": str(error)})
            await asyncio.sleep(1.0)
            return (error,)
        self._metrics.census.set_to_current_time()
        return missing

    async def _wait_for_crds(self) -> None:
        """Kopf finds its resources once, at its start."""
        said = False
        while True:
            try:
                for resource in KINDS:
                    async for _ in self._client.pages(resource, self._settings.scopes[0]):
                        break
            except NotFoundError as error:
                if not said:
                    _log.warning("the CustomResourceDefinitions are not installed", extra={"error": str(error)})
                    said = True
            except (ApiError, UnreachableError) as error:
                _log.warning("resources not readable", extra={"error": str(error)})
            else:
                return
            await asyncio.sleep(CRD_PAUSE)

    def _receive(self, resource: Resource, event: str | None, manifest: Manifest) -> None:
        """A watch event."""
        store = self.caches.stores[resource]
        metadata = manifest["metadata"]
        if event == "DELETED":
            store.remove(metadata.get("namespace", ""), metadata["name"], uid=metadata["uid"])
            self._ended(resource, manifest)
            return
        store.put(manifest)
        if self._health.synced:
            self._enqueue(resource, manifest, gone=False)

    def _ended(self, resource: Resource, manifest: Manifest) -> None:
        if resource in KINDS:
            self._applier.forget(manifest["metadata"]["uid"])
        if self._health.synced:
            self._enqueue(resource, manifest, gone=True)

    def _enqueue(self, resource: Resource, manifest: Manifest, *, gone: bool) -> None:
        keys = self._router.affected(resource, manifest, gone=gone)
        for key in keys:
            self.queue.add(key)
            if resource == PODS and key.kind == KMIP_INSTANCES.kind:
                self._poller.look(key)

    def _secret_changed(self, namespace: str, meta: SecretMeta) -> None:
        self._texts.forget(namespace, meta.name)
        if not self._health.synced:
            return
        for key in {*self.caches.referring(namespace, meta.name), *self._router.by_labels(namespace, meta.labels)}:
            self.queue.add(key)

    def _answered(self, instance: Key) -> None:
        """A pod said something new."""
        self.queue.add(instance)
        for key in self._router.certificates_of(instance.namespace, instance.name):
            self.queue.add(key)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

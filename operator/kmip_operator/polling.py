"""When serving pods are asked for their status: at once and in short steps while something must be confirmed, else rarely."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from kmip_operator.kmipinstance import children
from kmip_operator.kube.answers import Answers
from kmip_operator.kube.cache import BY_INSTANCE, Caches, Key
from kmip_operator.kube.client import Client, Manifest
from kmip_operator.kube.errors import ApiError, UnreachableError
from kmip_operator.kube.pods import ControlCredentials, PodAnswer, StatusClient
from kmip_operator.kube.queue import RetryError, WorkQueue
from kmip_operator.kube.resources import KMIP_INSTANCES, PODS
from kmip_operator.kube.secret_texts import SecretTexts
from kmip_operator.naming import label_value

FAST = 0.1
STEADY_FAST = 0.25
FAST_FOR = 30.0
"""Seconds of fast steps (the first second faster): a pod that has not confirmed by then is taken out of service, and slow
steps are enough to notice its return."""

SLOW = 5.0
IDLE = 60.0
"""Seconds between looks when nothing is awaited. Serving pods notice a lost root key by themselves; this is for the status."""

WORKERS = 16


class Poller:
    """Asks pods, keeps their answers, and calls ``changed(instance key)`` when an answer has news."""

    def __init__(
        self,
        client: Client,
        caches: Caches,
        texts: SecretTexts,
        status: StatusClient,
        answers: Answers,
        changed: Callable[[Key], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._caches = caches
        self._texts = texts
        self._status = status
        self._answers = answers
        self._changed = changed
        self._monotonic = monotonic
        self._awaited: dict[Key, float] = {}
        self._first: dict[Key, asyncio.Lock] = {}
        self.queue: WorkQueue[Key] = WorkQueue(self._ask, workers=WORKERS)

    async def first_answers(self, key: Key) -> None:
        """After a start: ask this instance's pods once before anything is decided from their silence."""
        if self._answers.heard(key.namespace, key.name):
            return
        async with self._first.setdefault(key, asyncio.Lock()):
            pods = self._pods(key)
            instance = self._caches.current(KMIP_INSTANCES, key.namespace, key.name)
            if pods and instance is not None and not self._answers.heard(key.namespace, key.name):
                answers = await self._ask_pods(key, instance, pods)
                if answers is not None:
                    self._answers.replace(key.namespace, key.name, answers)
        self._first.pop(key, None)

    def expect(self, key: Key, *, awaited: bool) -> None:
        """Ask this instance's pods from now on; ``awaited``: something must be confirmed, so at once and in short steps."""
        if not awaited:
            self._awaited.pop(key, None)
            self.queue.add(key, _jittered(IDLE))
        elif key not in self._awaited:
            self._awaited[key] = self._monotonic()
            self.queue.add(key)

    def look(self, key: Key) -> None:
        """A pod of this instance changed: ask once now."""
        self.queue.add(key)

    async def forget(self, key: Key) -> None:
        """The instance is gone."""
        self._awaited.pop(key, None)
        self.queue.forget(key)
        self._answers.forget(key.namespace, key.name)
        await self._status.forget(key.namespace, key.name)

    async def _ask(self, key: Key) -> float | None:
        instance = self._caches.current(KMIP_INSTANCES, key.namespace, key.name)
        if instance is None:
            await self.forget(key)
            return None
        pods = self._pods(key)
        try:
            answers = await self._ask_pods(key, instance, pods) if pods else {}
        except (ApiError, UnreachableError) as error:
            raise RetryError(str(error)) from error
        if answers is not None and self._answers.replace(key.namespace, key.name, answers):
            self._changed(key)
        return self._pause(key)

    async def _ask_pods(self, key: Key, instance: Manifest, pods: list[Manifest]) -> dict[str, PodAnswer] | None:
        """The answers by pod uid; ``None`` when there are no control credentials yet."""
        secret = children.control_client_name(instance)
        meta = await self._caches.secret(self._client, key.namespace, secret)
        if meta is None:
            return None

        async def load() -> ControlCredentials:
            found = await self._texts.secret_bytes(key.namespace, secret, "ca.crt", "tls.crt", "tls.key")
            if found is None:
                raise RetryError(f"Secret {secret} is incomplete")
            return ControlCredentials(*found)

        addresses = {pod["metadata"]["uid"]: str(pod["status"]["podIP"]) for pod in pods}
        version = f"{meta.uid}/{meta.version}"
        answers = await self._status.ask(key.namespace, key.name, version, load, addresses.values())
        return {uid: answers[address] for uid, address in addresses.items()}

    def _pods(self, key: Key) -> list[Manifest]:
        """The instance's pods that have an address and are not on their way out."""
        found = self._caches.stores[PODS].indexed(BY_INSTANCE, key.namespace, label_value(key.name))
        return [
            pod
            for pod in found
            if (pod.get("status") or {}).get("podIP") and not pod["metadata"].get("deletionTimestamp")
        ]

    def _pause(self, key: Key) -> float:
        since = self._awaited.get(key)
        if since is None:
            return _jittered(IDLE)
        waited = self._monotonic() - since
        if waited > FAST_FOR:
            return SLOW
        return FAST if waited < 1.0 else STEADY_FAST


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, protects nothing

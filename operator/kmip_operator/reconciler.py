"""One round for one object: observe, prepare what must be random, decide, carry out. Level-triggered and crash-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import structlog

from kmip_operator.carryout import OBSTACLE_RETRY, CarryOut, Done
from kmip_operator.kube.apply import Outcome
from kmip_operator.kube.cache import Caches, Key
from kmip_operator.kube.client import Manifest
from kmip_operator.kube.errors import ApiError, ConflictError, NotFoundError, NotLeadingError, UnreachableError
from kmip_operator.kube.queue import RetryError
from kmip_operator.kube.resources import CLIENT_CERTIFICATES, KINDS, KMIP_INSTANCES
from kmip_operator.metrics import Metrics
from kmip_operator.plan import Plan
from kmip_operator.polling import Poller

_log = structlog.stdlib.get_logger(__name__)

Snapshot = TypeVar("Snapshot")

INTERRUPTED = 0.1
"""Seconds until an interrupted plan is made anew: not at once, in case whoever was faster is still at it."""

_RESOURCE = {resource.kind: resource for resource in KINDS}


@dataclass(frozen=True)
class Rounds(Generic[Snapshot]):
    """What one kind does in a round."""

    observe: Callable[[Manifest], Awaitable[Snapshot]]
    prepare: Callable[[Snapshot, datetime], Snapshot]
    decide: Callable[[Snapshot, datetime], Plan]

    async def plan(self, manifest: Manifest, now: Callable[[], datetime]) -> Plan:
        """Observe and decide."""
        snapshot = await self.observe(manifest)
        moment = now()
        return self.decide(self.prepare(snapshot, moment), moment)


class Reconciler:
    """The work queue's handler."""

    def __init__(
        self,
        rounds: dict[str, Rounds[Any]],
        caches: Caches,
        carry_out: CarryOut,
        poller: Poller,
        metrics: Metrics,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rounds = rounds
        self._caches = caches
        self._carry_out = carry_out
        self._poller = poller
        self._metrics = metrics
        self._now = now

    async def __call__(self, key: Key) -> float | None:
        """One round; the seconds until the object is due again.

        Raises:
            RetryError: the API refused or did not answer; said in the log.
        """
        resource = _RESOURCE[key.kind]
        manifest = self._caches.current(resource, key.namespace, key.name)
        if manifest is None:
            if resource == KMIP_INSTANCES:
                await self._poller.forget(key)
            return None
        if manifest["metadata"].get("deletionTimestamp"):
            # Nothing is to be done at deletion: owned children go with their owner, the others stay as they are.
            return None
        try:
            await self._hear_pods(key, manifest)
            plan = await self._rounds[key.kind].plan(manifest, self._now)
            done = await self._carry_out(resource, manifest, plan, self._now())
        except NotFoundError as error:
            # The object, or its namespace, went while it was worked on: its own event says so in a moment.
            self._count(key, "gone")
            _log.debug("object went away", **_identity(key), error=str(error))
            raise RetryError(str(error)) from error
        except ConflictError as error:
            # Somebody wrote between observing and writing: observe again.
            self._count(key, "overtaken")
            _log.info("overtaken", **_identity(key), error=str(error))
            raise RetryError(str(error)) from error
        except (ApiError, UnreachableError, NotLeadingError) as error:
            self._count(key, "refused")
            _log.warning("not carried out", **_identity(key), error=str(error))
            raise RetryError(str(error)) from error
        except Exception:
            self._count(key, "failed")
            raise
        self._report(key, plan, done)
        return self._next(key, manifest, plan, done)

    async def _hear_pods(self, key: Key, manifest: Manifest) -> None:
        instance = key.name if key.kind == KMIP_INSTANCES.kind else None
        if key.kind == CLIENT_CERTIFICATES.kind:
            instance = (manifest["spec"].get("instanceRef") or {}).get("name")
        if instance is not None:
            await self._poller.first_answers(Key(KMIP_INSTANCES.kind, key.namespace, instance))

    def _next(self, key: Key, manifest: Manifest, plan: Plan, done: Done) -> float | None:
        if done.interrupted and not done.obstacles:
            # Somebody else made it first; what they made is known by now.
            return INTERRUPTED
        if key.kind == KMIP_INSTANCES.kind:
            self._poller.expect(key, awaited=plan.poll_pods)
        elif key.kind == CLIENT_CERTIFICATES.kind and plan.poll_pods:
            self._poller.look(Key(KMIP_INSTANCES.kind, key.namespace, manifest["spec"]["instanceRef"]["name"]))
        waits = [wait for wait in (plan.requeue_after, OBSTACLE_RETRY if done.obstacles else None) if wait is not None]
        return min(waits, default=None)

    def _report(self, key: Key, plan: Plan, done: Done) -> None:
        self._count(key, "refused" if done.obstacles else "changed" if done.anything else "unchanged")
        for applied in done.applied:
            if applied.outcome is Outcome.CORRECTED:
                self._metrics.drift.labels(applied.resource.kind).inc()
        if not done.anything:
            if done.obstacles:
                _log.warning("not all carried out", **_identity(key), **done.log_fields())
            return
        conditions = {item["type"]: item for item in plan.status.get("conditions") or ()}
        ready = conditions.get("Ready", {})
        _log.info(
            "reconciled",
            **_identity(key),
            **done.log_fields(),
            ready=ready.get("status"),
            reason=ready.get("reason"),
            events=[str(event.reason) for event in plan.events],
        )

    def _count(self, key: Key, result: str) -> None:
        self._metrics.reconciled.labels(key.kind, result).inc()


def _identity(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}

"""Leadership by a ``coordination.k8s.io/v1`` Lease.

The holder renews; a candidate takes over when it has seen the record unchanged for the Lease's duration *by its own monotonic
clock* (clocks of machines are never compared), or at once when the holder released it. Every change is conditional on the
record's resource version, so of two candidates one wins. A Lease is not a fence: a holder that could not renew in time must
stop by itself, so :meth:`Lease.guard` refuses writes from the moment another could lead, also after a paused process wakes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kmip_operator.kube.client import Client, Manifest
from kmip_operator.kube.errors import AlreadyExistsError, ApiError, ConflictError, NotLeadingError, UnreachableError
from kmip_operator.kube.resources import LEASES

_log = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time or another process holds it: stop at once."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds.

    ``duration``: after which others may take over; ``renew_deadline``: the holder gives up when its last renewal began this
    long ago (well before ``duration``, so that the old leader stops first); ``renew``: between renewals; ``retry``: between
    tries after a failure; ``poll``: between a candidate's looks.
    """

    duration: int = 15
    renew_deadline: float = 10.0
    renew: float = 5.0
    retry: float = 2.0
    poll: float = 1.0


class Lease:
    """One candidate for one Lease. Use :meth:`acquire`, then :meth:`hold` in a task; finally :meth:`release`.

    ``client`` must have no write guard of this Lease: it writes the Lease itself.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        times: LeaseTimes | None = None,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times or LeaseTimes()
        self._monotonic = monotonic
        self._seen: tuple[str, float] | None = None  # the record's version and when it was first seen
        self._held: Manifest | None = None
        self._renewed = 0.0  # when the last successful renewal was begun

    @property
    def leading(self) -> bool:
        """Whether this process may still act: its last renewal began less than the renew deadline ago."""
        return self._held is not None and self._monotonic() - self._renewed < self._times.renew_deadline

    def guard(self) -> None:
        """Let a write pass only while leading.

        Raises:
            NotLeadingError: not leading, or not renewed in time.
        """
        if not self.leading:
            raise NotLeadingError("this process does not lead")

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        while True:
            began = self._monotonic()
            try:
                async with asyncio.timeout(self._times.renew_deadline):
                    if await self._try_acquire(began):
                        return
            except ConflictError:
                _log.debug("another candidate was faster")
            except (ApiError, UnreachableError, TimeoutError) as error:
                _log.warning("lease not readable", extra={"lease": self._name, "error": str(error)})
            # Jitter keeps candidates that started together from asking together.
            await asyncio.sleep(self._times.poll * random.uniform(0.8, 1.2))  # noqa: S311

    async def hold(self) -> None:
        """Renew until cancelled.

        Raises:
            LeadershipLostError: not renewed within the renew deadline, or another holder was seen.
        """
        pause = self._times.renew
        while True:
            await asyncio.sleep(pause)
            left = self._times.renew_deadline - (self._monotonic() - self._renewed)
            if left <= 0 or self._held is None:
                raise LeadershipLostError(f"lease {self._name} was not renewed for {self._times.renew_deadline:g} s")
            began = self._monotonic()
            try:
                async with asyncio.timeout(min(left, self._times.renew)):
                    await self._renew(began)
                pause = self._times.renew
            except ConflictError:
                # Somebody wrote the Lease. If it was a person, the holder is still us.
                await self._reread()
                pause = 0.0
            except (ApiError, UnreachableError, TimeoutError) as error:
                _log.warning("lease not renewed", extra={"lease": self._name, "error": str(error)})
                pause = min(self._times.retry, max(left / 4, 0.1))

    async def release(self) -> None:
        """Give the Lease up, so that another process leads at once. Only after the last write of this process."""
        held, self._held = self._held, None
        if held is None:
            return
        held["spec"].update(holderIdentity="", leaseDurationSeconds=1)
        try:
            await self._client.replace(LEASES, held, deadline=self._times.retry)
        except (ApiError, UnreachableError) as error:
            _log.warning("lease not released", extra={"lease": self._name, "error": str(error)})

    async def _try_acquire(self, began: float) -> bool:
        lease = await self._client.get(LEASES, self._namespace, self._name)
        if lease is None:
            await self._create(began)
            return True
        spec: dict[str, Any] = lease.setdefault("spec", {})
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._monotonic())
        holder = spec.get("holderIdentity") or ""
        duration = float(spec.get("leaseDurationSeconds") or self._times.duration)
        if holder not in {"", self._identity} and self._monotonic() - self._seen[1] < duration:
            return False
        now = _micro_time()
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        spec.update(
            holderIdentity=self._identity,
            leaseDurationSeconds=self._times.duration,
            acquireTime=now,
            renewTime=now,
            leaseTransitions=transitions,
        )
        self._take(await self._client.replace(LEASES, lease), began)
        return True

    async def _create(self, began: float) -> None:
        now = _micro_time()
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._times.duration,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }
        try:
            self._take(await self._client.create(LEASES, lease), began)
        except AlreadyExistsError as error:
            raise ConflictError(error.status, error.reason, error.message) from None

    async def _renew(self, began: float) -> None:
        if self._held is None:
            raise LeadershipLostError(f"lease {self._name} is not held")
        self._held["spec"]["renewTime"] = _micro_time()
        self._take(await self._client.replace(LEASES, self._held), began)

    async def _reread(self) -> None:
        """After a conflict: still the holder (a lost answer to an own renewal, or a foreign edit), or not.

        Raises:
            LeadershipLostError: another holds the Lease, or it is gone.
        """
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
        except (ApiError, UnreachableError):
            return
        holder = (lease or {}).get("spec", {}).get("holderIdentity")
        if lease is None or holder != self._identity:
            self._held = None
            raise LeadershipLostError(f"lease {self._name} is held by {holder or 'nobody'}")
        self._held = lease

    def _take(self, lease: Manifest, began: float) -> None:
        lease["metadata"].pop("managedFields", None)
        self._held = lease
        # Counted from before the request: a candidate can have seen the new record only after that.
        self._renewed = began


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

"""Kubernetes Events (``events.k8s.io/v1``), each said once and counted when it comes again."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kmip_operator.kube.client import FIELD_MANAGER, Client
from kmip_operator.kube.errors import AlreadyExistsError, ApiError, NamespaceEndingError, UnreachableError
from kmip_operator.kube.resources import EVENTS

_log = logging.getLogger(__name__)

REPEAT_SECONDS = 600.0
"""The same Event again within this time is not news; the API server keeps Events for an hour."""

_REMEMBERED = 4096
_NOTE_BYTES = 1024  # the API's limit


class EventRecorder:
    """Posts Events about objects. A failure to post is logged and never stops the work the Event tells of."""

    def __init__(self, client: Client, instance: str, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._instance = instance
        self._monotonic = monotonic
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when, and how often

    async def post(
        self, regarding: Mapping[str, Any], *, kind: str, reason: str, note: str, action: str = "Reconcile"
    ) -> None:
        """Post one Event about the object ``regarding``. ``kind`` is ``Normal`` or ``Warning``."""
        metadata = regarding["metadata"]
        note = _shorten(note)
        name = f"{metadata['name'][:200]}.{_fingerprint(metadata['uid'], kind, reason, note)}"
        now = self._monotonic()
        last, count = self._said.get(name, (-REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            return
        self._said[name] = (now, count + 1)
        self._said.move_to_end(name)
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        event = self._event(regarding, name, kind, reason, note, action)
        try:
            try:
                await self._client.create(EVENTS, event)
            except AlreadyExistsError:
                await self._again(metadata["namespace"], name, count + 1)
        except NamespaceEndingError:
            return
        except (ApiError, UnreachableError) as error:
            _log.warning("event not posted", extra={"reason": reason, "error": str(error)})

    async def _again(self, namespace: str, name: str, count: int) -> None:
        """Count the Event up; a count from before this process started is not known, and a series has at least two."""
        series = {"count": max(count, 2), "lastObservedTime": _micro_time(datetime.now(UTC))}
        await self._client.merge(EVENTS, namespace, name, {"series": series})

    def _event(
        self, regarding: Mapping[str, Any], name: str, kind: str, reason: str, note: str, action: str
    ) -> dict[str, Any]:
        metadata = regarding["metadata"]
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": _micro_time(datetime.now(UTC)),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance[:128],
            "action": action,
            "reason": reason,
            "type": kind,
            "note": note,
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def _fingerprint(*parts: str) -> str:
    """Not a secret's hash: it only makes the Event's name the same for the same Event."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _shorten(note: str) -> str:
    raw = note.encode()
    return note if len(raw) <= _NOTE_BYTES else raw[: _NOTE_BYTES - 3].decode(errors="ignore") + "…"


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

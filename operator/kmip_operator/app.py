"""kopf wiring: which resources are watched and where their events go. Nothing is decided here.

Only ``on.event`` handlers are registered: they need no finalizer and write no annotation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import kopf
from kubernetes.aio.client.configuration import Configuration

from kmip_operator.kube.cache import SELECTOR
from kmip_operator.kube.client import FIELD_MANAGER, WATCH_INACTIVITY, WATCH_SECONDS
from kmip_operator.kube.resources import CHILDREN, Resource

Receive = Callable[[Resource, str | None, dict[str, Any]], None]
"""Takes a watch event: its resource, its type (``None`` from a list) and the object."""


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf's settings; each differs from the default for the reason beside it."""
    settings = kopf.OperatorSettings()
    watching = settings.watching
    watching.server_timeout = WATCH_SECONDS
    watching.client_timeout = WATCH_SECONDS + 60  # after the server's own end
    watching.connect_timeout = 10
    watching.inactivity_timeout = WATCH_INACTIVITY  # bookmarks come every 60 s
    watching.reconnect_backoff = 1.0  # an API server that has just restarted meets all its clients
    watching.chunk_size = 250  # bounds the memory of a list
    for resource in CHILDREN:
        watching.label_selectors[(resource.group, resource.version, resource.plural)] = SELECTOR
    # Handlers only pass events on, so a worker per object that lives on idly would hold memory for nothing; a limit on workers
    # would make a list of many objects wait for idle ones to end.
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 0.5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = (1, 2, 4, 8, 16)
    settings.networking.enforce_retry_after = True
    settings.scanning.disabled = True  # needs no permission to list namespaces and CRDs
    settings.posting.enabled = False  # Events are posted by the operator itself
    settings.peering.standalone = True  # the Lease decides who leads
    settings.process.ultimate_exiting_timeout = None  # the process ends itself
    settings.persistence.finalizer = f"kmip.dev/{FIELD_MANAGER}"  # never set; a fallback name in our own domain
    return settings


def kopf_registry(
    configuration: Configuration, resources: Iterable[Resource], receive: Receive
) -> kopf.OperatorRegistry:
    """A registry that passes every event of ``resources`` to ``receive``."""
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_info(configuration)

    kopf.on.login(registry=registry, id="login")(login)
    for resource in resources:
        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)(
            _handler(resource, receive)
        )
    return registry


def _handler(resource: Resource, receive: Receive) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        receive(resource, event["type"], event["object"])

    return handle


async def connection_info(configuration: Configuration) -> kopf.ConnectionInfo:
    """The client's connection in kopf's terms; kopf asks again when the API server answers 401 (the token has rotated)."""
    settings: Any = await configuration.auth_settings()
    header = str((settings.get("BearerToken") or {}).get("value") or "")
    scheme, _, token = header.partition(" ")
    config: Any = configuration
    return kopf.ConnectionInfo(
        server=config.host,
        ca_path=config.ssl_ca_cert,
        insecure=not config.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=token or None,
        certificate_path=config.cert_file,
        private_key_path=config.key_file,
    )


async def run_kopf(
    registry: kopf.OperatorRegistry, namespaces: tuple[str, ...], *, started: asyncio.Event, stop: asyncio.Event
) -> None:
    """Run kopf until ``stop`` is set or a signal arrives.

    Raises:
        Exception: a watch or another part of kopf died; the process must end.
    """
    await kopf.operator(
        registry=registry,
        settings=kopf_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=started,
        stop_flag=stop,
    )

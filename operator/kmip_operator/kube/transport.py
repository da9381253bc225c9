"""HTTP to the API server: credentials and TLS by the official client, deadlines and retries here."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from kmip_operator.kube.errors import ApiError, UnreachableError, error_of

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"

DEADLINE = 15.0
"""Seconds for one request with all its retries: the API server itself gives up a request after 60 s, a healthy one answers in
milliseconds, and a stuck worker must not hold its key for long."""

ATTEMPTS = 4
"""Retries inside one deadline smooth a restart of the API server (measured gap: about 1 s); longer trouble is the queue's."""

_RETRIED = frozenset({429, 500, 502, 503, 504})
_CONNECTIONS = 64


class _Response(Protocol):
    """The part of aiohttp's response that is used, behind the official client's wrapper."""

    status: int
    headers: Mapping[str, str]
    content: aiohttp.StreamReader

    async def read(self) -> bytes: ...
    def close(self) -> None: ...


class _Wrapped(Protocol):
    response: _Response


class _Rest(Protocol):
    """The official client's REST object."""

    async def request(
        self, method: str, url: str, headers: dict[str, str], body: Any, _request_timeout: aiohttp.ClientTimeout
    ) -> _Wrapped: ...
    async def close(self) -> None: ...


async def load_configuration(kubeconfig: Path | None = None) -> Configuration:
    """The connection to use: the given kubeconfig, the pod's service account, else ``KUBECONFIG`` or ``~/.kube/config``.

    Raises:
        ConfigException: none of them can be read.
    """
    configuration = Configuration()
    loader: Any = kube_config  # the client's loaders carry no types
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        loader.load_incluster_config(configuration)
    else:
        path = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG")
        await loader.load_kube_config(config_file=path, client_configuration=configuration)
    configuration.connection_pool_maxsize = _CONNECTIONS
    return configuration


class Transport:
    """Requests with a deadline and few retries. Safe to share between tasks of one event loop."""

    def __init__(self, configuration: Configuration, *, user_agent: str = "kmip-operator") -> None:
        self.configuration = configuration
        self._rest = cast(_Rest, ApiClient(configuration).rest_client)
        self._host = str(configuration.host).rstrip("/")
        self._user_agent = user_agent

    async def close(self) -> None:
        """Close every connection."""
        await self._rest.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        deadline: float = DEADLINE,
        retry: bool = True,
    ) -> Any:
        """Send one request and return the parsed answer.

        ``retry``: repeat after 429 and 5xx (after what Retry-After says, else with jitter) and after a lost connection; only
        for requests that may safely arrive twice.

        Raises:
            ApiError: the API server refused.
            UnreachableError: no answer within ``deadline`` seconds.
        """
        attempts = ATTEMPTS if retry else 1
        try:
            async with asyncio.timeout(deadline):
                for attempt in range(attempts):
                    last = attempt + 1 == attempts
                    try:
                        return await self._once(method, path, query, body, content_type, accept, deadline)
                    except _RetryableError as error:
                        if last:
                            raise error.error from None
                        await asyncio.sleep(max(error.after, _pause(attempt)))
                    except (aiohttp.ClientError, OSError) as error:
                        if last:
                            raise UnreachableError(f"{method} {path}: {type(error).__name__}: {error}") from error
                        await asyncio.sleep(_pause(attempt))
        except TimeoutError:
            raise UnreachableError(f"{method} {path}: no answer within {deadline:g} s") from None
        raise AssertionError("unreachable")

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        accept: str,
        deadline: float,
    ) -> Any:
        response = await self._open(
            method, path, query, body, content_type, accept, aiohttp.ClientTimeout(total=deadline)
        )
        raw = await response.read()
        if response.status < 400:
            return json.loads(raw) if raw else None
        refused = _refusal(response.status, raw)
        if response.status in _RETRIED:
            raise _RetryableError(refused, _retry_after(response.headers))
        raise refused

    async def stream(
        self, path: str, *, query: Mapping[str, str], accept: str = JSON, inactivity: float
    ) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch, until the server ends it.

        Raises:
            ApiError: the watch was refused.
            UnreachableError: the connection broke, or nothing (not even a bookmark) came for ``inactivity`` seconds.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=DEADLINE, sock_read=inactivity)
        response: _Response | None = None
        try:
            response = await self._open("GET", path, query, None, JSON, accept, timeout)
            if response.status >= 400:
                raise _refusal(response.status, await response.read())
            pending = b""
            async for chunk in response.content.iter_any():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"watch {path}: {type(error).__name__}: {error}") from error
        finally:
            if response is not None:
                response.close()

    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        accept: str,
        limits: aiohttp.ClientTimeout,
    ) -> _Response:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": self._user_agent}
        settings: Any = await self.configuration.auth_settings()
        for setting in settings.values():
            if setting["value"]:
                headers[setting["key"]] = setting["value"]
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        wrapped = await self._rest.request(method, url, headers=headers, body=body, _request_timeout=limits)
        return wrapped.response


class _RetryableError(Exception):
    def __init__(self, error: ApiError, after: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


def _refusal(status: int, raw: bytes) -> ApiError:
    with suppress(ValueError):
        body = json.loads(raw)
        if isinstance(body, dict):
            return error_of(status, body)
    return error_of(status, {"message": "answer is not a Status"})


def _retry_after(headers: Mapping[str, str]) -> float:
    with suppress(ValueError):
        return min(float(headers.get("Retry-After", "0")), DEADLINE)
    return 0.0


def _pause(attempt: int) -> float:
    return random.uniform(0.05, 0.2 * 2.0**attempt)  # noqa: S311 - spreads retries, protects nothing

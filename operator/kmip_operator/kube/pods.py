"""Asks serving pods for their status: ``GET /status`` over mutual TLS at each pod's address.

The server proves by its certificate's name (``status.<instance>.<namespace>.kmip.internal``) which instance it is, so another
pod that got an address second-hand is not believed. Connections are kept and reused while an instance is asked often.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp
from pydantic import ValidationError

from kmip_contract.kmipd import KmipdStatus
from kmip_contract.model import explain

STATUS_PORT = 8443

DEADLINE = 1.5
"""Seconds for one answer. A pod answers in milliseconds; a slow one must not delay the news of the others."""

KEEP_ALIVE = 90.0
"""Seconds an idle connection is kept: longer than the pause between two looks at an instance that is well."""

_SESSIONS = 128
"""Instances whose TLS context and connections are kept; each takes about 100 kB."""

_ANSWER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ControlCredentials:
    """The operator's side of an instance's control connection, PEM; the key is not printed."""

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PodAnswer:
    """A pod's status, or why there is none."""

    status: KmipdStatus | None = None
    error: str = ""


Loader = Callable[[], Awaitable[ControlCredentials]]


def status_name(namespace: str, instance: str) -> str:
    """The server name (TLS SNI and subject alternative name) of an instance's status port."""
    return f"status.{instance}.{namespace}.kmip.internal"


class StatusClient:
    """Asks the pods of many instances; keeps the connections of those asked lately."""

    def __init__(self, *, port: int = STATUS_PORT) -> None:
        self._port = port
        self._sessions: OrderedDict[tuple[str, str], tuple[str, aiohttp.ClientSession]] = OrderedDict()

    async def close(self) -> None:
        """Close every connection."""
        while self._sessions:
            _, (_, session) = self._sessions.popitem()
            await session.close()

    async def ask(
        self, namespace: str, instance: str, version: str, load: Loader, addresses: Iterable[str]
    ) -> Mapping[str, PodAnswer]:
        """The answers of the pods at ``addresses`` (IP addresses), asked in parallel.

        ``load`` fetches the credentials; it is called only when those of ``version`` are not in use yet.
        """
        session = await self._session(namespace, instance, version, load)
        name = status_name(namespace, instance)
        asked = tuple(dict.fromkeys(addresses))
        answers = await asyncio.gather(*(self._ask(session, name, address) for address in asked))
        return dict(zip(asked, answers, strict=True))

    async def forget(self, namespace: str, instance: str) -> None:
        """The instance is gone: close its connections."""
        known = self._sessions.pop((namespace, instance), None)
        if known is not None:
            await known[1].close()

    async def _ask(self, session: aiohttp.ClientSession, name: str, address: str) -> PodAnswer:
        host = f"[{address}]" if ":" in address else address
        try:
            async with session.get(f"https://{host}:{self._port}/status", server_hostname=name) as response:
                raw = await response.content.read(_ANSWER_BYTES + 1)
                if response.status != 200:
                    return PodAnswer(error=f"answered {response.status}")
                if len(raw) > _ANSWER_BYTES:
                    return PodAnswer(error="answered too much")
                return PodAnswer(status=KmipdStatus.model_validate_json(raw))
        except ValidationError as error:
            return PodAnswer(error=f"answered what is not a status: {explain(error)}")
        except TimeoutError:
            return PodAnswer(error=f"did not answer within {DEADLINE:g} s")
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            return PodAnswer(error=f"{type(error).__name__}: {error}")

    async def _session(self, namespace: str, instance: str, version: str, load: Loader) -> aiohttp.ClientSession:
        key = (namespace, instance)
        known = self._sessions.get(key)
        if known is not None and known[0] == version:
            self._sessions.move_to_end(key)
            return known[1]
        credentials = await load()
        await self.forget(*key)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_context(credentials), keepalive_timeout=KEEP_ALIVE, limit_per_host=1),
            timeout=aiohttp.ClientTimeout(total=DEADLINE),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._sessions[key] = (version, session)
        while len(self._sessions) > _SESSIONS:
            _, (_, oldest) = self._sessions.popitem(last=False)
            await oldest.close()
        return session


def _context(credentials: ControlCredentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=credentials.authority.decode("ascii"))
    # OpenSSL's loader wants a file; an anonymous one in memory keeps the key off every disk.
    descriptor = os.memfd_create("control", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as memory:
            memory.write(credentials.certificate + b"\n" + credentials.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context

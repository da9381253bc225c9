"""HTTPS to a key manager: one pool of connections, deadlines, repetition with jitter, and bounds on what waits.

Answers are JSON. An error's message never holds a body of a successful answer: there may be a key in it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from random import SystemRandom
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import certifi
import httpx

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.logs import defect

R = TypeVar("R")

TRIES = 4
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds before a repetition: random between nothing and twice the last bound, so that replicas do not come back in step."""

MAX_WAITING = 2048
"""Batches waiting for the key manager; more than it answers within any sane deadline."""

MAX_CONNECTIONS = 32
"""To one service: enough to hide its latency, few enough not to be throttled for their number."""

_LIMITS = httpx.Limits(
    max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=30.0
)

_REPEATED = frozenset({408, 412, 429, 500, 502, 503, 504})
"""Status codes that pass (RFC 9110 §15.5.9, §15.6; 429 RFC 6585; 412 is Vault's for a replica that is behind)."""

_random = SystemRandom()


class Answer(NamedTuple):
    """Status, JSON object (empty where there is none) and header fields of an answer."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def succeeded(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


class HttpClient:
    """Speaks to ``origin``; trusts the certificates in ``ca_file``, else the public ones. ``who`` names it to a person."""

    def __init__(self, who: str, origin: str, ca_file: Path | None = None) -> None:
        self._who = f"{who} at {origin}"
        self._origin = origin
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None
        # The pool's own queue takes time in the square of its length.
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)

    async def request(
        self,
        method: str,
        path: str,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """One answer, whatever its status; ``repeatable`` requests are repeated while the answer is one that passes.

        Raises:
            CustodyError: no answer by ``deadline`` (DeadlineExceeded), none at all (Unavailable), a certificate that is not
                trusted (ConfigurationError).
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - monotonic())):
                return await self._request(method, path, deadline, repeatable, headers, json, form)
        except TimeoutError:
            raise CustodyError(
                CustodyErrorKind.DEADLINE_EXCEEDED,
                f"{self._who} did not answer within the request's deadline; try again",
            ) from None

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _request(
        self,
        method: str,
        path: str,
        deadline: float,
        repeatable: bool,
        headers: Mapping[str, str] | None,
        json: object,
        form: Mapping[str, str] | None,
    ) -> Answer:
        bound = FIRST_PAUSE
        for tries_left in reversed(range(TRIES if repeatable else 1)):
            failure: CustodyError | None = None
            pause = _random.uniform(0, bound)
            try:
                # httpx' own time-outs are off: the caller's deadline limits everything, also waiting for a connection.
                async with self._turns:
                    response = await self._open().request(method, path, headers=headers, json=json, data=form)
            except httpx.RequestError as error:
                failure = self._no_answer(error)
                if failure.kind is CustodyErrorKind.CONFIGURATION:
                    raise failure from None
            else:
                answer = Answer(response.status_code, _object(response), response.headers)
                if answer.status not in _REPEATED:
                    return answer
                pause = max(pause, _retry_after(answer))
            if not tries_left or monotonic() + pause >= deadline:
                if failure is not None:
                    raise failure
                return answer
            await asyncio.sleep(pause)
            bound = min(2 * bound, LONGEST_PAUSE)
        raise AssertionError("unreachable")

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self._origin,
                verify=self._trust(),
                timeout=None,  # noqa: S113
                limits=_LIMITS,
                follow_redirects=False,
                trust_env=False,
            )
        return self._client

    def _trust(self) -> ssl.SSLContext:
        file = self._ca_file or Path(certifi.where())
        try:
            context = ssl.create_default_context(cafile=str(file))
        except (OSError, ssl.SSLError) as error:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION,
                f"CA file {file}: {error.strerror or 'it holds no PEM certificate'}; check the mount and its content",
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _no_answer(self, error: httpx.RequestError) -> CustodyError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return CustodyError(
                    CustodyErrorKind.CONFIGURATION,
                    f"{self._who}: its certificate is not trusted ({cause.verify_message}); give the CA that issued it, "
                    "and the name that is in it",
                )
            cause = cause.__cause__ or cause.__context__
        return CustodyError(
            CustodyErrorKind.UNAVAILABLE,
            f"{self._who} cannot be reached ({type(error).__name__}); check the address, the network and the service",
        )


class Calls:
    """Batches in progress as futures: bounded, ended by their deadline, cancelled at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def submit(
        self, count: int, work: Callable[[], Coroutine[Any, Any, list[R | CustodyError]]]
    ) -> asyncio.Future[list[R | CustodyError]]:
        """``work``'s ``count`` outcomes; a failure of the whole fails each."""
        if len(self._tasks) >= MAX_WAITING:
            refused: asyncio.Future[list[R | CustodyError]] = self._loop.create_future()
            full = CustodyError(
                CustodyErrorKind.THROTTLED, f"{MAX_WAITING} requests are waiting for the key manager; try again later"
            )
            refused.set_result([full] * count)
            return refused
        future: asyncio.Future[list[R | CustodyError]] = self._loop.create_future()
        task = self._loop.create_task(work())
        self._tasks.add(task)

        def deliver(done: asyncio.Task[list[R | CustodyError]]) -> None:
            self._tasks.discard(done)
            if not future.done():
                future.set_result(_outcomes(done, count))

        task.add_done_callback(deliver)
        return future

    async def close(self) -> None:
        """Give up what is in progress: each item is Unavailable."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _outcomes(task: asyncio.Task[list[R | CustodyError]], count: int) -> list[R | CustodyError]:
    if task.cancelled():
        return [CustodyError(CustodyErrorKind.UNAVAILABLE, "custody is shutting down")] * count
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, CustodyError):
        return [error] * count
    # A defect must fail its batch alone.
    defect("provider.defect", error)
    name = type(error).__name__
    return [CustodyError(CustodyErrorKind.UNAVAILABLE, f"unexpected {name} in the key manager's client")] * count


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(answer: Answer) -> float:
    """Seconds the answer asks to wait (RFC 9110 §10.2.3); 0 where it does not say, or says a date."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0

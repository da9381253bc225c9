"""The token: read or obtained, renewed before it ends, obtained anew when Vault no longer knows it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import structlog

from kmip_contract.rootkey import CustodyErrorKind, VaultConnection
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError
from kmip_custody.metrics import LOGINS
from kmip_custody.providers.http import Answer, HttpClient
from kmip_custody.providers.vault.errors import classify, strange, words

RENEW_AFTER = 0.8
"""Share of a token's life after which it is renewed."""

RENEW_AGAIN = 10.0
"""Seconds between renewals that fail while the token still lives."""

_LOG_IN_FIRST = 1.0
_LOG_IN_MOST = 30.0
"""Seconds between log-ins: doubled while they fail, so that a Vault that refuses is not hammered."""

_log = structlog.get_logger("kmip_custody.vault")


class VaultSession:
    """Requests with a token that is good."""

    def __init__(self, connection: VaultConnection, credential: Credential) -> None:
        self._connection = connection
        self._credential = credential
        self._http = HttpClient("Vault", connection.address, connection.ca_file)
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._seen: tuple[int, int, int] | None = None
        self._renewable = False
        self._renew_at = float("inf")
        self._ends_at = float("inf")
        self._logged_in_at = float("-inf")
        # Vault refused a token before its end: a revocation. One that ended and is not replaced is an outage.
        self._taken = False
        self._failure: CustodyError | None = None
        self._again_at = 0.0
        self._delay = _LOG_IN_FIRST

    async def call(
        self, method: str, path: str, body: object = None, *, deadline: float, repeatable: bool = True
    ) -> Answer:
        """An answer below ``/v1/``; with a new token where Vault knows the old one no longer."""
        token = await self._good_token(deadline)
        answer = await self._send(method, path, body, token, deadline, repeatable)
        if answer.status != 403:
            return answer
        # A revoked token and a policy that forbids look alike: only a log-in tells. One just obtained is good.
        if self._token == token:
            if monotonic() - self._logged_in_at < _LOG_IN_FIRST:
                return answer
            self._token, self._taken = None, monotonic() < self._ends_at
        token = await self._good_token(deadline)
        return await self._send(method, path, body, token, deadline, repeatable)

    async def open(self, deadline: float) -> None:
        """Have a token."""
        await self._good_token(deadline)

    async def health(self, deadline: float) -> dict[str, Any]:
        """What the server says of itself, without a token, if it is neither sealed nor a standby without a leader."""
        query = "standbyok=true&perfstandbyok=true&sealedcode=503&uninitcode=503"
        answer = await self._http.request("GET", f"/v1/sys/health?{query}", deadline=deadline, headers=_COMMON)
        if not answer.succeeded:
            raise classify(answer, "asking for its health")
        return answer.body

    async def close(self) -> None:
        """Forget the token and hang up. It is not revoked: a token in a file is its owner's."""
        self._token = None
        await self._http.close()

    async def _send(
        self, method: str, path: str, body: object, token: str, deadline: float, repeatable: bool = True
    ) -> Answer:
        headers = {**_COMMON, "X-Vault-Token": token}
        if self._connection.namespace:
            headers["X-Vault-Namespace"] = self._connection.namespace
        return await self._http.request(
            method, f"/v1/{path}", deadline=deadline, headers=headers, json=body, repeatable=repeatable
        )

    async def _good_token(self, deadline: float) -> str:
        if self._token is not None and monotonic() < self._renew_at and not self._replaced():
            return self._token
        try:
            async with asyncio.timeout(max(0.0, deadline - monotonic())), self._lock:
                return await self._obtain(deadline)
        except TimeoutError:
            raise CustodyError(
                CustodyErrorKind.DEADLINE_EXCEEDED, "Vault did not log in within the request's deadline; try again"
            ) from None

    def _replaced(self) -> bool:
        """Whether the token's file is another now; a JWT's file changes all the time and is read when needed."""
        return self._connection.auth.kubernetes is None and self._seen != self._credential.signature()

    async def _obtain(self, deadline: float) -> str:
        now = monotonic()
        if self._token is not None and not self._replaced():
            if now < self._renew_at:
                return self._token
            if now < self._ends_at and self._renewable and await self._renew(self._token, deadline):
                return self._token
            if now < self._ends_at and not self._renewable and self._connection.auth.kubernetes is None:
                self._renew_at = self._ends_at
                return self._token
        if self._failure is not None and now < self._again_at and not self._replaced():
            return self._old_or(self._failure)
        # Until it is known whether the new credential is good, nobody takes the old token for current.
        signature = self._credential.signature()
        try:
            self._token = await self._log_in(deadline)
        except CustodyError as error:
            self._seen = signature
            self._failure, self._again_at = error, monotonic() + self._delay
            self._delay = min(2 * self._delay, _LOG_IN_MOST)
            return self._old_or(error)
        self._seen = signature
        self._failure, self._delay, self._taken = None, _LOG_IN_FIRST, False
        self._logged_in_at = monotonic()
        LOGINS.labels(outcome="accepted").inc()
        return self._token

    def _old_or(self, error: CustodyError) -> str:
        """The token in hand while it lives: what refuses a new one may pass."""
        if self._token is not None and monotonic() < self._ends_at and not self._replaced():
            return self._token
        self._token = None
        if error.kind in {CustodyErrorKind.CREDENTIAL_REFUSED, CustodyErrorKind.AUTHORIZATION_LOST}:
            raise CustodyError(self._refused_as(), error.message)
        raise error

    def _refused_as(self) -> CustodyErrorKind:
        return CustodyErrorKind.AUTHORIZATION_LOST if self._taken else CustodyErrorKind.CREDENTIAL_REFUSED

    async def _log_in(self, deadline: float) -> str:
        secret = self._credential.read()
        try:
            text = secret.decode("ascii")
        except UnicodeDecodeError:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION, f"{self._credential.path} holds no token: it is not ASCII text"
            ) from None
        if self._connection.auth.kubernetes is not None:
            return await self._log_in_by_kubernetes(text, deadline)
        answer = await self._send("GET", "auth/token/lookup-self", None, text, deadline)
        if answer.status == 403:
            LOGINS.labels(outcome="refused").inc()
            refusal = self._credential.refused(secret)
            raise CustodyError(refusal.kind, f"Vault answered 403 ({words(answer)}): {refusal.message}")
        if not answer.succeeded:
            raise classify(answer, "looking up its token")
        data = answer.body.get("data")
        if not isinstance(data, dict):
            raise strange("looking up its token", "no data")
        self._credential.accepted(secret)
        self._live(data.get("ttl"), data.get("renewable"))
        return text

    async def _log_in_by_kubernetes(self, jwt: str, deadline: float) -> str:
        kubernetes = self._connection.auth.kubernetes
        if kubernetes is None:
            raise ValueError("not a Kubernetes log-in")
        headers = {**_COMMON}
        if self._connection.namespace:
            headers["X-Vault-Namespace"] = self._connection.namespace
        answer = await self._http.request(
            "POST",
            f"/v1/auth/{kubernetes.mount}/login",
            deadline=deadline,
            headers=headers,
            json={"role": kubernetes.role, "jwt": jwt},
        )
        if answer.status in {400, 401, 403}:
            LOGINS.labels(outcome="refused").inc()
            raise CustodyError(
                self._refused_as(),
                f"Vault's auth method {kubernetes.mount!r} refused role {kubernetes.role!r} ({words(answer)}); check that the "
                "role is bound to this service account, namespace and audience",
            )
        if not answer.succeeded:
            raise classify(answer, "logging in")
        auth = answer.body.get("auth")
        if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
            raise strange("logging in", "no client_token")
        self._live(auth.get("lease_duration"), auth.get("renewable"))
        token: str = auth["client_token"]
        return token

    async def _renew(self, token: str, deadline: float) -> bool:
        """Whether the token lives on; one that is near its longest life is obtained anew instead."""
        try:
            answer = await self._send("POST", "auth/token/renew-self", {}, token, deadline)
            auth = answer.body.get("auth")
            if answer.succeeded and isinstance(auth, dict):
                left = self._ends_at - monotonic()
                self._live(auth.get("lease_duration"), auth.get("renewable"))
                grown = self._ends_at - monotonic() > left + 1.0
                return grown or self._connection.auth.kubernetes is None
            problem = words(answer) or f"status {answer.status}"
            if answer.status == 403:
                return False
        except CustodyError as error:
            problem = error.message
        _log.warning("vault.renewal_failed", reason=problem, seconds_left=round(self._ends_at - monotonic()))
        self._renew_at = min(self._ends_at, monotonic() + RENEW_AGAIN)
        return True

    def _live(self, seconds: object, renewable: object) -> None:
        """Set when the token is renewed and ends; a life of 0 has no end."""
        life = float(seconds) if isinstance(seconds, int) and seconds > 0 else float("inf")
        self._ends_at = monotonic() + life
        self._renew_at = monotonic() + RENEW_AFTER * life
        self._renewable = renewable is True


_COMMON = {"X-Vault-Request": "true"}

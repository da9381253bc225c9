"""Requests with an IAM token, which is replaced at 80 % of its life and where it is not accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from urllib.parse import urlencode
from uuid import uuid4

from kmip_contract.rootkey import CustodyErrorKind, KeyProtectConnection
from kmip_custody.credential import Credential
from kmip_custody.errors import CustodyError
from kmip_custody.metrics import LOGINS
from kmip_custody.providers.http import Answer, HttpClient

REFRESH_AFTER = 0.8
"""Share of a token's life (an hour) after which it is replaced: IBM's own SDK does the same."""

_LOG_IN_FIRST = 1.0
_LOG_IN_MOST = 30.0
"""Seconds between requests for a token: doubled while they fail."""

_GRANT = "urn:ibm:params:oauth:grant-type:"


class KeyProtectSession:
    """Speaks to one service instance."""

    def __init__(self, connection: KeyProtectConnection, credential: Credential) -> None:
        self._connection = connection
        self._credential = credential
        self._http = HttpClient("Key Protect", connection.endpoint, connection.ca_file)
        self._iam = HttpClient("IBM Cloud IAM", connection.iam_endpoint, connection.ca_file)
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._seen: tuple[int, int, int] | None = None
        self._refresh_at = 0.0
        self._ends_at = 0.0
        self._got_at = float("-inf")
        self._was_in = False
        self._works = False
        self._failure: CustodyError | None = None
        self._again_at = 0.0
        self._delay = _LOG_IN_FIRST

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        deadline: float,
        query: Mapping[str, str | int] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """An answer below ``/api/v2/``; once more with a new token after 401 and 403."""
        full = f"/api/v2/{path}" + (f"?{urlencode(query)}" if query else "")
        token = await self._good_token(deadline)
        answer = await self._send(method, full, body, token, deadline, repeatable)
        if answer.status not in {401, 403}:
            self._works = self._works or self._token == token
            return answer
        if self._token == token:
            # A token that never worked is not the reason; nor, likely, is one that has just been obtained.
            if not self._works or (answer.status == 403 and monotonic() - self._got_at < _LOG_IN_FIRST):
                return answer
            self._token = None
        token = await self._good_token(deadline)
        return await self._send(method, full, body, token, deadline, repeatable)

    async def close(self) -> None:
        """Forget the token and hang up."""
        self._token = None
        await self._http.close()
        await self._iam.close()

    async def _send(
        self, method: str, path: str, body: object, token: str, deadline: float, repeatable: bool
    ) -> Answer:
        headers = {
            "Authorization": f"Bearer {token}",
            "Bluemix-Instance": self._connection.instance_id,
            "X-Kms-Key-Ring": self._connection.key_ring,
            "Correlation-Id": str(uuid4()),
            "Prefer": "return=representation",
        }
        return await self._http.request(
            method, path, deadline=deadline, headers=headers, json=body, repeatable=repeatable
        )

    async def _good_token(self, deadline: float) -> str:
        if self._token is not None and monotonic() < self._refresh_at and not self._replaced():
            return self._token
        try:
            async with asyncio.timeout(max(0.0, deadline - monotonic())), self._lock:
                return await self._obtain(deadline)
        except TimeoutError:
            raise CustodyError(
                CustodyErrorKind.DEADLINE_EXCEEDED, "IAM gave no token within the request's deadline; try again"
            ) from None

    def _replaced(self) -> bool:
        return self._connection.auth.trusted_profile is None and self._seen != self._credential.signature()

    async def _obtain(self, deadline: float) -> str:
        if self._token is not None and monotonic() < self._refresh_at and not self._replaced():
            return self._token
        if self._failure is not None and monotonic() < self._again_at and not self._replaced():
            return self._old_or(self._failure)
        # Until it is known whether the new credential is good, nobody takes the old token for current.
        signature = self._credential.signature()
        try:
            token = await self._log_in(deadline)
        except CustodyError as error:
            self._seen = signature
            self._failure, self._again_at = error, monotonic() + self._delay
            self._delay = min(2 * self._delay, _LOG_IN_MOST)
            if error.kind in {CustodyErrorKind.CREDENTIAL_REFUSED, CustodyErrorKind.AUTHORIZATION_LOST}:
                self._token = None
            return self._old_or(error)
        self._seen = signature
        self._failure, self._delay, self._was_in = None, _LOG_IN_FIRST, True
        self._token, self._got_at, self._works = token, monotonic(), False
        LOGINS.labels(outcome="accepted").inc()
        return token

    def _old_or(self, error: CustodyError) -> str:
        """The token in hand while it lives: IAM out of reach does no harm before that."""
        if self._token is not None and monotonic() < self._ends_at and not self._replaced():
            return self._token
        raise error

    async def _log_in(self, deadline: float) -> str:
        profile = self._connection.auth.trusted_profile
        secret = self._credential.read()
        try:
            text = secret.decode("ascii")
        except UnicodeDecodeError:
            raise CustodyError(
                CustodyErrorKind.CONFIGURATION, f"{self._credential.path} holds no credential: it is not ASCII text"
            ) from None
        if profile is None:
            form = {"grant_type": f"{_GRANT}apikey", "apikey": text}
        else:
            form = {"grant_type": f"{_GRANT}cr-token", "cr_token": text}
            form |= {"profile_id": profile.profile_id} if profile.profile_id else {}
            form |= {"profile_name": profile.profile_name} if profile.profile_name else {}
        answer = await self._iam.request(
            "POST", "/identity/token", deadline=deadline, form=form, headers={"Accept": "application/json"}
        )
        if answer.status in {400, 401, 403}:
            raise self._refusal(answer, secret, remembered=profile is None)
        token, life = answer.body.get("access_token"), answer.body.get("expires_in")
        if not answer.succeeded or not isinstance(token, str) or not isinstance(life, int):
            kind = CustodyErrorKind.THROTTLED if answer.status == 429 else CustodyErrorKind.UNAVAILABLE
            raise CustodyError(kind, f"IBM Cloud IAM answered status {answer.status} without a token; try again")
        self._credential.accepted(secret)
        self._ends_at = monotonic() + life
        self._refresh_at = monotonic() + REFRESH_AFTER * life
        return token

    def _refusal(self, answer: Answer, secret: bytes, *, remembered: bool) -> CustodyError:
        LOGINS.labels(outcome="refused").inc()
        given = str(answer.body.get("errorCode", answer.status))[:40]
        if remembered:
            refusal = self._credential.refused(secret)
            return CustodyError(refusal.kind, f"IBM Cloud IAM answered {given}: {refusal.message}")
        kind = CustodyErrorKind.AUTHORIZATION_LOST if self._was_in else CustodyErrorKind.CREDENTIAL_REFUSED
        return CustodyError(
            kind,
            f"IBM Cloud IAM answered {given} to the trusted profile; check that it trusts this cluster, namespace and "
            "service account",
        )

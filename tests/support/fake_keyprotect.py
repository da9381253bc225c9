"""IBM Key Protect's key API and IAM's token endpoint over real HTTP, with a clock that tests move.

It does what the service documents, each rule with its source: pages of "IBM Key Protect for IBM Cloud" by their titles
(ibm-cloud-docs/key-protect, 2026-08), the API reference as the service's own Python SDK 3.0.1 carries it (SDK), and the tests
of IBM's Go client (Go). Where nothing is documented it is strict: a cipher text that is not byte for byte what a wrap gave is
unprocessable.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kmip_contract.rootkey import KeyProtectAuth, KeyProtectConnection, TrustedProfile

ACTIVE, SUSPENDED, DEACTIVATED, DESTROYED = 1, 2, 3, 5  # "Key states": NIST's, 0 and 4 are not used here

STATE_COOL_DOWN = timedelta(
    seconds=30
)  # "Disabling root keys": 30 s between disable and enable; "Restoring": after a delete
ROTATION_COOL_DOWN = timedelta(hours=1)  # "Rotating root keys manually": once an hour
RESTORABLE = timedelta(days=30)  # "Restoring keys"
PURGEABLE = timedelta(hours=4)  # "Deleting and purging keys"
PURGED = timedelta(days=90)  # same page: removed by the service
TOKEN_LIFE = 3600  # "Retrieving an access token": seconds
SEARCHABLE = 5000  # SDK, get_keys: a search covers at most this many keys
PAGE, LONGEST_PAGE = 200, 5000  # SDK, get_keys: limit


class Clock:
    """The service's time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, tzinfo=UTC)

    def advance(self, **fields: float) -> None:
        """Let time pass (timedelta's arguments)."""
        self.now += timedelta(**fields)


@dataclass
class Version:
    """One version of a root key."""

    id: str
    made: datetime
    material: bytes


@dataclass
class Key:
    """A key; a standard key has no versions worth speaking of."""

    id: str
    name: str
    ring: str
    extractable: bool
    imported: bool
    description: str
    versions: list[Version]
    made: datetime
    state: int = ACTIVE
    changed: datetime | None = None
    deleted: datetime | None = None
    expires: datetime | None = None
    aliases: set[str] = field(default_factory=set)
    protected: bool = False
    dual_authorization: bool = False
    second_person: bool = False


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


class FakeKeyProtect:
    """The service and its administrator."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.instance = str(uuid4())
        self.api_key = secrets.token_urlsafe(32)
        self.profile_token = secrets.token_urlsafe(32)
        self.profile = "Profile-1"
        self.keys: dict[str, Key] = {}
        self.tokens: dict[str, datetime] = {}
        self.authorized = True
        self.initialized = True
        self.logins: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""

    def connection(self, directory: Path, **fields: object) -> KeyProtectConnection:
        """A connection by API key."""
        file = directory / "api-key"
        file.write_text(self.api_key + "\n")
        return KeyProtectConnection.model_validate(
            {
                "endpoint": self.address,
                "iam_endpoint": self.address,
                "instance_id": self.instance,
                "region": "eu-de",
                "auth": KeyProtectAuth(api_key_file=file),
                **fields,
            }
        )

    def profile_connection(self, directory: Path) -> KeyProtectConnection:
        """A connection by trusted profile."""
        file = directory / "sa-token"
        file.write_text(self.profile_token)
        profile = TrustedProfile(profile_id=self.profile, token_file=file)
        return self.connection(directory, auth=KeyProtectAuth(trusted_profile=profile))

    def only(self) -> Key:
        """The one key there is."""
        (key,) = self.keys.values()
        return key

    def add(self, name: str, *, payload: bytes | None = None, extractable: bool = False, ring: str = "default") -> Key:
        """Make or import a key."""
        material = payload or secrets.token_bytes(32)
        version = Version(str(uuid4()), self.clock.now, material)
        key = Key(str(uuid4()), name, ring, extractable, payload is not None, "", [version], self.clock.now)
        self.keys[key.id] = key
        return key

    def pass_time(self) -> None:
        """Enough for whatever may be done once an hour."""
        self.clock.advance(hours=1, seconds=1)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeKeyProtect]:
        """Serve on loopback for the block."""
        application = web.Application()
        application.router.add_post("/identity/token", self._token)
        application.router.add_route("*", "/api/v2/{path:.*}", self._api)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        grant = str(form.get("grant_type", "")).rpartition(":")[2]
        self.logins.append(grant)
        by_key = grant == "apikey" and form.get("apikey") == self.api_key
        by_profile = grant == "cr-token" and (form.get("cr_token"), form.get("profile_id")) == (
            self.profile_token,
            self.profile,
        )
        if not by_key and not by_profile:
            # "Retrieving an access token"; IAM's code for a key it does not know
            return web.json_response({"errorCode": "BXNIM0415E", "errorMessage": "not found"}, status=400)
        token = secrets.token_urlsafe(24)
        self.tokens[token] = self.clock.now + timedelta(seconds=TOKEN_LIFE)
        return web.json_response({"access_token": token, "expires_in": TOKEN_LIFE, "token_type": "Bearer"})

    async def _api(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        try:
            self._admit(request)
            body = await request.json() if request.can_read_body else {}
            status, answer, fields = self._dispatch(request, request.match_info["path"].split("/"), body)
        except Refusal as refusal:
            # "Error messages": the shape of every error
            reason = {"code": refusal.code, "message": refusal.message, "status": refusal.status, "moreInfo": ""}
            resource = {"errorMsg": refusal.message, "reasons": [reason]}
            answer = {"metadata": {"collectionType": "application/vnd.ibm.kms.error+json"}, "resources": [resource]}
            status, fields = refusal.status, {}
        fields["Correlation-Id"] = request.headers.get("Correlation-Id", str(uuid4()))  # SDK: given back
        if status == 204 or request.method == "HEAD":
            return web.Response(status=status, headers=fields)
        return web.json_response(answer, status=status, headers=fields)

    def _admit(self, request: web.Request) -> None:
        if not self.initialized:
            # The words of page "ts-initialization-issues" for a Dedicated instance that nobody initialised
            text = "no healthy upstream: no crypto units are in kms-initialized state"
            raise Refusal(503, "SERVICE_UNAVAILABLE_ERR", text)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, self.clock.now) <= self.clock.now:
            raise Refusal(401, "UNAUTHORIZED_ERR")
        if request.headers.get("Bluemix-Instance") != self.instance:  # SDK: required on every call
            raise Refusal(400, "BAD_HEADER_ERR")
        if not self.authorized:
            raise Refusal(403, "UNAUTHORIZED_ERR")

    def _dispatch(
        self, request: web.Request, path: list[str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        ring = request.headers.get("X-Kms-Key-Ring", "default")
        match request.method, path:
            case "HEAD", ["keys"]:
                return 200, {}, {"Key-Total": str(len(self._living(ring)))}  # SDK: head_keys
            case "GET", ["keys"]:
                return 200, _collection([self._show(key) for key in self._search(request, ring)]), {}
            case "POST", ["keys"]:
                return 201, _collection([self._show(self._create(body, ring))]), {}
        key = self._find(path[1], ring)
        match request.method, path[2:]:
            case "GET", ["metadata"]:
                return 200, _collection([self._show(key)]), {}
            case "GET", ["versions"]:
                # SDK: get_key_versions; without allKeyStates a key that is not active is refused
                if key.state != ACTIVE and request.query.get("allKeyStates") != "true":
                    raise Refusal(409, "KEY_ACTION_INVALID_STATE_ERR")
                shown = [{"id": one.id, "creationDate": one.made.isoformat()} for one in reversed(key.versions)]
                return 200, _collection(_page(request, shown)), {}
            case "POST", ["actions", action]:
                return self._act(key, action, body)
            case "POST", ["restore"]:
                self._restore(key)
                return 201, _collection([self._show(key)]), {}
            case "POST", ["aliases", alias]:
                key.aliases.add(alias)
                return 201, _collection([{"alias": alias}]), {}
            case "DELETE", []:
                self._delete(key)
                return 200, _collection([self._show(key)]), {}
            case "DELETE", ["purge"]:
                if key.deleted is None or self.clock.now < key.deleted + PURGEABLE:
                    raise Refusal(409, "REQ_TOO_EARLY_ERR")
                del self.keys[key.id]
                return 204, {}, {}
        raise Refusal(404, "NOT_FOUND_ERR")

    def _living(self, ring: str) -> list[Key]:
        self._age()
        return [key for key in self.keys.values() if key.ring == ring and key.state != DESTROYED]

    def _age(self) -> None:
        for key in list(self.keys.values()):
            if key.deleted is not None and self.clock.now >= key.deleted + PURGED:
                del self.keys[key.id]
            elif key.expires is not None and key.state == ACTIVE and self.clock.now >= key.expires:
                key.state = DEACTIVATED  # "Key states": at the expiration date

    def _find(self, name: str, ring: str) -> Key:
        self._age()
        for key in self.keys.values():
            # "Grouping keys": with the header, other rings are not looked into; an alias is as good as an id (SDK)
            if (key.id == name or name in key.aliases) and key.ring == ring:
                return key
        raise Refusal(404, "KEY_NOT_FOUND_ERR")

    def _search(self, request: web.Request, ring: str) -> list[Key]:
        found = self._living(ring)  # "Viewing keys": deleted ones only when asked for
        if "extractable" in request.query:
            found = [key for key in found if key.extractable == (request.query["extractable"] == "true")]
        search = request.query.get("search")
        if search is not None:
            if len(found) > SEARCHABLE:
                raise Refusal(400, "KEY_SEARCH_TOO_BROAD")
            found = [key for key in found if key.name == search.removeprefix("exact:name:")]
        return _page(request, found)

    def _create(self, body: dict[str, Any], ring: str) -> Key:
        try:
            (resource,) = body["resources"]
            name, extractable = resource["name"], resource["extractable"]
        except (KeyError, ValueError):
            raise Refusal(400, "BAD_BODY_ERR") from None
        if not 2 <= len(name) <= 90 or not 2 <= len(resource.get("description", "--")) <= 240:  # SDK: create_key
            raise Refusal(400, "BAD_BODY_ERR")
        payload = base64.b64decode(resource["payload"]) if "payload" in resource else None
        key = self.add(name, payload=payload, extractable=extractable, ring=ring)  # names are not unique
        key.description = resource.get("description", "")
        return key

    def _act(self, key: Key, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if key.extractable:
            raise Refusal(400, "KEY_ROOT_REQ_ERR")
        if key.state == DESTROYED:
            raise Refusal(410, "KEY_DELETED_ERR")  # Go: kp_test.go, "Unwrap on Deleted"
        actions: dict[str, Callable[[Key, dict[str, Any]], dict[str, Any]]] = {
            "wrap": self._wrap, "unwrap": self._unwrap, "rewrap": self._rewrap,
        }  # fmt: skip
        if action in actions:
            if key.state == SUSPENDED or (key.state == DEACTIVATED and action == "wrap"):
                raise Refusal(409, "KEY_ACTION_INVALID_STATE_ERR")  # "Key states"
            return 200, actions[action](key, body), {}
        match action:
            case "rotate":
                self._rotate(key)
            case "disable":
                self._turn(key, ACTIVE, SUSPENDED)
            case "enable":
                self._turn(key, SUSPENDED, ACTIVE)
            case "setKeyForDeletion":
                key.second_person = True
            case _:
                raise Refusal(404, "NOT_FOUND_ERR")
        return 204, {}, {}

    def _wrap(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        # SDK: wrap_key; without a plaintext the service makes one of 32 bytes and gives it back
        made = not body.get("plaintext")
        plaintext = secrets.token_bytes(32) if made else _base64(body["plaintext"])
        version = key.versions[-1]
        answer: dict[str, Any] = {"ciphertext": _seal(version, plaintext, _aad(body)), "keyVersion": {"id": version.id}}
        if made:
            answer["plaintext"] = base64.b64encode(plaintext).decode()
        return answer

    def _unwrap(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        plaintext, version = self._open(key, body)
        answer = {"plaintext": base64.b64encode(plaintext).decode(), "keyVersion": {"id": version.id}}
        # "Rewrapping keys": what an older version wrapped comes back wrapped by the newest
        return answer | self._again(key, version, plaintext, _aad(body))

    def _rewrap(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        plaintext, version = self._open(key, body)
        newest = key.versions[-1]
        again = self._again(key, version, plaintext, _aad(body))
        same = {"ciphertext": body["ciphertext"], "rewrappedKeyVersion": {"id": newest.id}}
        return {"keyVersion": {"id": version.id}, **(again or same)}

    def _again(self, key: Key, version: Version, plaintext: bytes, aad: list[str]) -> dict[str, Any]:
        newest = key.versions[-1]
        if version is newest:
            return {}
        return {"ciphertext": _seal(newest, plaintext, aad), "rewrappedKeyVersion": {"id": newest.id}}

    def _open(self, key: Key, body: dict[str, Any]) -> tuple[bytes, Version]:
        aad = _aad(body)
        text = _base64(body.get("ciphertext", ""))
        # "High availability": keys of the same imported material open each other's, so the handle alone does not decide
        for version in key.versions:
            with contextlib.suppress(InvalidTag, ValueError, KeyError, TypeError, AttributeError):
                parts = json.loads(text)
                nonce, sealed = base64.b64decode(parts["iv"]), base64.b64decode(parts["ciphertext"])
                if text != _join(nonce, sealed, parts["handle"]):
                    continue
                if parts["handle"] != version.id and not key.imported:
                    continue
                return AESGCM(version.material).decrypt(nonce, sealed, json.dumps(aad).encode()), version
        raise Refusal(422, "UNPROCESSABLE_CIPHERTEXT_ERR")

    def _rotate(self, key: Key) -> None:
        if self.clock.now < key.versions[-1].made + ROTATION_COOL_DOWN:
            raise Refusal(409, "KEY_ROTATION_NOT_PERMITTED")
        if key.state == SUSPENDED:
            raise Refusal(409, "KEY_ACTION_INVALID_STATE_ERR")
        key.versions.append(Version(str(uuid4()), self.clock.now, secrets.token_bytes(32)))

    def _turn(self, key: Key, before: int, after: int) -> None:
        if key.state != before:
            raise Refusal(409, "KEY_ACTION_INVALID_STATE_ERR")
        if key.changed is not None and self.clock.now < key.changed + STATE_COOL_DOWN:
            raise Refusal(409, "REQ_TOO_EARLY_ERR")
        key.state, key.changed = after, self.clock.now

    def _delete(self, key: Key) -> None:
        if key.state == DESTROYED:
            raise Refusal(410, "KEY_DELETED_ERR")
        if key.protected:  # "Deleting keys": a cloud resource is registered with it
            raise Refusal(409, "PROTECTED_RESOURCE_ERR")
        if key.dual_authorization and not key.second_person:  # "Deleting keys using dual authorization"
            raise Refusal(409, "AUTHORIZATIONS_NOT_MET")
        key.state, key.deleted = DESTROYED, self.clock.now

    def _restore(self, key: Key) -> None:
        if key.deleted is None:
            raise Refusal(409, "KEY_ACTION_INVALID_STATE_ERR")
        if self.clock.now < key.deleted + STATE_COOL_DOWN:
            raise Refusal(409, "REQ_TOO_EARLY_ERR")
        if self.clock.now > key.deleted + RESTORABLE or (key.expires is not None and self.clock.now >= key.expires):
            raise Refusal(409, "KEY_ACTION_INVALID_STATE_ERR")
        key.state, key.deleted = ACTIVE, None

    def _show(self, key: Key) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": key.id, "name": key.name, "description": key.description, "state": key.state,
            "extractable": key.extractable, "imported": key.imported, "keyRingID": key.ring,
            "creationDate": key.made.isoformat(), "aliases": sorted(key.aliases),
            "keyVersion": {"id": key.versions[-1].id, "creationDate": key.versions[-1].made.isoformat()},
        }  # fmt: skip
        if key.deleted is not None:
            # SDK: KeyWithPayload's fields of a deleted key
            shown |= {
                "deleted": True,
                "deletionDate": key.deleted.isoformat(),
                "restoreExpirationDate": (key.deleted + RESTORABLE).isoformat(),
                "purgeAllowedFrom": (key.deleted + PURGEABLE).isoformat(),
                "purgeScheduledOn": (key.deleted + PURGED).isoformat(),
            }
        return shown


def _seal(version: Version, plaintext: bytes, aad: list[str]) -> str:
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(version.material).encrypt(nonce, plaintext, json.dumps(aad).encode())
    return base64.b64encode(_join(nonce, sealed, version.id)).decode()


def _join(nonce: bytes, sealed: bytes, handle: str) -> bytes:
    """ "Rewrapping keys": what a cipher text looks like inside."""
    parts = {
        "ciphertext": base64.b64encode(sealed).decode(),
        "iv": base64.b64encode(nonce).decode(),
        "version": "4.0.0",
        "handle": handle,
    }
    return json.dumps(parts).encode()


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except binascii.Error:
        raise Refusal(400, "BAD_BODY_ERR") from None


def _aad(body: dict[str, Any]) -> list[str]:
    aad = body.get("aad", [])
    # SDK: wrap_key; "up to 255 characters" each
    if not isinstance(aad, list) or not all(isinstance(one, str) and len(one) <= 255 for one in aad):
        raise Refusal(400, "BAD_BODY_ERR")
    return aad


def _page(request: web.Request, found: list[Any]) -> list[Any]:
    limit, offset = int(request.query.get("limit", PAGE)), int(request.query.get("offset", 0))
    if not 1 <= limit <= LONGEST_PAGE:
        raise Refusal(400, "BAD_QUERY_PARAM_ERR")
    return found[offset : offset + limit]


def _collection(resources: list[Any]) -> dict[str, Any]:
    return {
        "metadata": {"collectionType": "application/vnd.ibm.kms.key+json", "collectionTotal": len(resources)},
        "resources": resources,
    }

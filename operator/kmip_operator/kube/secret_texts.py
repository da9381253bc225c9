"""Reads single keys of Secrets, and remembers public texts (certificates, allowlists) for as long as the Secret is the same."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import NamedTuple

from kmip_operator.facts import PemSource
from kmip_operator.kube.cache import Caches
from kmip_operator.kube.client import Client, Manifest
from kmip_operator.kube.resources import SECRETS
from kmip_operator.reasons import Reason


class _Place(NamedTuple):
    namespace: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class _Text:
    uid: str
    version: int
    text: str | None


class SecretTexts:
    """Texts by Secret and key. Nothing that holds a private key is remembered."""

    def __init__(self, client: Client, caches: Caches) -> None:
        self._client = client
        self._caches = caches
        self._texts: dict[_Place, _Text] = {}

    async def text(self, namespace: str, name: str, key: str) -> str | None:
        """The text under ``key`` of a Secret, ``None`` when there is no such Secret, no such key, or no UTF-8 in it."""
        place = _Place(namespace, name, key)
        meta = await self._caches.secret(self._client, namespace, name)
        if meta is None:
            self._texts.pop(place, None)
            return None
        known = self._texts.get(place)
        if known is not None and (known.uid, known.version) == (meta.uid, meta.version):
            return known.text
        secret = await self._client.get(SECRETS, namespace, name)
        if secret is None:
            self._texts.pop(place, None)
            return None
        raw = value(secret, key)
        text = None if raw is None else _decode(raw)
        if text is None or "PRIVATE KEY" not in text:
            metadata = secret["metadata"]
            self._texts[place] = _Text(metadata["uid"], int(metadata["resourceVersion"]), text)
        else:
            self._texts.pop(place, None)
        return text

    async def pem(self, namespace: str, name: str, key: str) -> PemSource:
        """A certificate's text from a user's Secret, or what is missing."""
        text = await self.text(namespace, name, key)
        if text is not None:
            return PemSource(pem=text, secret_name=name, secret_key=key)
        there = await self._caches.secret(self._client, namespace, name) is not None
        problem = Reason.SECRET_KEY_MISSING if there else Reason.SECRET_MISSING
        return PemSource(problem=problem, secret_name=name, secret_key=key)

    async def secret_bytes(self, namespace: str, name: str, *keys: str) -> tuple[bytes, ...] | None:
        """The values under ``keys``, never remembered; ``None`` when the Secret or one of them is missing."""
        secret = await self._client.get(SECRETS, namespace, name)
        found = [value(secret, key) for key in keys] if secret is not None else [None]
        if any(item is None for item in found):
            return None
        return tuple(item for item in found if item is not None)

    def forget(self, namespace: str, name: str) -> None:
        """The Secret changed or is gone: drop its texts."""
        for place in [place for place in self._texts if place.namespace == namespace and place.name == name]:
            del self._texts[place]


def value(secret: Manifest, key: str) -> bytes | None:
    """The decoded value under ``key`` of a Secret's data."""
    encoded = (secret.get("data") or {}).get(key)
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None


def _decode(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None

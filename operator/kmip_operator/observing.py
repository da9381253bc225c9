"""What the observations of the four kinds share: Secrets' metadata, certificates' texts, Jobs, pods with their answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from kmip_contract.allowlist import ALLOWLIST_KEY, Allowlist
from kmip_operator.facts import Images, JobFacts, ObjectMeta, PemSource, PodFacts
from kmip_operator.kube.answers import Answers
from kmip_operator.kube.cache import BY_CONTROLLER, BY_INSTANCE, Caches
from kmip_operator.kube.client import Client, Manifest
from kmip_operator.kube.resources import JOBS, NODES, PODS, Resource
from kmip_operator.kube.secret_texts import SecretTexts
from kmip_operator.kube.workloads import ZONE_LABEL, job_facts, pod_facts, secret_meta
from kmip_operator.naming import label_value

# Where a certificate stands in a Secret unless the reference names another key (kubernetes.io/tls).
CERTIFICATE_KEY = "tls.crt"

_PARSED_ALLOWLISTS = 8


@dataclass(frozen=True)
class Sources:
    """Where observations read from."""

    client: Client
    caches: Caches
    texts: SecretTexts
    answers: Answers
    images: Images
    _allowlists: OrderedDict[tuple[str, str], tuple[str, Allowlist | None]] = field(default_factory=OrderedDict)

    def named(self, resource: Resource, namespace: str, reference: Manifest | None) -> Manifest | None:
        """The object a reference (``{name: …}``) names."""
        name = (reference or {}).get("name")
        return self.caches.current(resource, namespace, name) if name else None

    async def secrets(self, namespace: str, names: Iterable[str]) -> dict[str, ObjectMeta]:
        """Metadata of those Secrets that exist, by name."""
        found: dict[str, ObjectMeta] = {}
        for name in names:
            meta = await self.caches.secret(self.client, namespace, name)
            if meta is not None:
                found[name] = secret_meta(meta)
        return found

    def jobs(self, owner: Manifest) -> tuple[JobFacts, ...]:
        """The Jobs that ``owner`` controls, with their pods' results."""
        namespace = owner["metadata"]["namespace"]
        found = self.caches.stores[JOBS].indexed(BY_CONTROLLER, namespace, owner["metadata"]["uid"])
        return tuple(
            job_facts(job, self.caches.stores[PODS].indexed(BY_CONTROLLER, namespace, job["metadata"]["uid"]))
            for job in found
        )

    def pods(self, namespace: str, instance: str) -> tuple[PodFacts, ...]:
        """The serving pods of an instance with their latest answers."""
        zones = self._zones()
        facts = (
            pod_facts(pod, zones)
            for pod in self.caches.stores[PODS].indexed(BY_INSTANCE, namespace, label_value(instance))
        )
        return tuple(self._answered(namespace, instance, pod) for pod in facts)

    async def certificate(self, manifest: Manifest) -> PemSource:
        """The text that a ClientCertificate gives, inline or by a Secret."""
        spec = manifest["spec"]
        member = spec.get("leaf") or spec.get("authority") or {}
        if member.get("pem") is not None:
            return PemSource(pem=member["pem"])
        reference = member.get("secretRef") or {}
        if not reference.get("name"):
            return PemSource(pem="")
        key = reference.get("key") or CERTIFICATE_KEY
        return await self.texts.pem(manifest["metadata"]["namespace"], reference["name"], key)

    async def allowlist(self, namespace: str, secret: str) -> Allowlist | None:
        """The content of an allowlist Secret, ``None`` when it is absent or unreadable.

        The last few are kept parsed: every certificate of an instance is compared with the same one.
        """
        text = await self.texts.text(namespace, secret, ALLOWLIST_KEY)
        if text is None:
            return None
        place = (namespace, secret)
        known = self._allowlists.get(place)
        if known is None or known[0] != text:
            known = self._allowlists[place] = (text, _parse_allowlist(text))
        self._allowlists.move_to_end(place)
        while len(self._allowlists) > _PARSED_ALLOWLISTS:
            self._allowlists.popitem(last=False)
        return known[1]

    def _answered(self, namespace: str, instance: str, pod: PodFacts) -> PodFacts:
        answer = self.answers.one(namespace, instance, pod.uid)
        return replace(pod, status=answer.status, status_error=answer.error)

    def _zones(self) -> dict[str, str]:
        if not self.caches.has_nodes:
            return {}
        found: dict[str, str] = {}
        for node in self.caches.stores[NODES].all():
            zone = (node["metadata"].get("labels") or {}).get(ZONE_LABEL)
            if zone:
                found[node["metadata"]["name"]] = zone
        return found


def _parse_allowlist(text: str) -> Allowlist | None:
    try:
        return Allowlist.model_validate_json(text)
    except ValidationError:
        return None

"""Whether the certificate that a ClientCertificate gives can be trusted, and its entry in the allowlist."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from kmip_contract.allowlist import AllowlistEntry, EntryState, EntryType, SubjectMatch
from kmip_contract.model import explain
from kmip_contract.permissions import PROFILES, PermissionProfile
from kmip_operator import pki
from kmip_operator.clientcertificate.model import ClientCertificateSpec, Permissions
from kmip_operator.conditions import Problem
from kmip_operator.facts import PemSource
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason


@dataclass(frozen=True)
class Examined:
    """What a ClientCertificate gives: ``problem`` says why it cannot be trusted, ``facts`` are there whenever it parses."""

    name: str
    uid: str
    created: str
    spec: ClientCertificateSpec | None
    facts: pki.CertificateFacts | None
    problem: Problem | None

    @property
    def age(self) -> tuple[str, str, str]:
        """Sorts the older object first."""
        return self.created, self.name, self.uid


def examine(manifest: Manifest, source: PemSource, now: datetime) -> Examined:
    """Check one certificate by itself; whether another object has the same is not looked at here."""
    metadata = manifest["metadata"]
    identity = (metadata["name"], metadata.get("uid", ""), metadata.get("creationTimestamp", ""))
    try:
        spec = ClientCertificateSpec.model_validate(manifest["spec"])
    except ValidationError as error:
        return Examined(*identity, None, None, _stalled(Reason.INVALID_SPEC, f"spec: {explain(error)}."))
    where = _where(spec, source)
    if source.pem is None:
        return Examined(*identity, spec, None, _absent(source, where))
    try:
        facts = pki.read_one(source.pem, where)
    except pki.CertificateProblem as problem:
        return Examined(*identity, spec, None, _stalled(problem.reason, problem.message))
    return Examined(*identity, spec, facts, _untrusted(spec, facts, where, now))


def _where(spec: ClientCertificateSpec, source: PemSource) -> str:
    member = "leaf" if spec.type is EntryType.LEAF else "authority"
    if source.secret_name is None:
        return f"spec.{member}.pem"
    return f"spec.{member}.secretRef: key {source.secret_key} of Secret {source.secret_name}"


def _absent(source: PemSource, where: str) -> Problem:
    if source.problem == Reason.SECRET_KEY_MISSING:
        return _stalled(Reason.SECRET_KEY_MISSING, f"{where} does not exist. Name the key that holds the certificate.")
    field = where.partition(":")[0]
    return _stalled(
        Reason.SECRET_MISSING,
        f"{field}: there is no Secret {source.secret_name} in this namespace. Create it with the certificate in its key "
        f"{source.secret_key}.",
    )


def _untrusted(spec: ClientCertificateSpec, facts: pki.CertificateFacts, where: str, now: datetime) -> Problem | None:
    if spec.type is EntryType.AUTHORITY and not facts.authority:
        return _stalled(
            Reason.NOT_AN_AUTHORITY,
            f"{where}: {facts.subject} is not an authority (no CA in its basic constraints). Give the authority's certificate, "
            "or use type Leaf.",
        )
    if now >= facts.not_after:
        return _stalled(
            Reason.CERTIFICATE_EXPIRED,
            f"{where}: the certificate expired on {facts.not_after:%Y-%m-%d %H:%M} UTC. Give its successor.",
        )
    return None


def _stalled(reason: Reason, message: str) -> Problem:
    return Problem(reason, message, stalled=True)


def oldest(examined: list[Examined]) -> list[Examined]:
    """Of those that give the same certificate to one instance, the oldest object; those that give none are left out."""
    keepers: dict[str, Examined] = {}
    for item in sorted((item for item in examined if item.facts is not None), key=lambda item: item.age):
        if item.facts is not None:
            keepers.setdefault(item.facts.sha256, item)
    return list(keepers.values())


def entry(examined: Examined) -> AllowlistEntry | None:
    """The allowlist entry, ``None`` for what cannot be trusted; kmipd itself waits for one that is not valid yet."""
    if examined.problem is not None or examined.spec is None or examined.facts is None:
        return None
    spec, facts = examined.spec, examined.facts
    match = spec.authority.match if spec.type is EntryType.AUTHORITY and spec.authority else None
    return AllowlistEntry(
        name=examined.name,
        type=spec.type,
        sha256=facts.sha256,
        pem=facts.pem,
        match=SubjectMatch(**match.model_dump()) if match else None,
        operations=operations(spec.permissions),
        state=spec.state or EntryState.ACTIVE,
        not_before=facts.not_before,
        not_after=facts.not_after,
    )


def operations(permissions: Permissions | None) -> frozenset[str]:
    """The KMIP operations that are permitted; the profile VSphere unless something else is said."""
    if permissions is not None and permissions.operations is not None:
        return frozenset(permissions.operations)
    profile = permissions.profile if permissions is not None else None
    return PROFILES[profile or PermissionProfile.VSPHERE]

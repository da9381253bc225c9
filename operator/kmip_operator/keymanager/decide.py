"""Decides what must be done for a KeyManager: try each credential once, and say what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure, ProviderFacts
from kmip_operator.conditions import Finding, Problem, render, summarise, transitions, truth
from kmip_operator.facts import ObjectMeta
from kmip_operator.invalid import invalid_spec
from kmip_operator.keymanager import jobs
from kmip_operator.keymanager.children import probe_request, request_id, root_key_job
from kmip_operator.keymanager.custody import Use, secret_key, uses
from kmip_operator.keymanager.model import (
    ConfirmedCredential,
    ConfirmedCredentials,
    KeyManagerSpec,
    KeyManagerStatus,
    Provider,
    RefusedCredential,
)
from kmip_operator.keymanager.snapshot import KeyManagerSnapshot
from kmip_operator.plan import Manifest, Plan
from kmip_operator.reasons import Reason

# What each error says about the three steps: reachable, initialised, authorised.
_STEPS: dict[CustodyErrorKind, tuple[bool | None, bool | None, bool | None]] = {
    CustodyErrorKind.TOKEN_NOT_FOUND: (True, False, None),
    CustodyErrorKind.CREDENTIAL_REFUSED: (True, True, False),
    CustodyErrorKind.AUTHORIZATION_LOST: (True, True, False),
    CustodyErrorKind.ROOT_KEY_UNSUITABLE: (True, True, True),
}
# Seconds; the HMAC key's own event comes sooner.
_SOON = 1.0
# As many as anybody mistypes before finding the right one; each is one login that must not be repeated.
_REFUSALS_KEPT = 16
_REFUSAL_TEXT = 1024
_NOT_REACHED = (False, None, None)
_UNKNOWN = (None, None, None)


@dataclass(frozen=True)
class _Trial:
    """One credential, and where its request stands."""

    use: Use
    identity: str
    confirmed: ConfirmedCredential | None
    record: jobs.Record

    @property
    def done(self) -> bool:
        return self.confirmed is not None and self.confirmed.request == self.identity


def decide(snapshot: KeyManagerSnapshot, now: datetime) -> Plan:
    """What must be done for a KeyManager.

    Args:
        snapshot: what was observed, after ``prepare``.
        now: the time.
    """
    try:
        spec = KeyManagerSpec.model_validate(snapshot.object["spec"])
    except ValidationError as error:
        return invalid_spec(snapshot.object, error, now)
    before = previous_status(snapshot.object)
    missing = tuple(_missing(snapshot, spec))
    trials = tuple(_trials(snapshot, spec, before, now)) if not missing else ()
    first = () if missing or trials else (Problem(Reason.PROBING, "The credentials will be tried in a moment."),)
    problems = (*missing, *first, *(found for trial in trials if (found := _problem(trial)) is not None))
    findings = (
        *summarise(problems, ready="The key manager accepts the credentials."),
        *_steps(missing, trials),
    )
    facts = next((trial.record.success.facts for trial in trials if trial.record.success is not None), None)
    provider = _provider(facts) if facts else before.provider
    status = KeyManagerStatus(
        observed_generation=snapshot.object["metadata"].get("generation", 0),
        provider=provider,
        summary=_summary(provider),
        credentials=_confirmed(before, trials),
        refused_credentials=_refusals(before, trials),
        root_keys=list(snapshot.root_keys) or None,
    ).to_manifest()
    status["conditions"] = render(findings, snapshot.object, now)
    waits = [_SOON] if first else []
    waits += [trial.record.wait for trial in trials if not trial.done and trial.record.wait is not None]
    current = [trial.identity for trial in trials]
    return Plan(
        status=status,
        create=(*_material(snapshot), *_new_jobs(snapshot, spec, trials)),
        delete=jobs.outdated(snapshot.jobs, current, snapshot.object["metadata"]["namespace"]) if trials else (),
        events=transitions(findings, snapshot.object),
        requeue_after=min(waits, default=None),
    )


def previous_status(key_manager: Manifest) -> KeyManagerStatus:
    """The status as it stands; empty when there is none, or when another release wrote what this one cannot read."""
    try:
        return KeyManagerStatus.model_validate(key_manager.get("status") or {})
    except ValidationError:
        return KeyManagerStatus()


def _missing(snapshot: KeyManagerSnapshot, spec: KeyManagerSpec) -> Iterator[Problem]:
    for use in uses(spec):
        name, key = secret_key(spec, use.credential)
        if name not in snapshot.secrets:
            yield Problem(
                Reason.SECRET_MISSING,
                f"{use.path}: there is no Secret {name} in this namespace. Create it with the credential in its key {key}.",
                stalled=True,
            )
    if spec.pkcs11 is None:
        return
    config = spec.pkcs11.config_secret_ref
    if config and config.name not in snapshot.secrets:
        yield Problem(
            Reason.SECRET_MISSING,
            f"spec.pkcs11.configSecretRef: there is no Secret {config.name} in this namespace. Create it with the library's "
            "configuration files.",
            stalled=True,
        )
    claim = spec.pkcs11.volume_claim_ref
    if claim and claim.name not in snapshot.volume_claims:
        yield Problem(
            Reason.VOLUME_CLAIM_MISSING,
            f"spec.pkcs11.volumeClaimRef: there is no PersistentVolumeClaim {claim.name} in this namespace. Create it.",
            stalled=True,
        )


def _trials(
    snapshot: KeyManagerSnapshot, spec: KeyManagerSpec, before: KeyManagerStatus, now: datetime
) -> Iterator[_Trial]:
    """None before the HMAC key exists: what is tried is known by it, and a credential must not be tried under two names."""
    if snapshot.credential_check is not None:
        for use in uses(spec):
            yield _trial(snapshot, spec, before, use, now, snapshot.credential_check)


def _trial(
    snapshot: KeyManagerSnapshot,
    spec: KeyManagerSpec,
    before: KeyManagerStatus,
    use: Use,
    now: datetime,
    check: ObjectMeta,
) -> _Trial:
    request, secrets = probe_request(spec), dict(snapshot.secrets)
    identity = request_id(snapshot.object, spec, snapshot.images, request, use.credential, secrets, check.uid)
    known = before.credentials
    confirmed = (known.use if use.purpose == "use" else known.manage) if known else None
    record = jobs.record(snapshot.jobs, identity, now)
    if record.success is None:
        record = _as_refused(before, identity) or record
    if record.success is not None and record.success.credential_hmac:
        meta = snapshot.secrets[secret_key(spec, use.credential)[0]]
        confirmed = ConfirmedCredential(
            secret_uid=meta.uid,
            secret_resource_version=meta.resource_version,
            hmac=record.success.credential_hmac,
            request=identity,
        )
    return _Trial(use, identity, confirmed, record)


def _as_refused(before: KeyManagerStatus, identity: str) -> jobs.Record | None:
    """The refusal the status remembers: the pod that said so, and its Job, may be gone."""
    for known in before.refused_credentials or ():
        if known.request == identity:
            failure = CustodyFailure(kind=CustodyErrorKind.CREDENTIAL_REFUSED, message=known.message)
            return jobs.Record(failure=failure)
    return None


def _refusals(before: KeyManagerStatus, trials: Sequence[_Trial]) -> list[RefusedCredential] | None:
    """Those known and those found now; the oldest are forgotten."""
    known = {item.request: item for item in before.refused_credentials or ()}
    for trial in trials:
        if trial.record.refused and trial.record.failure is not None:
            message = trial.record.failure.message[:_REFUSAL_TEXT]
            known.setdefault(trial.identity, RefusedCredential(request=trial.identity, message=message))
    return list(known.values())[-_REFUSALS_KEPT:] or None


def _problem(trial: _Trial) -> Problem | None:
    if trial.done:
        return None
    if trial.record.success is not None:
        return Problem(
            Reason.JOB_FAILED,
            f"{trial.use.path}: Job {trial.record.job} did not say which credential it tried. Use a custody image of the "
            "operator's release.",
            stalled=True,
        )
    return jobs.problem(trial.record, trial.use.path, "the credential is being tried, once")


def _steps(missing: Sequence[Problem], trials: Sequence[_Trial]) -> Iterator[Finding]:
    failed = next((trial.record for trial in trials if not trial.done and trial.record.failure), None)
    failure = failed.failure if failed is not None else None
    if trials and all(trial.done for trial in trials):
        steps: tuple[bool | None, bool | None, bool | None] = (True, True, True)
    elif failed is None or failure is None or failed.unanswered:
        steps = _UNKNOWN
    elif failure.kind in {CustodyErrorKind.CONFIGURATION, CustodyErrorKind.MODULE_NOT_FOUND} | jobs.RETRIED:
        steps = _NOT_REACHED
    else:
        steps = _STEPS.get(failure.kind, _UNKNOWN)
    names = (Reason.REACHABLE, Reason.INITIALIZED, Reason.AUTHORIZED)
    messages = ("The key manager answers.", "The token is initialised.", "The credentials are accepted.")
    for name, message, holds in zip(names, messages, steps, strict=True):
        if holds:
            yield Finding(name, "True", name, message)
        elif failed is not None and failure is not None:
            yield Finding(name, truth(holds), failed.reason, failure.message)
        elif missing:
            yield Finding(name, "Unknown", missing[0].reason, missing[0].message)
        else:
            yield Finding(name, "Unknown", Reason.PROBING, "It has not been tried yet.")


def _material(snapshot: KeyManagerSnapshot) -> tuple[Manifest, ...]:
    if snapshot.credential_check is None and snapshot.new_credential_check is not None:
        return (snapshot.new_credential_check,)
    return ()


def _new_jobs(snapshot: KeyManagerSnapshot, spec: KeyManagerSpec, trials: Sequence[_Trial]) -> Iterator[Manifest]:
    name = snapshot.object["metadata"]["name"]
    for trial in trials:
        if not trial.done and trial.record.start is not None:
            yield root_key_job(
                snapshot.object,
                name,
                spec,
                snapshot.images,
                probe_request(spec),
                trial.use.credential,
                identity=trial.identity,
                attempt=trial.record.start,
            )


def _confirmed(before: KeyManagerStatus, trials: Sequence[_Trial]) -> ConfirmedCredentials | None:
    """What is confirmed stays until another is: serving pods have logged in with it."""
    if not trials:
        return before.credentials
    by_purpose = {trial.use.purpose: trial.confirmed for trial in trials}
    manage = by_purpose.get("manage")
    if by_purpose.get("use") is None and manage is None:
        return None
    return ConfirmedCredentials(use=by_purpose.get("use"), manage=manage)


def _provider(facts: ProviderFacts) -> Provider:
    return Provider(**{name: value or None for name, value in facts.model_dump().items()})


def _summary(provider: Provider | None) -> str | None:
    if provider is None:
        return None
    words = [provider.manufacturer, provider.model, provider.firmware]
    return " ".join(word for word in words if word) or None

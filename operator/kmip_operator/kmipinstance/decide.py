"""Decides what must be done for a KmipInstance: its children, its allowlist, which pods serve, and what is said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from kmip_contract.allowlist import Serving
from kmip_operator import naming
from kmip_operator.conditions import Problem, render, summarise, transitions, until
from kmip_operator.invalid import invalid_spec
from kmip_operator.keymanager.children import input_marks, secret_mark
from kmip_operator.kmipinstance import allowlist, keyspace, pods
from kmip_operator.kmipinstance.children import (
    Site,
    disruption_budget,
    headless_service,
    postgresql,
    service,
    service_account,
    sites,
)
from kmip_operator.kmipinstance.configuration import config_map, custody_config, kmipd_config, restart_id
from kmip_operator.kmipinstance.model import KmipInstanceSpec, KmipInstanceStatus
from kmip_operator.kmipinstance.references import Material, resolve
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.kmipinstance.verdict import Decision, findings, lacking_names, status
from kmip_operator.kmipinstance.workload import PodInputs, workload
from kmip_operator.plan import Event, Manifest, Plan, Ref
from kmip_operator.reasons import Reason

# Kinds whose objects go when nothing asks for them any more.
_PRUNED = frozenset({"Deployment", "StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget", "ServiceAccount"})
# Seconds; the last volume claim's end is an event that may come sooner.
_SOON = 1.0
# What pods need to run; left alone while it cannot be built.
_RUNNING = frozenset({"Deployment", "StatefulSet", "ConfigMap", "PodDisruptionBudget", "ServiceAccount"})


def decide(snapshot: KmipInstanceSnapshot, now: datetime) -> Plan:
    """What must be done for a KmipInstance.

    Args:
        snapshot: what was observed, after ``prepare``.
        now: the time.
    """
    try:
        spec = KmipInstanceSpec.model_validate(snapshot.object["spec"])
    except ValidationError as error:
        return invalid_spec(snapshot.object, error, now)
    waiting = keyspace.leaving(snapshot)
    if waiting is not None:
        return _wait(snapshot.object, waiting, now)
    decision = Decision(
        snapshot=snapshot,
        spec=spec,
        places=sites(spec),
        references=resolve(snapshot, spec),
        published=allowlist.render(snapshot, spec.serving or Serving.ENABLED, now),
        keyspace=keyspace.keyspace(snapshot),
        now=now,
    )
    wanted = _children(decision)
    revision = decision.published.content.revision
    patches, pod_events = pods.patches(snapshot.pods, revision, decision.published.since, _mounted_hash(decision), now)
    found, waits = findings(decision)
    answering = [pod for pod in snapshot.pods if not pod.deleting]
    unconfirmed = [pod for pod in answering if not pods.confirmed(pod, revision)]
    waits += [
        (due - now).total_seconds()
        for pod in unconfirmed
        if pod.ready and (due := pods.confirmation_due(pod, decision.published.since)) > now
    ]
    waits += _certificate_ends(decision)
    leftover = _leftover_control(snapshot)
    # No event tells that a pod got the root key back.
    lost = pods.root_key_finding(snapshot.pods).status == "False"
    return Plan(
        create=(*_new_secrets(snapshot),),
        apply=wanted,
        replace=(snapshot.new.renewed_server,) if snapshot.new.renewed_server else (),
        delete=(*_superfluous(decision, wanted), *leftover),
        pod_patches=patches,
        status=status(decision, found),
        events=(*pod_events, *_events(decision), *transitions(found, snapshot.object)),
        requeue_after=0.1 if leftover else min(waits, default=None),
        poll_pods=bool(unconfirmed) or lost,
    )


def _wait(instance: Manifest, problem: Problem, now: datetime) -> Plan:
    """Build nothing yet."""
    found = summarise([problem], ready="")
    status = KmipInstanceStatus(observed_generation=instance["metadata"].get("generation", 0)).to_manifest()
    status["conditions"] = render(found, instance, now)
    return Plan(status=status, events=transitions(found, instance), requeue_after=_SOON)


def _children(decision: Decision) -> tuple[Manifest, ...]:
    """Everything that must exist, in the order in which it is needed."""
    instance, spec = decision.instance, decision.spec
    found: list[Manifest | None] = [
        # First: a revocation does not wait for anything else.
        allowlist.secret(instance, decision.published),
        service_account(instance),
        *keyspace.retained(decision.snapshot, spec),
        *(service(instance, site) for site in decision.places),
        headless_service(instance, spec),
    ]
    material = decision.references.material
    if decision.references.permitted and material is not None:
        for site in decision.places:
            found += _site_children(decision, material, site)
    return tuple(manifest for manifest in found if manifest is not None)


def _site_children(decision: Decision, material: Material, site: Site) -> list[Manifest | None]:
    instance, spec, snapshot = decision.instance, decision.spec, decision.snapshot
    custody = custody_config(material.key_manager, material.root_key, material.credential_hmac)
    mark = restart_id(kmipd_config(instance, spec, site, None), custody)
    kmipd = kmipd_config(instance, spec, site, decision.keyspace, mark)
    inputs = PodInputs(
        instance=instance,
        spec=spec,
        site=site,
        key_manager_name=material.key_manager_name,
        key_manager=material.key_manager,
        images=snapshot.images,
        restart_id=mark,
        input_marks=tuple(input_marks(material.key_manager, dict(snapshot.secrets))),
    )
    return [config_map(instance, site, kmipd, custody), workload(inputs), disruption_budget(instance, site)]


def _mounted_hash(decision: Decision) -> str | None:
    """Marks on the pods what they take in while they run, which makes the kubelet bring a new one at once.

    Custody's configuration, the credential (when a Job has confirmed it), the database's connection (for new connections).
    """
    material = decision.references.material
    if material is None or not decision.references.permitted:
        return None
    content = custody_config(material.key_manager, material.root_key, material.credential_hmac).to_json()
    secrets = dict(decision.snapshot.secrets)
    marks = input_marks(material.key_manager, secrets, material.key_manager.credentials.use)
    database = postgresql(decision.spec)
    if database is not None:
        marks.append(secret_mark(database.connection_secret_ref.name, secrets))
    return hashlib.sha256(content + "\n".join(marks).encode()).hexdigest()[:16]


def _new_secrets(snapshot: KmipInstanceSnapshot) -> tuple[Manifest, ...]:
    new = snapshot.new
    return tuple(made for made in (new.authority, new.server, *new.control) if made is not None)


def _leftover_control(snapshot: KmipInstanceSnapshot) -> tuple[Ref, ...]:
    """One side of /status without the other is of no use: both are made anew together."""
    if len(snapshot.control) != 1:
        return ()
    namespace = snapshot.object["metadata"]["namespace"]
    return tuple(Ref("v1", "Secret", namespace, name) for name in snapshot.control)


def _superfluous(decision: Decision, wanted: Sequence[Manifest]) -> tuple[Ref, ...]:
    """Children that nothing asks for: a removed region's, or all that serve when that is not permitted."""
    needed = {Ref.of(manifest) for manifest in wanted}
    keep_running = decision.references.permitted and decision.references.material is None
    owner = decision.instance["metadata"]["uid"]
    return tuple(
        ref
        for child in decision.snapshot.children
        if child["kind"] in _PRUNED
        and (ref := Ref.of(child)) not in needed
        and not (keep_running and child["kind"] in _RUNNING)
        and not child["metadata"].get("deletionTimestamp")
        and any(reference["uid"] == owner for reference in child["metadata"].get("ownerReferences") or [])
    )


def _certificate_ends(decision: Decision) -> list[float]:
    """When the next client certificate leaves the allowlist by its end."""
    ends = [entry.not_after for entry in decision.published.content.entries if entry.not_after > decision.now]
    return [until(min(ends), decision.now)] if ends else []


def _events(decision: Decision) -> tuple[Event, ...]:
    found = []
    before = decision.instance.get("status") or {}
    if decision.keyspace and not before.get("keyspace"):
        message = f"The instance's keys are keyspace {decision.keyspace}."
        found.append(Event("Normal", Reason.KEYSPACE_BOUND, message))
    if decision.snapshot.new.renewed_server is not None:
        message = "A new server certificate was made; clients that accepted the one before must accept it."
        found.append(Event("Normal", Reason.SERVER_CERTIFICATE_RENEWED, message))
    missing = lacking_names(decision)
    known = (before.get("serverCertificate") or {}).get("missingNames")
    if missing and missing != known:
        message = (
            f"The server certificate lacks {', '.join(missing)}. Clients that check names need a new one: annotate the "
            f"instance with {naming.ANNOTATION_RENEW_SERVER}."
        )
        found.append(Event("Warning", Reason.SERVER_CERTIFICATE_NAMES_DIFFER, message))
    return tuple(found)

"""Decides what must be done for a RootKey: create or adopt the key once, and say what depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import ValidationError

from kmip_contract.rootkey import RootKeyResult, RootKeyVersion
from kmip_operator import naming
from kmip_operator.conditions import (
    READY,
    STALLED,
    Finding,
    Problem,
    find,
    holds,
    render,
    summarise,
    transitions,
)
from kmip_operator.invalid import invalid_spec
from kmip_operator.keymanager import jobs
from kmip_operator.keymanager.children import request_id, root_key_job
from kmip_operator.keymanager.custody import managing, secret_key, uses
from kmip_operator.keymanager.decide import previous_status as key_manager_status
from kmip_operator.keymanager.model import ConfirmedCredential, KeyManagerSpec
from kmip_operator.plan import Event, Manifest, Plan, Ref
from kmip_operator.reasons import Reason
from kmip_operator.rootkey.children import request
from kmip_operator.rootkey.model import (
    BoundKeyspace,
    KeyspaceState,
    KeyVersion,
    RootKeySpec,
    RootKeyStatus,
    SourceType,
)
from kmip_operator.rootkey.snapshot import RootKeySnapshot

USABLE = "Usable"
ROOT_KEY_USABLE = "RootKeyUsable"


def decide(snapshot: RootKeySnapshot, now: datetime) -> Plan:
    """What must be done for a RootKey.

    Args:
        snapshot: what was observed.
        now: the time.
    """
    try:
        spec = RootKeySpec.model_validate(snapshot.object["spec"])
        key_manager = KeyManagerSpec.model_validate(snapshot.key_manager["spec"]) if snapshot.key_manager else None
    except ValidationError as error:
        return invalid_spec(snapshot.object, error, now)
    before = previous_status(snapshot.object)
    keyspaces = tuple(_keyspaces(snapshot))
    if before.key_id is not None:
        # The key exists and its spec cannot change: nothing the key manager says now makes it another key.
        return _plan(snapshot, before, keyspaces, _later_problems(snapshot), now)
    waiting = _waiting(snapshot, spec, key_manager)
    confirmed = _confirmed(snapshot, key_manager)
    if waiting is not None or key_manager is None or confirmed is None:
        return _plan(snapshot, before, keyspaces, (waiting,) if waiting else (), now)
    return _obtain(snapshot, spec, key_manager, confirmed.hmac, keyspaces, now)


def previous_status(root_key: Manifest) -> RootKeyStatus:
    """The status as it stands; empty when there is none, or when another release wrote what this one cannot read."""
    try:
        return RootKeyStatus.model_validate(root_key.get("status") or {})
    except ValidationError:
        return RootKeyStatus()


def _waiting(snapshot: RootKeySnapshot, spec: RootKeySpec, key_manager: KeyManagerSpec | None) -> Problem | None:
    """Why the Job cannot run yet."""
    name = spec.key_manager_ref.name
    if snapshot.key_manager is None or key_manager is None:
        return _no_key_manager(name)
    if not holds(snapshot.key_manager, READY):
        return _key_manager_not_ready(snapshot.key_manager)
    secret, _ = secret_key(key_manager, managing(key_manager))
    if secret not in snapshot.secrets:
        return Problem(
            Reason.SECRET_MISSING,
            f"spec.keyManagerRef: KeyManager {name} needs the Secret {secret}, which does not exist. Create it.",
            stalled=True,
        )
    if _confirmed(snapshot, key_manager) is None:
        return Problem(
            Reason.KEY_MANAGER_NOT_READY,
            f"spec.keyManagerRef: KeyManager {name} has yet to try the credential that is in Secret {secret} now.",
        )
    return None


def _confirmed(snapshot: RootKeySnapshot, key_manager: KeyManagerSpec | None) -> ConfirmedCredential | None:
    """The managing credential as the KeyManager has confirmed it, ``None`` when the Secret is another by now."""
    if snapshot.key_manager is None or key_manager is None:
        return None
    known = key_manager_status(snapshot.key_manager).credentials
    confirmed = (known.manage if len(uses(key_manager)) > 1 else known.use) if known else None
    secret = snapshot.secrets.get(secret_key(key_manager, managing(key_manager))[0])
    if confirmed is None or secret is None:
        return None
    same = (secret.uid, secret.resource_version) == (confirmed.secret_uid, confirmed.secret_resource_version)
    return confirmed if same else None


def _no_key_manager(name: str) -> Problem:
    return Problem(
        Reason.KEY_MANAGER_MISSING,
        f"spec.keyManagerRef: there is no KeyManager {name} in this namespace. Create it.",
        stalled=True,
    )


def _key_manager_not_ready(key_manager: Manifest) -> Problem:
    name = key_manager["metadata"]["name"]
    ready = find(key_manager, READY)
    why = f": {ready['message']}" if ready else "."
    return Problem(
        Reason.KEY_MANAGER_NOT_READY,
        f"spec.keyManagerRef: KeyManager {name} is not ready{why}",
        stalled=holds(key_manager, STALLED),
    )


def _later_problems(snapshot: RootKeySnapshot) -> tuple[Problem, ...]:
    """What is wrong although the key exists; serving does not depend on the KeyManager object."""
    if snapshot.key_manager is None:
        return (_no_key_manager(snapshot.object["spec"]["keyManagerRef"]["name"]),)
    return ()


def _obtain(
    snapshot: RootKeySnapshot,
    spec: RootKeySpec,
    key_manager: KeyManagerSpec,
    confirmed: str,
    keyspaces: tuple[BoundKeyspace, ...],
    now: datetime,
) -> Plan:
    wanted = request(snapshot.object, spec, key_manager, confirmed)
    credential = managing(key_manager)
    identity = request_id(snapshot.object, key_manager, snapshot.images, wanted, credential, dict(snapshot.secrets))
    record = jobs.record(snapshot.jobs, identity, now)
    creating = spec.source.type is SourceType.CREATE
    delete = jobs.outdated(snapshot.jobs, [identity], snapshot.object["metadata"]["namespace"])
    if record.success is not None and record.success.root_key is not None and record.success.root_key.versions:
        status = _key_status(record.success)
        reason, message = _obtained(record.success, creating=creating)
        return _plan(snapshot, status, keyspaces, (), now, events=(Event("Normal", reason, message),), delete=delete)
    problem = jobs.problem(
        record, "spec.source", "the key is being created" if creating else "the key is being looked for and tested"
    ) or Problem(
        Reason.JOB_FAILED,
        f"spec.source: Job {record.job} did not name the key. Use a custody image of the operator's release.",
        stalled=True,
    )
    if problem.reason is Reason.PROBING:
        problem = Problem(Reason.KEY_CREATING if creating else Reason.KEY_ADOPTING, problem.message)
    new: tuple[Manifest, ...] = ()
    if record.start is not None:
        new = (
            root_key_job(
                snapshot.object,
                spec.key_manager_ref.name,
                key_manager,
                snapshot.images,
                wanted,
                credential,
                identity=identity,
                attempt=record.start,
            ),
        )
    return _plan(
        snapshot,
        RootKeyStatus(),
        keyspaces,
        (problem,),
        now,
        create=new,
        delete=delete,
        requeue_after=record.wait,
    )


def _key_status(result: RootKeyResult) -> RootKeyStatus:
    if result.root_key is None:
        raise ValueError("a result without a key")
    versions = sorted(result.root_key.versions, key=lambda version: version.version)
    return RootKeyStatus(
        key_id=result.root_key.key_id,
        current_version=_current(versions),
        versions=[
            KeyVersion(version=version.version, handle=version.handle, state=str(version.state)) for version in versions
        ],
    )


def _current(versions: Iterable[RootKeyVersion]) -> int:
    return max((version.version for version in versions if version.state == "Active"), default=0)


def _obtained(result: RootKeyResult, *, creating: bool) -> tuple[Reason, str]:
    key_id = result.root_key.key_id if result.root_key else ""
    if not creating:
        return Reason.KEY_ADOPTED, f"Key {key_id} was found, wraps and unwraps."
    if result.created:
        return Reason.KEY_CREATED, f"Key {key_id} was created in the key manager."
    return Reason.KEY_TAKEN_BACK, f"Key {key_id}, which a RootKey of this name created before, was taken back."


def _plan(
    snapshot: RootKeySnapshot,
    key: RootKeyStatus,
    keyspaces: tuple[BoundKeyspace, ...],
    problems: tuple[Problem, ...],
    now: datetime,
    *,
    create: tuple[Manifest, ...] = (),
    delete: tuple[Ref, ...] = (),
    events: tuple[Event, ...] = (),
    requeue_after: float | None = None,
) -> Plan:
    usable = _usable(snapshot, key)
    revoked = (Problem(usable.reason, usable.message, stalled=True),) if usable.reason is Reason.REVOKED else ()
    findings = (
        *summarise((*problems, *revoked), ready=f"Key {key.key_id} wraps the keys of {_count(keyspaces)}."),
        usable,
    )
    status = RootKeyStatus(
        observed_generation=snapshot.object["metadata"].get("generation", 0),
        key_id=key.key_id,
        current_version=key.current_version,
        versions=key.versions,
        keyspaces=list(keyspaces) or None,
    ).to_manifest()
    status["conditions"] = render(findings, snapshot.object, now)
    return Plan(
        status=status,
        create=create,
        delete=delete,
        events=(*events, *transitions(findings, snapshot.object)),
        requeue_after=requeue_after,
    )


def _count(keyspaces: tuple[BoundKeyspace, ...]) -> str:
    return (
        "no instance yet" if not keyspaces else "1 keyspace" if len(keyspaces) == 1 else f"{len(keyspaces)} keyspaces"
    )


def _usable(snapshot: RootKeySnapshot, key: RootKeyStatus) -> Finding:
    """What the serving pods say of the key; the worst answer counts."""
    if key.key_id is None:
        return Finding(USABLE, "Unknown", Reason.NOT_IN_USE, "There is no key yet.")
    reports = [
        (instance["metadata"]["name"], condition)
        for instance in snapshot.instances
        if (condition := find(instance, ROOT_KEY_USABLE)) is not None
    ]
    bad = [(name, condition) for name, condition in reports if condition["status"] == "False"]
    if bad:
        name, condition = min(bad, key=lambda report: (report[1]["reason"] != Reason.REVOKED, report[0]))
        reason = Reason.REVOKED if condition["reason"] == Reason.REVOKED else Reason.UNREACHABLE
        return Finding(USABLE, "False", reason, f"KmipInstance {name}: {condition['message']}")
    if any(condition["status"] == "True" for _, condition in reports):
        return Finding(USABLE, "True", Reason.USABLE, "Serving pods unwrap keys with it.")
    return Finding(USABLE, "Unknown", Reason.NOT_IN_USE, "No pod serves with it.")


def _keyspaces(snapshot: RootKeySnapshot) -> Iterator[BoundKeyspace]:
    """The keyspaces of instances, then of what earlier instances left behind; sorted by id within each."""
    serving = {
        keyspace: instance["metadata"]["name"]
        for instance in snapshot.instances
        if (keyspace := (instance.get("status") or {}).get("keyspace"))
    }
    retained = {
        item.labels[naming.LABEL_KEYSPACE]: item.labels.get(naming.LABEL_INSTANCE, "")
        for item in snapshot.retained
        if item.labels.get(naming.LABEL_KEYSPACE) and not item.deleting
    }
    for keyspace, name in sorted(serving.items()):
        yield BoundKeyspace(id=keyspace, instance=name, state=KeyspaceState.SERVING)
    for keyspace, name in sorted(retained.items()):
        if keyspace not in serving:
            yield BoundKeyspace(id=keyspace, instance=name, state=KeyspaceState.RETAINED)

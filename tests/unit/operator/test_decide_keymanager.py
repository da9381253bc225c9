"""Decisions about a KeyManager."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.operator_samples import (
    HMAC,
    NOW,
    answered,
    key_manager,
    key_manager_after,
    key_manager_snapshot,
    meta,
    probed,
)

from kmip_contract.rootkey import CustodyErrorKind, RootKeyRequest
from kmip_operator.keymanager.decide import decide
from kmip_operator.keymanager.prepare import prepare
from kmip_operator.keymanager.snapshot import KeyManagerSnapshot
from kmip_operator.plan import Plan


def step(snapshot: KeyManagerSnapshot, now: datetime = NOW) -> tuple[KeyManagerSnapshot, Plan]:
    plan = decide(prepare(snapshot, now), now)
    return key_manager_after(snapshot, plan, now), plan


def conditions(plan: Plan) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in plan.status["conditions"]}


def message(plan: Plan, kind: str = "Stalled") -> str:
    return next(str(item["message"]) for item in plan.status["conditions"] if item["type"] == kind)


def begun(**changes: Any) -> tuple[KeyManagerSnapshot, Plan]:
    """The HMAC key exists and the credentials are being tried."""
    return step(step(key_manager_snapshot(**changes))[0])


def running() -> KeyManagerSnapshot:
    return begun()[0]


def test_a_new_key_manager_gets_a_hash_key_and_then_one_probe_for_each_credential() -> None:
    snapshot, plan = step(key_manager_snapshot())
    assert [item["kind"] for item in plan.create] == ["Secret"]
    assert plan.requeue_after == 1.0
    assert conditions(plan)["Ready"] == ("False", "Probing")
    _, plan = step(snapshot)
    assert [item["kind"] for item in plan.create] == ["Job", "Job"]
    assert conditions(plan)["Ready"] == ("False", "Probing")
    assert conditions(plan)["Reconciling"] == ("True", "Probing")
    assert conditions(plan)["Stalled"][0] == "False"


def test_one_credential_for_both_purposes_is_tried_once() -> None:
    manifest = key_manager(credentials={"use": {"secretRef": {"name": "hsm-user"}}})
    same = key_manager(
        credentials={
            "use": {"secretRef": {"name": "hsm-user"}},
            "manage": {"secretRef": {"name": "hsm-user", "key": "pin"}},
        }
    )
    for variant in (manifest, same):
        _, plan = begun(object=variant)
        assert [item["kind"] for item in plan.create] == ["Job"]


def test_the_request_in_the_job_is_what_custody_reads_and_holds_no_secret() -> None:
    _, plan = begun()
    job = plan.create[0]
    text = job["spec"]["template"]["metadata"]["annotations"]["kmip.dev/request"]
    request = RootKeyRequest.model_validate_json(text)
    assert request.connection.type == "PKCS11"
    assert job["spec"]["backoffLimit"] == 0
    assert "hmac.key" in str(request.credential and request.credential.key_file)


def test_accepted_credentials_make_it_ready_and_are_remembered() -> None:
    snapshot = running()
    snapshot = replace(snapshot, jobs=answered(snapshot.jobs, probed(), NOW))
    _, plan = step(snapshot)
    assert conditions(plan) == {
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("False", "Reconciled"),
        "Reachable": ("True", "Reachable"),
        "Initialized": ("True", "Initialized"),
        "Authorized": ("True", "Authorized"),
    }
    assert plan.status["credentials"]["use"]["hmac"] == HMAC
    assert plan.status["summary"] == "SoftHSM project SoftHSM v2 2.6"
    assert [(event.type, event.reason) for event in plan.events] == [("Normal", "Ready")]
    assert plan.requeue_after is None


def test_nothing_is_done_or_said_again_once_it_is_ready() -> None:
    snapshot = running()
    snapshot, _ = step(replace(snapshot, jobs=answered(snapshot.jobs, probed(), NOW)))
    later = NOW + timedelta(days=3)
    again, plan = step(snapshot, later)
    assert again == snapshot
    assert (plan.create, plan.apply, plan.delete, plan.events) == ((), (), (), ())


def test_a_confirmed_credential_is_not_tried_again_when_its_job_is_gone() -> None:
    snapshot = running()
    snapshot, _ = step(replace(snapshot, jobs=answered(snapshot.jobs, probed(), NOW)))
    _, plan = step(replace(snapshot, jobs=()))
    assert plan.create == ()
    assert conditions(plan)["Ready"][0] == "True"


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        (CustodyErrorKind.CREDENTIAL_REFUSED, ("True", "True", "False")),
        (CustodyErrorKind.TOKEN_NOT_FOUND, ("True", "False", "Unknown")),
        (CustodyErrorKind.MODULE_NOT_FOUND, ("False", "Unknown", "Unknown")),
        (CustodyErrorKind.CONFIGURATION, ("False", "Unknown", "Unknown")),
    ],
)
def test_an_error_that_a_person_must_mend_stalls_and_is_never_retried(
    kind: CustodyErrorKind, steps: tuple[str, str, str]
) -> None:
    snapshot = running()
    snapshot = replace(snapshot, jobs=answered(snapshot.jobs, probed(kind, "the token said no."), NOW))
    snapshot, plan = step(snapshot)
    found = conditions(plan)
    assert found["Stalled"] == ("True", kind.value)
    assert found["Ready"] == ("False", kind.value)
    assert tuple(found[name][0] for name in ("Reachable", "Initialized", "Authorized")) == steps
    assert "spec.credentials.use.secretRef: the token said no." in message(plan)
    for days in (0, 1, 365):
        _, plan = step(snapshot, NOW + timedelta(days=days))
        assert plan.create == ()
        assert plan.requeue_after is None


def test_a_wrong_pin_is_said_once() -> None:
    snapshot = running()
    refused = answered(snapshot.jobs, probed(CustodyErrorKind.CREDENTIAL_REFUSED), NOW)
    snapshot, first = step(replace(snapshot, jobs=refused))
    assert [(event.type, event.reason) for event in first.events] == [("Warning", "CredentialRefused")]
    assert step(snapshot)[1].events == ()


def test_a_refused_credential_is_not_tried_again_when_its_jobs_and_pods_are_gone() -> None:
    snapshot = running()
    refused = answered(snapshot.jobs, probed(CustodyErrorKind.CREDENTIAL_REFUSED, "the PIN is wrong."), NOW)
    snapshot, plan = step(replace(snapshot, jobs=refused))
    kept = plan.status["refusedCredentials"]
    assert [item["message"] for item in kept] == ["the PIN is wrong."] * 2
    unanswered = tuple(replace(job, result=None, pod_problem="JobNotStarted: Evicted") for job in refused)
    for jobs in ((), unanswered):
        _, plan = step(replace(snapshot, jobs=jobs), NOW + timedelta(days=1))
        assert plan.create == ()
        assert plan.requeue_after is None
        assert conditions(plan)["Stalled"] == ("True", "CredentialRefused")
        assert "the PIN is wrong." in message(plan)
        assert plan.status["refusedCredentials"] == kept


def test_a_credential_refused_before_another_one_stays_refused() -> None:
    snapshot = running()
    first = dict(snapshot.secrets)
    refused = answered(snapshot.jobs, probed(CustodyErrorKind.CREDENTIAL_REFUSED), NOW)
    snapshot, _ = step(replace(snapshot, jobs=refused))
    other = {**first, "hsm-user": meta("hsm-user", "2"), "hsm-officer": meta("hsm-officer", "2")}
    snapshot, _ = step(replace(snapshot, secrets=other))
    snapshot, _ = step(replace(snapshot, jobs=answered(snapshot.jobs, probed(), NOW)))
    _, plan = step(replace(snapshot, secrets=first))
    assert plan.create == ()
    assert conditions(plan)["Stalled"] == ("True", "CredentialRefused")


def test_refusals_that_are_remembered_are_bounded() -> None:
    snapshot = running()
    for version in range(2, 22):
        refused = answered(snapshot.jobs, probed(CustodyErrorKind.CREDENTIAL_REFUSED), NOW)
        snapshot, plan = step(replace(snapshot, jobs=refused))
        secrets = {name: meta(name, str(version)) for name in snapshot.secrets}
        snapshot, _ = step(replace(snapshot, secrets=secrets))
    assert len(plan.status["refusedCredentials"]) == 16


@pytest.mark.parametrize("problem", ["", "OOMKilled: container custody ended with exit code 137"])
def test_a_job_that_ended_without_an_answer_may_have_used_the_credential_and_is_left_to_a_person(problem: str) -> None:
    snapshot = running()
    ended = tuple(replace(job, finished=NOW, pod_problem=problem) for job in snapshot.jobs)
    for days in (0, 365):
        snapshot, plan = step(replace(snapshot, jobs=ended), NOW + timedelta(days=days))
        assert plan.create == ()
        assert plan.requeue_after is None
        assert conditions(plan)["Stalled"] == ("True", "JobFailed")
        assert conditions(plan)["Authorized"] == ("Unknown", "JobFailed")
        assert "may have used the credential" in message(plan)
        assert f"kubectl delete job {ended[0].name}" in message(plan)
        assert problem in message(plan)
    _, plan = step(replace(snapshot, jobs=()))
    assert [item["metadata"]["name"] for item in plan.create] == [job.name for job in ended]


def test_a_job_that_never_started_is_tried_again() -> None:
    snapshot = running()
    idle = tuple(
        replace(job, finished=NOW, pod_problem="JobNotStarted: Unschedulable: no node") for job in snapshot.jobs
    )
    snapshot, plan = step(replace(snapshot, jobs=idle))
    assert conditions(plan)["Stalled"][0] == "False"
    assert f"Job {idle[0].name} never started: Unschedulable: no node." in message(plan, "Ready")
    assert plan.requeue_after == 10
    _, plan = step(snapshot, NOW + timedelta(seconds=10))
    assert [item["kind"] for item in plan.create] == ["Job", "Job"]


def test_another_version_of_the_secret_is_tried_once_and_the_old_jobs_go() -> None:
    snapshot = running()
    old = answered(snapshot.jobs, probed(CustodyErrorKind.CREDENTIAL_REFUSED), NOW)
    secrets = {**snapshot.secrets, "hsm-user": meta("hsm-user", "2"), "hsm-officer": meta("hsm-officer", "2")}
    _, plan = step(replace(snapshot, jobs=old, secrets=secrets))
    assert [item["kind"] for item in plan.create] == ["Job", "Job"]
    assert {ref.name for ref in plan.delete} == {job.name for job in old}


def test_under_a_new_hash_key_the_credentials_are_tried_again() -> None:
    snapshot = running()
    snapshot, _ = step(replace(snapshot, jobs=answered(snapshot.jobs, probed(), NOW)))
    _, plan = step(replace(snapshot, credential_check=replace(meta("luna-credential-check"), uid="another")))
    assert [item["kind"] for item in plan.create] == ["Job", "Job"]


def test_what_was_confirmed_stays_while_a_new_secret_is_tried() -> None:
    snapshot = running()
    snapshot, _ = step(replace(snapshot, jobs=answered(snapshot.jobs, probed(), NOW)))
    secrets = {**snapshot.secrets, "hsm-user": meta("hsm-user", "2")}
    _, plan = step(replace(snapshot, secrets=secrets))
    assert plan.status["credentials"]["use"]["hmac"] == HMAC
    assert conditions(plan)["Ready"] == ("False", "Probing")


def test_a_key_manager_that_is_away_is_tried_again_with_growing_pauses() -> None:
    now, pauses = NOW, []
    snapshot, _ = begun(object=key_manager(credentials={"use": {"secretRef": {"name": "hsm-user"}}}))
    for _ in range(9):
        away = answered(snapshot.jobs, probed(CustodyErrorKind.UNAVAILABLE), now)
        snapshot, plan = step(replace(snapshot, jobs=away), now)
        assert plan.requeue_after is not None
        assert conditions(plan)["Stalled"][0] == "False"
        pauses.append(plan.requeue_after)
        now += timedelta(seconds=plan.requeue_after)
        snapshot, plan = step(snapshot, now)
        assert [item["kind"] for item in plan.create] == ["Job"]
        assert conditions(plan)["Reachable"] == ("False", "Unavailable")
        snapshot, plan = step(snapshot, now)
        assert len(snapshot.jobs) == 1
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_pod_that_does_not_start_is_named_while_it_is_waited_for() -> None:
    snapshot = running()
    jobs = tuple(replace(job, pod_problem="ImagePullBackOff: no such image") for job in snapshot.jobs)
    _, plan = step(replace(snapshot, jobs=jobs))
    assert "ImagePullBackOff: no such image" in message(plan, "Ready")
    assert plan.create == ()


@pytest.mark.parametrize(
    ("absent", "field"),
    [
        ("hsm-user", "spec.credentials.use.secretRef: there is no Secret hsm-user"),
        ("hsm-officer", "spec.credentials.manage.secretRef: there is no Secret hsm-officer"),
        ("hsm-conf", "spec.pkcs11.configSecretRef: there is no Secret hsm-conf"),
    ],
)
def test_a_missing_secret_stalls_and_nothing_is_tried(absent: str, field: str) -> None:
    snapshot = key_manager_snapshot()
    secrets = {name: item for name, item in snapshot.secrets.items() if name != absent}
    _, plan = step(replace(snapshot, secrets=secrets))
    assert conditions(plan)["Stalled"] == ("True", "SecretMissing")
    assert field in message(plan)
    assert [item["kind"] for item in plan.create] == ["Secret"]


def test_a_missing_volume_stalls() -> None:
    _, plan = step(key_manager_snapshot(volume_claims={}))
    assert conditions(plan)["Stalled"] == ("True", "VolumeClaimMissing")
    assert "spec.pkcs11.volumeClaimRef" in message(plan)


def test_a_spec_that_cannot_be_read_touches_nothing() -> None:
    _, plan = step(key_manager_snapshot(object=key_manager(type="Quantum")))
    assert conditions(plan)["Stalled"] == ("True", "InvalidSpec")
    assert plan.create == ()


def test_the_root_keys_that_use_it_are_listed() -> None:
    _, plan = step(key_manager_snapshot(root_keys=("crk", "other")))
    assert plan.status["rootKeys"] == ["crk", "other"]


def test_neither_hash_key_nor_names_of_secrets_content_appear_outside_the_secret() -> None:
    snapshot = prepare(key_manager_snapshot(), NOW)
    assert snapshot.new_credential_check is not None
    key = snapshot.new_credential_check["data"]["hmac.key"]
    after, plan = step(snapshot)
    assert key not in json.dumps([plan.status, step(after)[1].create])
    assert key not in repr(snapshot)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([None, *CustodyErrorKind]).map(lambda kind: probed(kind)),
        max_size=6,
    ),
    st.lists(st.integers(0, 700), min_size=6, max_size=6),
)
def test_deciding_twice_about_the_same_state_does_nothing_the_second_time(
    results: list[Any], pauses: list[int]
) -> None:
    now, snapshot = NOW, running()
    for result, pause in zip(results, pauses, strict=False):
        snapshot = replace(snapshot, jobs=answered(snapshot.jobs, result, now))
        now += timedelta(seconds=pause)
        for _ in range(3):
            snapshot, _ = step(snapshot, now)
        again, plan = step(snapshot, now)
        assert again == snapshot
        assert (plan.create, plan.delete, plan.events) == ((), (), ())

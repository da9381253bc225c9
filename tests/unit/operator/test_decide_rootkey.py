"""Decisions about a RootKey."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.operator_samples import (
    HMAC,
    KEYSPACE,
    NOW,
    answered,
    condition,
    instance,
    key_manager,
    meta,
    obtained,
    probed,
    ready_root_key,
    root_key,
    root_key_after,
    root_key_snapshot,
)

from kmip_contract.rootkey import CustodyErrorKind, RootKeyAction, RootKeyRequest, RootKeyResult
from kmip_operator.plan import Plan
from kmip_operator.rootkey.children import created_key_id
from kmip_operator.rootkey.decide import decide
from kmip_operator.rootkey.model import LabelSelector
from kmip_operator.rootkey.snapshot import RootKeySnapshot


def step(snapshot: RootKeySnapshot, now: datetime = NOW) -> tuple[RootKeySnapshot, Plan]:
    plan = decide(snapshot, now)
    return root_key_after(snapshot, plan, now), plan


def conditions(plan: Plan) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in plan.status["conditions"]}


def message(plan: Plan, kind: str = "Ready") -> str:
    return next(str(item["message"]) for item in plan.status["conditions"] if item["type"] == kind)


def request_of(plan: Plan) -> RootKeyRequest:
    (job,) = plan.create
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    return RootKeyRequest.model_validate_json(annotations["kmip.dev/request"])


def test_a_new_root_key_is_created_with_the_managing_credential() -> None:
    _, plan = step(root_key_snapshot())
    request = request_of(plan)
    assert (request.action, request.algorithm, request.length) == (RootKeyAction.CREATE, "AES", 256)
    assert request.label == "vsphere/crk"
    volumes = {item["name"]: item for item in plan.create[0]["spec"]["template"]["spec"]["volumes"]}
    assert volumes["credential"]["secret"]["secretName"] == "hsm-officer"
    assert conditions(plan)["Ready"] == ("False", "KeyCreating")


def test_the_same_name_takes_the_same_key_back_for_ever() -> None:
    first, second = root_key(), root_key()
    second["metadata"]["uid"] = "another life"
    assert created_key_id(first) == created_key_id(second) == "33c0a01a-9a3e-51f7-b21b-a73425f06af7"
    uuid.UUID(created_key_id(root_key("other")))
    assert created_key_id(root_key("other")) != created_key_id(first)


def test_a_created_key_is_ready_and_said_once() -> None:
    snapshot, _ = step(root_key_snapshot())
    snapshot, plan = step(replace(snapshot, jobs=answered(snapshot.jobs, obtained(), NOW)))
    assert conditions(plan)["Ready"] == ("True", "Ready")
    assert conditions(plan)["Usable"] == ("Unknown", "NotInUse")
    assert plan.status["keyID"] == "0102"
    assert plan.status["versions"] == [{"version": 1, "handle": "0102", "state": "Active"}]
    assert plan.status["currentVersion"] == 1
    assert [event.reason for event in plan.events] == ["KeyCreated", "Ready"]
    again, plan = step(snapshot, NOW + timedelta(days=1))
    assert again == snapshot
    assert (plan.create, plan.delete, plan.events, plan.requeue_after) == ((), (), (), None)


def test_a_key_that_was_there_is_said_to_be_taken_back() -> None:
    snapshot, _ = step(root_key_snapshot())
    _, plan = step(replace(snapshot, jobs=answered(snapshot.jobs, obtained(created=False), NOW)))
    assert plan.events[0].reason == "KeyTakenBack"


def test_adopting_looks_for_the_named_key() -> None:
    manifest = root_key(source={"type": "Adopt", "adopt": {"keyID": "a1b2"}})
    snapshot, plan = step(root_key_snapshot(object=manifest))
    assert (request_of(plan).action, request_of(plan).key_id) == (RootKeyAction.ADOPT, "a1b2")
    assert conditions(plan)["Ready"] == ("False", "KeyAdopting")
    result = obtained(action=RootKeyAction.ADOPT)
    _, plan = step(replace(snapshot, jobs=answered(snapshot.jobs, result, NOW)))
    assert plan.events[0].reason == "KeyAdopted"


def test_without_its_key_manager_it_stalls() -> None:
    _, plan = step(root_key_snapshot(key_manager=None))
    assert conditions(plan)["Stalled"] == ("True", "KeyManagerMissing")
    assert message(plan) == "spec.keyManagerRef: there is no KeyManager luna in this namespace. Create it."
    assert plan.create == ()


def test_it_waits_for_its_key_manager_and_says_what_that_waits_for() -> None:
    manager = key_manager()
    _, plan = step(root_key_snapshot(key_manager=manager))
    assert conditions(plan)["Reconciling"] == ("True", "KeyManagerNotReady")
    refusal = "spec.credentials.use: no."
    manager["status"] = {
        "conditions": [
            condition("Ready", "False", "CredentialRefused", refusal),
            condition("Stalled", "True", "CredentialRefused", refusal),
        ]
    }
    _, plan = step(root_key_snapshot(key_manager=manager))
    assert conditions(plan)["Stalled"] == ("True", "KeyManagerNotReady")
    assert refusal in message(plan)
    assert plan.create == ()


def test_a_credential_that_the_key_manager_has_not_tried_yet_is_not_used() -> None:
    """A mistyped PIN reaches the token once, by the Probe Job."""
    changed = {"hsm-officer": meta("hsm-officer", "2")}
    _, plan = step(root_key_snapshot(secrets=changed))
    assert plan.create == ()
    assert conditions(plan)["Reconciling"] == ("True", "KeyManagerNotReady")
    assert "has yet to try the credential that is in Secret hsm-officer now" in message(plan)


def test_the_job_is_told_which_credential_was_confirmed() -> None:
    request = request_of(step(root_key_snapshot())[1])
    assert request.credential is not None
    assert request.credential.hmac == HMAC


def test_a_job_without_an_answer_is_left_to_a_person_unless_it_never_started() -> None:
    snapshot, _ = step(root_key_snapshot())
    (job,) = snapshot.jobs
    lost = replace(job, finished=NOW, pod_problem="the Job ended without a result")
    _, plan = step(replace(snapshot, jobs=(lost,)), NOW + timedelta(days=1))
    assert (plan.create, plan.requeue_after) == ((), None)
    assert conditions(plan)["Stalled"] == ("True", "JobFailed")
    assert f"kubectl delete job {job.name}" in message(plan)
    idle = replace(job, finished=NOW, pod_problem="JobNotStarted: Unschedulable: no node")
    _, plan = step(replace(snapshot, jobs=(idle,)), NOW + timedelta(seconds=10))
    assert [item["kind"] for item in plan.create] == ["Job"]


def test_a_key_that_does_not_fit_stalls() -> None:
    snapshot, _ = step(root_key_snapshot())
    bad = probed(CustodyErrorKind.ROOT_KEY_UNSUITABLE, "it may be extracted.")
    snapshot, plan = step(replace(snapshot, jobs=answered(snapshot.jobs, bad, NOW)))
    assert conditions(plan)["Stalled"] == ("True", "RootKeyUnsuitable")
    assert message(plan).startswith("spec.source: it may be extracted.")
    assert step(snapshot, NOW + timedelta(days=9))[1].create == ()


def test_the_key_stays_when_its_key_manager_object_is_gone_or_its_secret_changes() -> None:
    snapshot = root_key_snapshot(object=ready_root_key(), key_manager=None)
    _, plan = step(snapshot)
    assert plan.status["keyID"] == "0102"
    assert conditions(plan)["Stalled"] == ("True", "KeyManagerMissing")
    changed = root_key_snapshot(object=ready_root_key(), secrets={"hsm-officer": meta("hsm-officer", "99")})
    assert step(changed)[1].create == ()


def test_keyspaces_that_depend_on_it_are_listed_serving_before_retained() -> None:
    serving = instance()
    serving["status"] = {"keyspace": KEYSPACE}
    other = "ffffffff-8f3e-4c55-9d0a-5f3f2f1f0a11"
    left = {"kmip.dev/instance": "old", "kmip.dev/keyspace": other}
    retained = (
        meta("old-ca", labels=left),
        meta("data-old-0", labels=left),
        meta("vc-ca", labels={"kmip.dev/instance": "vc", "kmip.dev/keyspace": KEYSPACE}),
        meta("gone-ca", labels={"kmip.dev/instance": "gone", "kmip.dev/keyspace": "x"}, deleting=True),
    )
    _, plan = step(root_key_snapshot(object=ready_root_key(), instances=(serving,), retained=retained))
    assert plan.status["keyspaces"] == [
        {"id": KEYSPACE, "instance": "vc", "state": "Serving"},
        {"id": other, "instance": "old", "state": "Retained"},
    ]


@pytest.mark.parametrize(
    ("reports", "usable", "ready"),
    [
        ([], ("Unknown", "NotInUse"), "True"),
        ([("True", "Usable")], ("True", "Usable"), "True"),
        ([("True", "Usable"), ("False", "Unreachable")], ("False", "Unreachable"), "True"),
        ([("False", "Unreachable"), ("False", "Revoked")], ("False", "Revoked"), "False"),
    ],
)
def test_what_serving_pods_say_of_the_key(reports: list[tuple[str, str]], usable: tuple[str, str], ready: str) -> None:
    instances = []
    for number, (status, reason) in enumerate(reports):
        manifest = instance(name=f"vc{number}")
        manifest["status"] = {"conditions": [condition("RootKeyUsable", status, reason)]}
        instances.append(manifest)
    _, plan = step(root_key_snapshot(object=ready_root_key(), instances=tuple(instances)))
    assert conditions(plan)["Usable"] == usable
    assert conditions(plan)["Ready"][0] == ready


def test_a_selector_chooses_by_labels() -> None:
    selector = LabelSelector.model_validate(
        {
            "matchLabels": {"team": "vmware"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["gold", "silver"]},
                {"key": "legacy", "operator": "DoesNotExist"},
                {"key": "site", "operator": "NotIn", "values": ["lab"]},
                {"key": "owner", "operator": "Exists"},
            ],
        }
    )
    good = {"team": "vmware", "tier": "gold", "owner": "me"}
    assert selector.matches(good)
    for change in ({"team": "x"}, {"tier": "lead"}, {"legacy": "yes"}, {"site": "lab"}):
        assert not selector.matches({**good, **change})
    assert not selector.matches({key: value for key, value in good.items() if key != "owner"})
    assert LabelSelector().matches({})


_RESULTS = st.sampled_from([obtained(), obtained(created=False), *[probed(kind) for kind in CustodyErrorKind]])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_RESULTS, st.integers(0, 700)), max_size=6))
def test_deciding_twice_about_the_same_state_does_nothing_the_second_time(
    history: list[tuple[RootKeyResult, int]],
) -> None:
    now, (snapshot, _) = NOW, step(root_key_snapshot())
    for result, pause in history:
        snapshot = replace(snapshot, jobs=answered(snapshot.jobs, result, now))
        now += timedelta(seconds=pause)
        for _ in range(3):
            snapshot, _ = step(snapshot, now)
        again, plan = step(snapshot, now)
        assert again == snapshot
        assert (plan.create, plan.delete, plan.events) == ((), (), ())

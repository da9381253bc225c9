"""Decisions about a KmipInstance's allowlist, and what its pods say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import pki
from support.instance_steps import conditions, message, settled, sqlite, step
from support.operator_samples import (
    NOW,
    POSTGRESQL,
    SQLITE,
    certificate_input,
    instance,
    instance_snapshot,
    pod,
    pod_status,
)

from kmip_contract.allowlist import Serving
from kmip_contract.custody import RootKeyState
from kmip_contract.kmipd import StorageStatus
from kmip_contract.permissions import OPERATIONS
from kmip_operator.kmipinstance import allowlist
from kmip_operator.kmipinstance.snapshot import CertificateInput, KmipInstanceSnapshot

VCENTER = pki.make("vcenter", not_after=timedelta(days=365))
OTHER = pki.make("other", not_after=timedelta(days=365))


def test_new_certificates_make_a_new_revision_and_tell_the_kubelets() -> None:
    snapshot = sqlite()
    with_one = replace(snapshot, certificates=(certificate_input(VCENTER.pem),))
    snapshot, plan = step(with_one)
    assert plan.status["allowlistRevision"] == 2
    assert plan.poll_pods
    assert [patch.annotations["kmip.dev/allowlist-revision"] for patch in plan.pod_patches] == ["2"]
    assert conditions(plan)["AllowlistApplied"] == ("False", "Applying")
    assert conditions(plan)["Ready"][0] == "True"
    assert conditions(plan)["Reconciling"] == ("True", "Applying")
    _, plan = step(snapshot)
    assert plan.status["allowlistRevision"] == 2
    assert plan.pod_patches == ()
    assert plan.poll_pods
    _, plan = step(replace(snapshot, pods=(replace(snapshot.pods[0], status=pod_status(2)),)))
    assert not plan.poll_pods
    assert conditions(plan)["AllowlistApplied"][0] == "True"


def test_what_cannot_be_trusted_and_younger_duplicates_are_not_listed() -> None:
    certificates = (
        certificate_input(VCENTER.pem, "younger"),
        certificate_input(VCENTER.pem, "elder", metadata={"creationTimestamp": "2026-10-01T10:00:00Z"}),
        certificate_input("hello", "broken"),
        certificate_input(OTHER.pem, "blocked", state="Blocked"),
    )
    snapshot, _ = step(instance_snapshot(certificates=certificates))
    assert snapshot.allowlist is not None
    assert [(item.name, item.state) for item in snapshot.allowlist.entries] == [
        ("blocked", "Blocked"),
        ("elder", "Active"),
    ]


def test_a_certificate_leaves_the_list_when_it_ends() -> None:
    snapshot = sqlite(certificates=(certificate_input(VCENTER.pem),))
    _, plan = step(snapshot)
    assert plan.requeue_after == 6 * 3600
    snapshot, plan = step(snapshot, NOW + timedelta(days=366))
    assert plan.status["allowlistRevision"] == 2
    assert snapshot.allowlist is not None
    assert snapshot.allowlist.entries == ()


def test_a_lost_allowlist_gets_a_revision_that_no_pod_has_seen() -> None:
    snapshot = replace(sqlite(), allowlist=None, pods=(pod("vc-0", status=pod_status(41)),))
    assert step(snapshot)[1].status["allowlistRevision"] == 42


def test_fencing_goes_out_with_the_list() -> None:
    snapshot = sqlite()
    manifest = {**snapshot.object, "spec": {**SQLITE, "serving": "Fenced"}}
    snapshot, plan = step(replace(snapshot, object=manifest))
    assert snapshot.allowlist is not None
    assert snapshot.allowlist.serving is Serving.FENCED
    assert conditions(plan)["Ready"] == ("False", "Fenced")


def test_a_list_that_does_not_fit_a_secret_is_not_published_but_fencing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = sqlite(certificates=(certificate_input(VCENTER.pem),))
    monkeypatch.setattr(allowlist, "MAX_BYTES", 1500)
    more = (certificate_input(VCENTER.pem), certificate_input(OTHER.pem, "other"))
    snapshot, plan = step(replace(snapshot, certificates=more))
    assert conditions(plan)["Stalled"] == ("True", "AllowlistTooLarge")
    assert plan.status["allowlistRevision"] == 1
    manifest = {**snapshot.object, "spec": {**SQLITE, "serving": "Fenced"}}
    snapshot, plan = step(replace(snapshot, object=manifest))
    assert snapshot.allowlist is not None
    assert (snapshot.allowlist.revision, snapshot.allowlist.serving) == (2, Serving.FENCED)
    assert [item.name for item in snapshot.allowlist.entries] == ["vcenter"]


POOL = [pki.make(f"client-{number}", not_after=timedelta(days=365)) for number in range(5)]
STATES = st.lists(st.sampled_from(["absent", "Active", "Blocked", "wide"]), min_size=5, max_size=5)


def _inputs(states: list[str]) -> tuple[CertificateInput, ...]:
    wide = {"permissions": {"operations": sorted(operation for operation in OPERATIONS)}}
    return tuple(
        certificate_input(made.pem, f"client-{number}", **(wide if state == "wide" else {"state": state}))
        for number, (made, state) in enumerate(zip(POOL, states, strict=True))
        if state != "absent"
    )


@given(STATES, STATES, st.integers(0, 6000))
@settings(max_examples=60, deadline=None)
def test_whatever_does_not_fit_nothing_is_trusted_that_is_not_wanted(
    before: list[str], after: list[str], limit: int
) -> None:
    snapshot = instance_snapshot(certificates=_inputs(before))
    snapshot = replace(snapshot, allowlist=allowlist.render(snapshot, Serving.ENABLED, NOW).content)
    snapshot = replace(snapshot, certificates=_inputs(after))
    wanted = {item.name: item for item in allowlist.render(snapshot, Serving.ENABLED, NOW).content.entries}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allowlist, "MAX_BYTES", limit)
        found = allowlist.render(snapshot, Serving.ENABLED, NOW)
        again = allowlist.render(replace(snapshot, allowlist=found.content), Serving.ENABLED, NOW)
    for item in found.content.entries:
        assert item == wanted[item.name]
    assert again.content == found.content
    left_out = len(wanted) - len(found.content.entries)
    assert left_out == 0 or (found.problem is not None and f"{left_out} of them are left out" in found.problem.message)


def test_a_withdrawal_and_a_block_go_out_while_the_list_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = sqlite(certificates=_inputs(["Active", "Active", "Active", "absent", "absent"]))
    certificates = _inputs(["Active", "Blocked", "absent", "Active", "Active"])
    monkeypatch.setattr(allowlist, "MAX_BYTES", 3000)
    snapshot, plan = step(replace(snapshot, certificates=certificates))
    assert conditions(plan)["Stalled"] == ("True", "AllowlistTooLarge")
    assert "2 of them are left out: client-3, client-4." in message(plan)
    assert plan.status["allowlistRevision"] == 2
    assert snapshot.allowlist is not None
    assert [(item.name, item.state) for item in snapshot.allowlist.entries] == [
        ("client-0", "Active"),
        ("client-1", "Blocked"),
    ]


def test_a_list_that_went_back_is_published_above_what_was_said_before() -> None:
    snapshot = sqlite(certificates=(certificate_input(VCENTER.pem),))
    assert snapshot.allowlist is not None
    status = {**snapshot.object["status"], "allowlistRevision": 7}
    restored = replace(snapshot, object={**snapshot.object, "status": status})
    snapshot, plan = step(restored)
    assert plan.status["allowlistRevision"] == 8
    assert snapshot.allowlist is not None
    assert snapshot.allowlist.revision == 8
    assert step(snapshot)[1].status["allowlistRevision"] == 8


def late_snapshot(*statuses: Any) -> KmipInstanceSnapshot:
    spec = {**POSTGRESQL, "regions": [{"name": "jp-tok", "replicas": 2}]}
    first = settled(
        instance_snapshot(object=instance(spec)),
        pod("a", "jp-tok", status=pod_status(1)),
        pod("b", "jp-tok", status=pod_status(1)),
    )
    changed, _ = step(replace(first, certificates=(certificate_input(VCENTER.pem),)))
    return replace(
        changed, pods=tuple(replace(item, status=status) for item, status in zip(changed.pods, statuses, strict=True))
    )


def test_a_pod_that_does_not_confirm_leaves_the_service_after_thirty_seconds_and_comes_back() -> None:
    snapshot = late_snapshot(pod_status(2), pod_status(1))
    _, plan = step(snapshot, NOW + timedelta(seconds=29))
    assert all(not patch.labels for patch in plan.pod_patches)
    assert plan.requeue_after == 1.0
    snapshot, plan = step(snapshot, NOW + timedelta(seconds=30))
    assert [(patch.name, patch.labels) for patch in plan.pod_patches] == [("b", {"kmip.dev/in-service": "false"})]
    assert [event.reason for event in plan.events] == ["PodOutOfService"]
    assert "Pod b does not enforce allowlist revision 2 (it enforces revision 1)" in plan.events[0].message
    snapshot, plan = step(snapshot, NOW + timedelta(seconds=31))
    assert (plan.pod_patches, plan.events) == ((), ())
    assert plan.status["pods"] == "1/2"
    assert "b: out of service, it does not enforce the allowlist" in message(plan, "Available")
    back = replace(snapshot, pods=tuple(replace(item, status=pod_status(2)) for item in snapshot.pods))
    _, plan = step(back, NOW + timedelta(seconds=60))
    assert [(patch.name, patch.labels) for patch in plan.pod_patches] == [("b", {"kmip.dev/in-service": "true"})]
    assert [event.reason for event in plan.events] == ["PodInService"]


def test_pods_that_do_not_answer_leave_only_while_another_one_answers() -> None:
    late = NOW + timedelta(seconds=60)
    _, plan = step(late_snapshot(pod_status(2), None), late)
    assert [patch.name for patch in plan.pod_patches if patch.labels] == ["b"]
    _, plan = step(late_snapshot(None, None), late)
    assert [patch.name for patch in plan.pod_patches if patch.labels] == []


def test_a_revoked_root_key_stalls_and_an_unreachable_one_does_not() -> None:
    snapshot = sqlite()
    revoked = pod_status(1, root_key_state=RootKeyState.REVOKED, root_key_message="disabled at 10:00.")
    _, plan = step(replace(snapshot, pods=(pod("vc-0", status=revoked),)))
    assert conditions(plan)["RootKeyUsable"] == ("False", "Revoked")
    assert conditions(plan)["Stalled"] == ("True", "Revoked")
    assert "disabled at 10:00." in message(plan)
    away = pod_status(1, root_key_state=RootKeyState.UNREACHABLE)
    _, plan = step(replace(snapshot, pods=(pod("vc-0", status=away),)))
    assert conditions(plan)["RootKeyUsable"] == ("False", "Unreachable")
    assert conditions(plan)["Reconciling"] == ("True", "Unreachable")
    assert plan.poll_pods


def test_durability_is_what_every_pod_says() -> None:
    good = StorageStatus(type="PostgreSQL", durable=True, message="A standby has every commit.")
    weak = StorageStatus(type="PostgreSQL", durable=False, message="synchronous_commit is off.")
    base = settled(instance_snapshot(object=instance(POSTGRESQL)))
    pods = (
        pod("a", "jp-tok", status=pod_status(1, storage=good)),
        pod("b", "jp-osa", status=pod_status(1, storage=weak)),
    )
    _, plan = step(replace(base, pods=pods))
    assert conditions(plan)["Durable"] == ("False", "NotDurable")
    _, plan = step(replace(base, pods=pods[:1]))
    assert conditions(plan)["Durable"] == ("True", "Durable")


def test_one_region_down_is_partly_available_and_named() -> None:
    broken = pod(
        "y", "jp-osa", ready=False, problem="ImagePullBackOff: no such image", created=NOW - timedelta(minutes=9)
    )
    snapshot = settled(
        instance_snapshot(object=instance(POSTGRESQL)),
        pod("a", "jp-tok", status=pod_status(1)),
        pod("b", "jp-tok", status=pod_status(1)),
        broken,
    )
    _, plan = step(snapshot)
    assert conditions(plan)["Available"] == ("False", "PartiallyAvailable")
    assert message(plan, "Available") == (
        "jp-tok: 2 of 2 pods serve; jp-osa: 0 of 1 pods serve (y: ImagePullBackOff: no such image)."
    )
    assert conditions(plan)["Stalled"] == ("True", "PodNotStarted")
    assert "spec.regions[1]: pod y does not start: ImagePullBackOff" in message(plan)

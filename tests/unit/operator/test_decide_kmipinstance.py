"""Decisions about a KmipInstance: its children, what it refers to, what outlives it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import pki
from support.instance_steps import applied, conditions, kinds, message, settled, sqlite, step
from support.operator_samples import (
    KEYSPACE,
    NOW,
    POSTGRESQL,
    SQLITE,
    certificate_input,
    condition,
    instance,
    instance_snapshot,
    key_manager,
    meta,
    nodes,
    pod,
    pod_status,
    ready_root_key,
    root_key,
)

from kmip_contract.custody import CustodyConfig
from kmip_contract.kmipd import KmipdConfig
from kmip_operator.facts import ObjectMeta, PodFacts
from kmip_operator.kmipinstance.decide import decide
from kmip_operator.kmipinstance.prepare import prepare
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.plan import Manifest

VCENTER = pki.make("vcenter", not_after=timedelta(days=365))
OTHER = pki.make("other", not_after=timedelta(days=365))


def test_a_new_instance_with_sqlite_gets_everything_in_one_plan() -> None:
    _, plan = step(instance_snapshot())
    assert kinds(plan.create) == [
        ("Secret", "vc-ca"),
        ("Secret", "vc-server"),
        ("Secret", "vc-control"),
        ("Secret", "vc-control-client"),
    ]
    assert kinds(plan.apply) == [
        ("Secret", "vc-allowlist"),
        ("ServiceAccount", "vc"),
        ("Service", "vc"),
        ("Service", "vc-pods"),
        ("ConfigMap", "vc"),
        ("StatefulSet", "vc"),
    ]
    assert conditions(plan)["Ready"] == ("False", "RollingOut")
    assert conditions(plan)["Stalled"][0] == "False"


def test_with_postgresql_each_region_has_its_workload_and_service() -> None:
    _, plan = step(instance_snapshot(object=instance(POSTGRESQL)))
    assert kinds(plan.apply)[2:] == [
        ("Service", "vc-jp-tok"),
        ("Service", "vc-jp-osa"),
        ("ConfigMap", "vc-jp-tok"),
        ("Deployment", "vc-jp-tok"),
        ("PodDisruptionBudget", "vc-jp-tok"),
        ("ConfigMap", "vc-jp-osa"),
        ("Deployment", "vc-jp-osa"),
    ]


def test_the_configuration_files_are_what_the_programs_read() -> None:
    _, plan = step(instance_snapshot(object=instance(POSTGRESQL)))
    data = applied(plan, "ConfigMap", "vc-jp-tok")["data"]
    kmipd = KmipdConfig.model_validate_json(data["kmipd.json"])
    custody = CustodyConfig.model_validate_json(data["custody.json"])
    assert (kmipd.instance, kmipd.region, kmipd.tls.profile) == ("vc", "jp-tok", "VSphere7")
    assert kmipd.storage.type == "PostgreSQL"
    assert kmipd.custody_socket == custody.socket
    assert custody.root_key.versions[0].handle == "0102"
    assert custody.credential is not None
    assert custody.credential.hmac == "ab" * 32


def test_a_serving_instance_is_ready_and_says_where() -> None:
    snapshot = sqlite()
    _, plan = step(snapshot)
    assert conditions(plan) == {
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("False", "Reconciled"),
        "Available": ("True", "Available"),
        "RootKeyUsable": ("True", "Usable"),
        "AllowlistApplied": ("True", "AllowlistApplied"),
        "Durable": ("False", "OneCopy"),
    }
    assert plan.status["address"] == "vc.vsphere.svc:5696"
    assert plan.status["keyspace"] == KEYSPACE
    assert plan.status["pods"] == "1/1"
    assert plan.status["regions"] == [{"name": "default", "ready": 1, "replicas": 1}]
    assert plan.status["caCertificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert plan.status["serverCertificate"]["names"][0] == "vc.vsphere.svc"


def test_in_a_steady_state_nothing_differs() -> None:
    snapshot = sqlite(certificates=(certificate_input(VCENTER.pem),))
    _, first = step(snapshot)
    again, plan = step(snapshot, NOW + timedelta(hours=1))
    assert again == snapshot
    assert plan.apply == first.apply
    assert plan.status == snapshot.object["status"]
    assert (plan.create, plan.replace, plan.delete, plan.pod_patches, plan.events) == ((), (), (), (), ())


def test_the_keyspace_is_bound_once_and_marks_what_is_retained_without_a_restart() -> None:
    snapshot, first = step(instance_snapshot())
    snapshot = replace(snapshot, pods=(pod("vc-0", status=pod_status(1)),))
    bound, plan = step(snapshot)
    assert ("Normal", "KeyspaceBound") in [(event.type, event.reason) for event in plan.events]
    marked = {
        (item["kind"], item["metadata"]["name"]): item["metadata"] for item in plan.apply if "uid" in item["metadata"]
    }
    assert set(marked) == {("Secret", "vc-ca"), ("Secret", "vc-server"), ("PersistentVolumeClaim", "data-vc-0")}
    for metadata in marked.values():
        assert metadata["labels"]["kmip.dev/keyspace"] == KEYSPACE
        assert metadata["labels"]["kmip.dev/rootkey"] == "crk"
        assert "ownerReferences" not in metadata
    assert applied(plan, "StatefulSet", "vc") == applied(first, "StatefulSet", "vc")
    assert KEYSPACE in applied(plan, "ConfigMap", "vc")["data"]["kmipd.json"]
    assert "KeyspaceBound" not in [event.reason for event in step(bound)[1].events]


def test_an_instance_applied_again_takes_its_keyspace_ca_and_certificate_back() -> None:
    before = sqlite()
    assert before.authority is not None
    authority = replace(before.authority, meta=replace(before.authority.meta, labels={"kmip.dev/keyspace": KEYSPACE}))
    again = instance_snapshot(
        object=instance(uid="another life"),
        authority=authority,
        server=before.server,
        volume_claims=before.volume_claims,
    )
    _, plan = step(again)
    assert kinds(plan.create) == [("Secret", "vc-control"), ("Secret", "vc-control-client")]
    assert plan.status["keyspace"] == KEYSPACE
    assert KEYSPACE in applied(plan, "ConfigMap", "vc")["data"]["kmipd.json"]


def doomed(item: ObjectMeta) -> ObjectMeta:
    """Goes with the earlier instance, as was confirmed."""
    return replace(
        item,
        labels={"kmip.dev/keyspace": KEYSPACE, "kmip.dev/rootkey": "crk"},
        annotations={"kmip.dev/confirm-delete": KEYSPACE},
        owner_uids=("uid of the earlier one",),
    )


@pytest.mark.parametrize("deleting", [False, True])
def test_an_instance_applied_while_the_earlier_one_is_being_destroyed_waits_and_starts_empty(*, deleting: bool) -> None:
    before = sqlite()
    assert before.authority is not None
    assert before.server is not None
    claims = tuple(replace(doomed(claim), deleting=deleting) for claim in before.volume_claims)
    parts: dict[str, Any] = {
        "authority": replace(before.authority, meta=doomed(before.authority.meta)),
        "server": replace(before.server, meta=doomed(before.server.meta)),
        "volume_claims": claims,
    }
    empty = instance_snapshot(object=instance(uid="another life"))
    for present in ({**parts}, {"volume_claims": claims}, {"server": parts["server"]}):
        snapshot, plan = step(replace(empty, **present))
        assert (plan.create, plan.replace, plan.apply, plan.delete) == ((), (), (), ())
        assert plan.requeue_after == 1.0
        assert conditions(plan)["Reconciling"] == ("True", "Progressing")
        assert conditions(plan)["Stalled"][0] == "False"
        assert "keyspace" not in plan.status
        gone = replace(snapshot, authority=None, server=None, volume_claims=())
        _, plan = step(gone)
        assert ("Secret", "vc-ca") in kinds(plan.create)
        assert ("StatefulSet", "vc") in kinds(plan.apply)
        assert "keyspace" not in plan.status


def test_a_serving_instance_does_not_wait_for_its_own_claim_that_somebody_deletes() -> None:
    snapshot = sqlite()
    claims = tuple(replace(claim, deleting=True) for claim in snapshot.volume_claims)
    _, plan = step(replace(snapshot, volume_claims=claims))
    assert plan.status["keyspace"] == KEYSPACE
    assert ("StatefulSet", "vc") in kinds(plan.apply)


def test_consent_for_another_keyspace_is_none() -> None:
    before = sqlite()
    claims = tuple(
        replace(doomed(claim), annotations={"kmip.dev/confirm-delete": "other"}) for claim in before.volume_claims
    )
    _, plan = step(instance_snapshot(object=instance(uid="another life"), volume_claims=claims))
    assert plan.status["keyspace"] == KEYSPACE


def test_what_was_left_under_another_root_key_is_not_touched() -> None:
    before = sqlite()
    assert before.authority is not None
    labels = {"kmip.dev/keyspace": KEYSPACE, "kmip.dev/rootkey": "another"}
    authority = replace(before.authority, meta=replace(before.authority.meta, labels=labels))
    again = instance_snapshot(
        object=instance(uid="another life"),
        authority=authority,
        server=before.server,
        volume_claims=before.volume_claims,
    )
    _, plan = step(again)
    assert conditions(plan)["Stalled"] == ("True", "KeyspaceMismatch")
    assert "whose keys RootKey another wraps" in message(plan)
    assert not {"StatefulSet", "PersistentVolumeClaim"} & {item["kind"] for item in plan.apply}
    assert ("Secret", "vc-ca") not in kinds(plan.apply)


def test_a_storage_with_another_keyspace_stalls() -> None:
    other = UUID("ffffffff-8f3e-4c55-9d0a-5f3f2f1f0a11")
    snapshot = replace(sqlite(), pods=(pod("vc-0", status=pod_status(1, keyspace=other)),))
    _, plan = step(snapshot)
    assert conditions(plan)["Stalled"] == ("True", "KeyspaceMismatch")
    assert plan.status["keyspace"] == KEYSPACE
    assert str(other) in message(plan)


@pytest.mark.parametrize(
    ("policy", "confirmed", "goes"),
    [("Delete", KEYSPACE, True), ("Delete", "other", False), ("Delete", "", False), ("Retain", KEYSPACE, False)],
)
def test_what_is_retained_goes_with_the_instance_only_by_policy_and_confirmation(
    policy: str, confirmed: str, goes: bool
) -> None:
    snapshot = sqlite()
    manifest = {**snapshot.object, "spec": {**snapshot.object["spec"], "deletionPolicy": policy}}
    manifest["metadata"] = {**manifest["metadata"], "annotations": {"kmip.dev/confirm-delete": confirmed}}
    _, plan = step(replace(snapshot, object=manifest))
    retained = [item["metadata"] for item in plan.apply if "uid" in item["metadata"]]
    assert len(retained) == 3
    for metadata in retained:
        assert ("ownerReferences" in metadata) is goes
        assert (metadata.get("annotations") == {"kmip.dev/confirm-delete": KEYSPACE}) is goes


def test_an_instance_that_the_root_key_does_not_permit_stops_serving() -> None:
    selector = {"matchLabels": {"kms": "yes"}}
    snapshot = sqlite(object=instance(labels={"kms": "yes"}), root_key=ready_root_key(allowedInstances=selector))
    assert conditions(step(snapshot)[1])["Ready"][0] == "True"
    manifest = {**snapshot.object, "metadata": {**snapshot.object["metadata"], "labels": {"kms": "no"}}}
    _, plan = step(replace(snapshot, object=manifest))
    assert conditions(plan)["Ready"] == ("False", "ReferenceNotPermitted")
    assert {ref.kind for ref in plan.delete} == {"StatefulSet", "ConfigMap"}
    assert "StatefulSet" not in [item["kind"] for item in plan.apply]


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"root_key": None}, "RootKeyMissing", "spec.rootKeyRef: there is no RootKey crk in this namespace."),
        ({"key_manager": None}, "KeyManagerMissing", "needs KeyManager luna, which does not exist."),
        (
            {"secrets": {"hsm-conf": meta("hsm-conf")}},
            "SecretMissing",
            "KeyManager luna needs Secret hsm-user, which does not exist.",
        ),
        (
            {"object": instance(POSTGRESQL), "secrets": {"hsm-user": meta("hsm-user")}},
            "SecretMissing",
            "spec.storage.postgresql.connectionSecretRef: there is no Secret pg in this namespace. Create it with the",
        ),
        (
            {"object": instance({**SQLITE, "regions": [{"name": "mars"}]})},
            "RegionUnknown",
            "spec.regions[0].name: no node has topology.kubernetes.io/region=mars. Regions that nodes have: jp-osa, jp-tok.",
        ),
        (
            {"object": instance({**SQLITE, "regions": [{"name": "mars", "nodeSelector": {"pool": "kms"}}]})},
            "RegionUnknown",
            "spec.regions[0].nodeSelector: no node has pool=kms.",
        ),
    ],
)
def test_what_only_the_operator_can_see_stalls_with_field_finding_and_remedy(
    changes: dict[str, Any], reason: str, sentence: str
) -> None:
    _, plan = step(instance_snapshot(**changes))
    assert conditions(plan)["Stalled"] == ("True", reason)
    assert conditions(plan)["Ready"] == ("False", reason)
    assert sentence in message(plan)
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", reason)]


def test_a_region_with_an_empty_node_selector_runs_anywhere() -> None:
    spec = {**SQLITE, "regions": [{"name": "mars", "nodeSelector": {}}]}
    _, plan = step(instance_snapshot(object=instance(spec)))
    assert conditions(plan)["Stalled"][0] == "False"
    assert "nodeSelector" not in applied(plan, "StatefulSet", "vc")["spec"]["template"]["spec"]


def test_nodes_that_may_not_be_read_are_not_judged() -> None:
    spec = {**SQLITE, "regions": [{"name": "mars"}]}
    _, plan = step(instance_snapshot(object=instance(spec), nodes=None))
    assert conditions(plan)["Stalled"][0] == "False"


def test_it_waits_for_root_key_and_credential_and_has_addresses_meanwhile() -> None:
    _, plan = step(instance_snapshot(root_key=root_key()))
    assert conditions(plan)["Reconciling"] == ("True", "RootKeyNotReady")
    assert {"Service", "Secret"} <= {item["kind"] for item in plan.apply}
    assert "StatefulSet" not in {item["kind"] for item in plan.apply}
    _, plan = step(instance_snapshot(key_manager=key_manager()))
    assert conditions(plan)["Reconciling"] == ("True", "KeyManagerNotReady")


def test_running_pods_are_left_alone_when_a_reference_goes() -> None:
    snapshot = sqlite()
    for change in ({"root_key": None}, {"key_manager": None}, {"root_key": root_key()}):
        _, plan = step(replace(snapshot, **change))
        assert plan.delete == ()
        assert conditions(plan)["Available"][0] == "True"
        assert conditions(plan)["Ready"][0] == "True"


def test_a_region_that_is_taken_out_goes_and_the_rest_stays() -> None:
    snapshot = settled(instance_snapshot(object=instance(POSTGRESQL)))
    spec = {**POSTGRESQL, "regions": POSTGRESQL["regions"][:1]}
    _, plan = step(replace(snapshot, object={**snapshot.object, "spec": spec}))
    assert {(ref.kind, ref.name) for ref in plan.delete} == {
        ("Service", "vc-jp-osa"),
        ("ConfigMap", "vc-jp-osa"),
        ("Deployment", "vc-jp-osa"),
    }


def test_children_of_another_object_are_never_deleted() -> None:
    snapshot = sqlite()
    stranger = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": "vsphere", "ownerReferences": [{"uid": "somebody"}]},
    }
    _, plan = step(replace(snapshot, children=(*snapshot.children, stranger)))
    assert plan.delete == ()


def test_naming_a_region_keeps_the_volume() -> None:
    spec = {**SQLITE, "regions": [{"name": "jp-tok"}]}
    _, plain = step(instance_snapshot())
    _, named = step(instance_snapshot(object=instance(spec)))
    for plan in (plain, named):
        workload = applied(plan, "StatefulSet", "vc")
        assert workload["spec"]["selector"] == applied(plain, "StatefulSet", "vc")["spec"]["selector"]


def load_balancer(snapshot: KmipInstanceSnapshot, created: datetime, *ingress: Manifest) -> KmipInstanceSnapshot:
    """The Services as they are ``ingress`` later."""
    for child in snapshot.children:
        if child["kind"] == "Service" and child["spec"].get("type") == "LoadBalancer":
            child["metadata"]["creationTimestamp"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
            child["status"] = {"loadBalancer": {"ingress": list(ingress)}} if ingress else {}
    return snapshot


def test_a_service_without_address_is_waited_for_then_stalls_and_never_keeps_pods_from_serving() -> None:
    spec = {**SQLITE, "service": {"type": "LoadBalancer"}}
    snapshot = load_balancer(sqlite(object=instance(spec)), NOW)
    _, plan = step(snapshot, NOW + timedelta(seconds=20))
    assert conditions(plan)["Reconciling"] == ("True", "AddressPending")
    assert plan.requeue_after == 40
    _, plan = step(snapshot, NOW + timedelta(seconds=61))
    assert conditions(plan)["Stalled"] == ("True", "AddressPending")
    assert conditions(plan)["Ready"][0] == "True"
    assert message(plan).startswith("spec.service: Service vc has had no address for 60 seconds.")
    _, plan = step(load_balancer(snapshot, NOW, {"ip": "198.51.100.7"}), NOW + timedelta(seconds=62))
    assert conditions(plan)["Stalled"][0] == "False"
    assert plan.status["address"] == "198.51.100.7:5696"
    assert [item["type"] for item in plan.status["endpoints"]] == ["LoadBalancer", "Cluster"]


def test_addresses_are_the_names_that_people_use_first() -> None:
    spec = {
        **SQLITE,
        "regions": [
            {"name": "jp-tok", "service": {"type": "NodePort", "nodePort": 31000, "hostNames": ["kms.corp.example"]}}
        ],
    }
    _, plan = step(instance_snapshot(object=instance(spec)))
    assert plan.status["address"] == "kms.corp.example:31000"
    bare = {**SQLITE, "regions": [{"name": "jp-tok", "service": {"type": "NodePort", "nodePort": 31000}}]}
    _, plan = step(instance_snapshot(object=instance(bare)))
    assert plan.status["address"] == "192.0.2.1:31000"


def test_the_server_certificate_is_made_anew_before_its_first_use_and_then_only_by_an_act() -> None:
    spec = {**SQLITE, "service": {"type": "LoadBalancer"}}
    unused, _ = step(instance_snapshot(object=instance(spec)))
    unused = load_balancer(unused, NOW, {"ip": "198.51.100.7"})
    renewed, plan = step(unused)
    assert kinds(plan.replace) == [("Secret", "vc-server")]
    assert plan.replace[0]["metadata"]["resourceVersion"] == "1"
    assert "198.51.100.7" in step(renewed)[1].status["serverCertificate"]["names"]
    used = settled(renewed, pod("vc-0", status=pod_status(1)))
    moved = load_balancer(used, NOW, {"ip": "198.51.100.8"})
    after, plan = step(moved)
    assert plan.replace == ()
    assert plan.status["serverCertificate"]["missingNames"] == ["198.51.100.8"]
    assert [event.reason for event in plan.events] == ["ServerCertificateNamesDiffer"]
    assert conditions(plan)["Ready"][0] == "True"
    assert step(after)[1].events == ()
    asked = {
        **after.object,
        "metadata": {**after.object["metadata"], "annotations": {"kmip.dev/renew-server-certificate": "1"}},
    }
    after, plan = step(replace(after, object=asked))
    assert kinds(plan.replace) == [("Secret", "vc-server")]
    after, plan = step(after)
    assert plan.replace == ()
    assert "missingNames" not in plan.status["serverCertificate"]


def test_half_of_the_control_certificates_is_thrown_away_and_both_are_made_anew() -> None:
    snapshot = replace(sqlite(), control={"vc-control": meta("vc-control")})
    _, plan = step(snapshot)
    assert [(ref.kind, ref.name) for ref in plan.delete] == [("Secret", "vc-control")]
    assert plan.create == ()
    assert plan.requeue_after == 0.1
    _, plan = step(replace(snapshot, control={}))
    assert kinds(plan.create) == [("Secret", "vc-control"), ("Secret", "vc-control-client")]


def test_a_new_credential_or_root_key_version_reaches_custody_without_a_restart() -> None:
    snapshot = sqlite()
    _, before = step(snapshot)
    manager = json.loads(json.dumps(snapshot.key_manager))
    manager["status"]["credentials"]["use"]["hmac"] = "cd" * 32
    _, after = step(replace(snapshot, key_manager=manager))
    assert applied(after, "StatefulSet", "vc") == applied(before, "StatefulSet", "vc")
    assert "cd" * 32 in applied(after, "ConfigMap", "vc")["data"]["custody.json"]
    assert [list(patch.annotations) for patch in after.pod_patches] == [["kmip.dev/mounted"]]


@pytest.mark.parametrize(("name", "restarts"), [("hsm-conf", True), ("pg", False), ("hsm-user", False)])
def test_a_changed_module_configuration_restarts_pods_and_other_secrets_are_brought_to_them(
    name: str, restarts: bool
) -> None:
    snapshot = settled(instance_snapshot(object=instance(POSTGRESQL)), pod("a", "jp-tok", status=pod_status(1)))
    _, before = step(snapshot)
    _, after = step(replace(snapshot, secrets={**snapshot.secrets, name: meta(name, "2")}))
    same = applied(after, "Deployment", "vc-jp-tok") == applied(before, "Deployment", "vc-jp-tok")
    assert same is not restarts
    assert [list(patch.annotations) for patch in after.pod_patches] == [["kmip.dev/mounted"]]


def test_private_keys_appear_in_their_secrets_alone() -> None:
    snapshot = prepare(instance_snapshot(), NOW)
    plan = decide(snapshot, NOW)
    keys = [value for item in plan.create for name, value in item["data"].items() if name.endswith(".key")]
    assert len(keys) == 4
    rest = json.dumps([plan.apply, plan.status, [event.message for event in plan.events]])
    for key in keys:
        assert key not in rest
        assert base64.b64decode(key).decode() not in repr(snapshot)


def test_an_expired_server_certificate_is_said_in_time() -> None:
    snapshot = sqlite()
    _, plan = step(snapshot, NOW + timedelta(days=1800))
    assert conditions(plan)["Stalled"] == ("True", "ServerCertificateExpiring")
    assert conditions(plan)["Ready"][0] == "True"
    _, plan = step(snapshot, NOW + timedelta(days=1830))
    assert conditions(plan)["Ready"][0] == "False"


def test_a_root_key_that_stalls_stalls_its_instances() -> None:
    stalled = root_key()
    stalled["status"] = {
        "conditions": [condition("Ready", "False", "RootKeyUnsuitable", "no."), condition("Stalled", "True", "x")]
    }
    _, plan = step(instance_snapshot(root_key=stalled))
    assert conditions(plan)["Stalled"] == ("True", "RootKeyNotReady")


_PODS = st.lists(
    st.builds(
        lambda name, region, revision, ready, service: pod(
            name,
            region,
            ready=ready,
            status=None if revision is None else pod_status(revision),
            labels={"kmip.dev/in-service": service},
        ),
        st.sampled_from("abcd"),
        st.sampled_from(["jp-tok", "jp-osa"]),
        st.sampled_from([None, 0, 1, 2, 3]),
        st.booleans(),
        st.sampled_from(["true", "false"]),
    ),
    max_size=4,
    unique_by=lambda item: item.name,
)


@settings(max_examples=60, deadline=None)
@given(
    _PODS,
    st.lists(st.sampled_from([VCENTER, OTHER]), max_size=2, unique_by=lambda item: item.sha256),
    st.sampled_from([SQLITE, POSTGRESQL, {**POSTGRESQL, "serving": "Fenced"}]),
    st.sampled_from([None, root_key(), ready_root_key(), ready_root_key(allowedInstances={"matchLabels": {"a": "b"}})]),
    st.integers(0, 100),
)
def test_deciding_twice_about_the_same_state_does_nothing_the_second_time(
    pods: list[PodFacts], certificates: list[pki.Identity], spec: Manifest, key: Manifest | None, pause: int
) -> None:
    inputs = tuple(certificate_input(item.pem, f"c{number}") for number, item in enumerate(certificates))
    snapshot = instance_snapshot(object=instance(spec), root_key=key, certificates=inputs, nodes=nodes("jp-tok"))
    now = NOW
    snapshot, _ = step(replace(snapshot, pods=tuple(pods)), now)
    now += timedelta(seconds=pause)
    for _ in range(4):
        snapshot, last = step(snapshot, now)
    again, plan = step(snapshot, now)
    assert again == snapshot
    assert plan.apply == last.apply
    assert plan.status == snapshot.object["status"]
    assert (plan.create, plan.replace, plan.delete, plan.pod_patches, plan.events) == ((), (), (), (), ())

"""The operator is killed at random moments of rollouts: the same end state as without, nothing doubled, nothing left over."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import e2e_manifests as make
from support.e2e_cluster import SYSTEM, Cluster, Manifest
from support.e2e_discard import discard
from support.e2e_operator import OperatorLog
from support.e2e_processes import kill_pod_process
from support.e2e_state import normalised

from demo.certificates import ClientIdentity, vcenter_identity
from demo.steps import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROLLOUTS = 20
KILLS = int(os.environ.get("KMIP_E2E_KILLS", "6"))
"""How many of the rollouts are struck: each costs the 15 s that a Lease lasts."""
TAKEOVER = 45.0
"""Seconds for another to lead: 15 for the Lease, and what a busy machine adds."""


def steps(namespace: str, clients: list[ClientIdentity]) -> Iterator[list[Manifest]]:
    """Twenty states that differ in replicas, regions, restarts, exposure, fencing and certificates."""
    for number in range(ROLLOUTS):
        regions = [make.region("eu-de", 1 + number % 2, annotations={"example.com/step": str(number // 3)})]
        if number % 5 in (1, 2):
            regions.append(make.region("eu-nl", 1, type="ClusterIP"))
        spec: Manifest = {"serving": "Fenced" if number % 7 == 3 else "Enabled"}
        if number % 4 > 1:
            spec["pod"] = {"labels": {"example.com/step": str(number // 4)}}
        trusted = [client for index, client in enumerate(clients) if (number + index) % 3]
        yield [
            make.postgresql(namespace, schema=namespace.replace("-", "_"), regions=regions, **spec),
            *(
                make.leaf(
                    namespace, client.certificate.stem, client.pem, state="Active" if client in trusted else "Blocked"
                )
                for client in clients
            ),
        ]


def prepare(cluster: Cluster, namespace: str) -> None:
    cluster.apply_objects(
        make.secret(namespace, "seed", seed="0123456789abcdef" * 4),
        make.secret(namespace, "database", uri=cluster.secret_text("regions", "postgresql", "uri")),
        make.software(namespace),
        make.root_key(namespace),
    )
    cluster.until("rootkey", namespace, "root")


def settled(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The end state, once everything is Ready and its pods are as many as they should be."""
    cluster.wait_ready(namespace, timeout=180)

    def pods() -> bool | None:
        instance = cluster.get("kmipinstance", namespace, "kms")
        wanted = sum(region["replicas"] for region in instance["spec"]["regions"])
        running = cluster.items("pods", namespace, "kmip.dev/instance=kms,app.kubernetes.io/component=server")
        return True if len(running) == wanted and instance["status"]["pods"] == f"{wanted}/{wanted}" else None

    wait_for("as many pods as the spec says", pods, timeout=120, every=0.5)
    return normalised(cluster, namespace)


def strike(cluster: Cluster, operator_log: OperatorLog) -> float:
    """Kill the leader's process and delete its pod; the seconds until another leads."""
    leader = cluster.leader()
    before = cluster.get("lease", SYSTEM, "kmip-operator")["spec"]["holderIdentity"]
    uid = cluster.get("pod", SYSTEM, leader)["metadata"]["uid"]
    operator_log.collect()
    began = time.monotonic()
    kill_pod_process(uid, "kmip-operator")
    # A container that was killed often is started again late; a new pod is not.
    cluster.kubectl("-n", SYSTEM, "delete", "pod", leader, "--grace-period=0", "--force", "--wait=false")

    def another() -> bool | None:
        holder = cluster.get("lease", SYSTEM, "kmip-operator")["spec"].get("holderIdentity")
        return True if holder and holder != before else None

    wait_for("another leader", another, timeout=TAKEOVER, every=0.1)
    return time.monotonic() - began


def test_kills_during_rollouts_change_nothing_in_the_end(
    cluster: Cluster, main_job: Any, namespace: str, operator_log: OperatorLog, tmp_path: Path
) -> None:
    clients = [vcenter_identity(tmp_path, f"client-{number}") for number in range(3)]
    calm = f"{namespace}-calm"
    cluster.namespace(calm)
    prepare(cluster, calm)
    prepare(cluster, namespace)
    for manifests in steps(calm, clients):
        cluster.apply_objects(*manifests)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    struck = set(chance.sample(range(ROLLOUTS), KILLS))
    print(f"seed {seed}, kills at rollouts {sorted(struck)}")
    times = []
    for number, manifests in enumerate(steps(namespace, clients)):
        cluster.apply_objects(*manifests)
        if number in struck:
            time.sleep(chance.uniform(0, 1.5))  # the moment is what the test is about
            times.append(strike(cluster, operator_log))
    print("takeover after:", ", ".join(f"{seconds:.1f}" for seconds in sorted(times)), "s")
    undisturbed, disturbed = settled(cluster, calm), settled(cluster, namespace)
    assert set(disturbed) == set(undisturbed)
    for name, content in undisturbed.items():
        assert disturbed[name] == content, name
    sets = [item for item in cluster.items("replicasets", namespace) if item["spec"]["replicas"]]
    owners = [item["metadata"]["ownerReferences"][0]["name"] for item in sets]
    assert sorted(owners) == sorted(set(owners))
    assert len(cluster.items("jobs", namespace)) == len(cluster.items("jobs", calm))
    cluster.wait_ready(calm, timeout=60)
    discard(cluster, calm)


def test_a_leader_that_is_asked_to_stop_hands_over_at_once(cluster: Cluster, operator_log: OperatorLog) -> None:
    leader = cluster.leader()
    operator_log.collect()
    cluster.kubectl("-n", SYSTEM, "delete", "pod", leader, "--wait=false")
    wait_for("another leader", lambda: cluster.leader() not in ("", leader) or None, timeout=TAKEOVER, every=0.1)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/kmip-operator", "--timeout=60s")

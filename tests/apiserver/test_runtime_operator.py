"""The operator process, run for real against a real API server; nodes are simulated (see support.simulated_kubelet)."""

from __future__ import annotations

import base64
import json
import random
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import lifecycle
from support.operator_process import OperatorProcess, wait_for
from support.simulated_kubelet import SimulatedKubelet

from kmip_operator.crd import KINDS, render

pytestmark = pytest.mark.apiserver

USER_AGENT = "kmip-operator/"

# A root-key Job is named for what it was asked, which includes the uid of the Secret it uses.
JOB_ID = re.compile(r"-[0-9a-f]{8}(?=-[0-9]+$)")


class Cluster:
    """A namespace of the API server with the CRDs, a simulated kubelet and an operator of its own."""

    def __init__(self, apiserver: Any, folder: Path) -> None:
        self.apiserver = apiserver
        self.namespace = f"run-{uuid.uuid4().hex[:8]}"
        for kind in KINDS:
            apiserver.kubectl("apply", "-f", "-", stdin=render(kind))
        apiserver.kubectl("create", "namespace", self.namespace)
        self.kubelet = SimulatedKubelet(apiserver.kubectl, self.namespace, folder)
        self.kubelet.start()
        self.operator = OperatorProcess(
            apiserver.kubeconfig,
            folder / "operator.log",
            *("--namespace", self.namespace, "--namespaces", self.namespace, "--identity", "operator"),
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return str(self.apiserver.kubectl(*arguments, "-n", self.namespace, stdin=stdin))

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(manifest) for manifest in manifests))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        done = self.apiserver.run_kubectl("get", kind, name, "-n", self.namespace, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def condition(self, kind: str, name: str, condition: str) -> str | None:
        found = self.get(kind, name) or {}
        conditions = (found.get("status") or {}).get("conditions") or ()
        return next((item["status"] for item in conditions if item["type"] == condition), None)

    def all_ready(self) -> bool:
        """Let the nodes act; whether each of the (at least four) resources is Ready."""
        self.kubelet.step()
        found = json.loads(self.kubectl("get", "km,rk,ki,kcc", "-o", "json"))["items"]
        return len(found) >= 4 and all(self._ready(item) == "True" for item in found)

    def allowlist(self, instance: str = "vc") -> dict[str, Any]:
        secret = self.get("secret", f"{instance}-allowlist")
        if secret is None:
            return {"revision": -1, "entries": []}
        decoded: dict[str, Any] = json.loads(base64.b64decode(secret["data"]["allowlist.json"]))
        return decoded

    def writes(self) -> list[str]:
        """The operator's writes so far (the audit log leaves out Leases and Events)."""
        rows = [json.loads(line) for line in Path(self.apiserver.audit_log).read_text().splitlines()]
        return [
            f"{row['verb']} {row['objectRef']['resource']}/{row['objectRef'].get('name')}"
            for row in rows
            if row.get("userAgent", "").startswith(USER_AGENT) and row["objectRef"].get("namespace") == self.namespace
        ]

    def end_state(self) -> dict[str, Any]:
        """What exists, without what differs between two clusters: names, owners, labels, and whether it works."""
        kinds = "km,rk,ki,kcc,secrets,configmaps,services,serviceaccounts,statefulsets,deployments,jobs,pdb"
        found = json.loads(self.kubectl("get", kinds, "-o", "json"))["items"]
        return {
            f"{item['kind']}/{JOB_ID.sub('-ID', item['metadata']['name'])}": {
                "owners": [owner["kind"] for owner in item["metadata"].get("ownerReferences") or ()],
                "labels": sorted(item["metadata"].get("labels") or {}),
                "finalizers": item["metadata"].get("finalizers"),
                "ready": self._ready(item),
            }
            for item in found
        }

    @staticmethod
    def _ready(item: dict[str, Any]) -> str | None:
        conditions = (item.get("status") or {}).get("conditions") or ()
        return next((entry["status"] for entry in conditions if entry["type"] == "Ready"), None)

    def give_lease_back(self) -> None:
        """In the place of a killed leader, so that a test need not wait until its Lease has run out."""
        patch = json.dumps({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
        self.apiserver.run_kubectl(
            "patch", "lease", "kmip-operator", "-n", self.namespace, "--type=merge", f"--patch={patch}"
        )

    def close(self) -> None:
        self.operator.kill()
        self.kubelet.stop()


@pytest.fixture
def cluster(apiserver: Any, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(apiserver, tmp_path)
    yield made
    made.close()


def test_four_resources_become_ready_and_nothing_is_written_afterwards(cluster: Cluster) -> None:
    with cluster.operator as operator:
        operator.wait_until_it_says("caches complete")
        cluster.apply(*lifecycle.everything())
        started = time.monotonic()
        wait_for("all four Ready", cluster.all_ready)
        print(f"all four Ready after {time.monotonic() - started:.1f} s (nodes simulated)")
        settled = quiet(cluster)
        wait_for_seconds(12)
        assert cluster.writes() == settled
        assert operator.http("/livez") == (200, "ok\n")
        assert operator.http("/readyz")[0] == 200
        metrics = operator.http("/metrics")[1]
        assert "kmip_operator_leader 1.0" in metrics
        assert "BEGIN" not in metrics
        print(f"resident memory {operator.resident_bytes() / 1e6:.0f} MB")
        for item in json.loads(cluster.kubectl("get", "km,rk,ki,kcc", "-o", "json"))["items"]:
            assert "finalizers" not in item["metadata"]
            assert not any("kopf" in key for key in item["metadata"].get("annotations") or {})


def test_a_restarted_operator_writes_nothing_either(cluster: Cluster) -> None:
    with cluster.operator as operator:
        operator.wait_until_it_says("caches complete")
        cluster.apply(*lifecycle.everything())
        wait_for("all four Ready", cluster.all_ready)
        settled = quiet(cluster)
        assert operator.terminate() == 0
        operator.start()
        operator.wait_until_it_says("caches complete")
        wait_for_seconds(6)
        assert cluster.writes() == settled


def test_a_certificate_is_published_and_withdrawn_at_once(cluster: Cluster) -> None:
    with cluster.operator as operator:
        operator.wait_until_it_says("caches complete")
        cluster.apply(*lifecycle.everything())
        wait_for("all four Ready", cluster.all_ready)
        quiet(cluster)
        took = [publish(cluster, f"more-{number}") for number in range(5)]
        print(
            "published after",
            ", ".join(f"{seconds * 1000:.0f} ms" for seconds in took),
            "(kubectl's own time included)",
        )
        cluster.kubectl("delete", "kcc", "more-0")
        wait_for("it is withdrawn", lambda: "more-0" not in [entry["name"] for entry in cluster.allowlist()["entries"]])


def publish(cluster: Cluster, name: str) -> float:
    """Apply a certificate and see it through; the seconds until the new revision was published."""
    revision = cluster.allowlist()["revision"]
    cluster.apply(lifecycle.client_certificate(name, lifecycle.certificate(name)))
    began = time.monotonic()
    wait_for("a new revision", lambda: cluster.allowlist()["revision"] > revision)
    took = time.monotonic() - began
    wait_for("the pod is told", lambda: told(cluster) == cluster.allowlist()["revision"])
    wait_for(f"{name} is Applied", lambda: confirmed(cluster, name))
    return took


def told(cluster: Cluster) -> int:
    """The revision in the pod's annotation."""
    pod = cluster.get("pod", "vc-0")
    assert pod is not None
    return int(pod["metadata"]["annotations"].get("kmip.dev/allowlist-revision", "0"))


def confirmed(cluster: Cluster, name: str) -> bool:
    cluster.kubelet.step()
    return cluster.condition("kcc", name, "Applied") == "True"


def test_a_hand_edit_is_put_back_and_said(cluster: Cluster) -> None:
    with cluster.operator as operator:
        operator.wait_until_it_says("caches complete")
        cluster.apply(*lifecycle.everything())
        wait_for("all four Ready", cluster.all_ready)
        quiet(cluster)
        cluster.kubectl("patch", "service", "vc", "--type=merge", '--patch={"spec":{"type":"NodePort"}}')
        wait_for("the type is put back", lambda: (cluster.get("service", "vc") or {})["spec"]["type"] == "ClusterIP")
        cluster.kubectl("delete", "configmap", "vc")
        wait_for("the ConfigMap is back", lambda: cluster.get("configmap", "vc"))

        def notes() -> list[str]:
            events = json.loads(cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
            return [event["note"] for event in events if event["reason"] == "DriftCorrected"]

        wait_for("both are said", lambda: len(notes()) >= 2)
        assert any("Service/vc was changed in spec.type" in note for note in notes())
        assert any("ConfigMap/vc was deleted" in note for note in notes())


def test_a_missing_secret_is_noticed_when_it_comes(cluster: Cluster) -> None:
    with cluster.operator as operator:
        operator.wait_until_it_says("caches complete")
        cluster.apply(*lifecycle.everything()[1:])
        wait_for("it is Stalled", lambda: cluster.condition("km", "soft", "Stalled") == "True")
        cluster.apply(lifecycle.seed_secret())
        wait_for("it goes on", lambda: cluster.condition("km", "soft", "Stalled") == "False")
        wait_for("all four Ready", cluster.all_ready)


def test_an_operator_that_loses_its_lease_ends_at_once(cluster: Cluster) -> None:
    with cluster.operator as operator:
        operator.wait_until_it_says("caches complete")
        patch = json.dumps({"spec": {"holderIdentity": "somebody-else"}})
        cluster.kubectl("patch", "lease", "kmip-operator", "--type=merge", f"--patch={patch}")
        assert operator.process is not None
        assert operator.process.wait(30) == 1
        assert operator.said("leadership lost")


def test_a_second_operator_waits_and_takes_over(cluster: Cluster, tmp_path: Path) -> None:
    arguments = ("--namespace", cluster.namespace, "--namespaces", cluster.namespace, "--identity", "second")
    second = OperatorProcess(cluster.apiserver.kubeconfig, tmp_path / "second.log", *arguments)
    with cluster.operator as first:
        first.wait_until_it_says("caches complete")
        with second:
            second.wait_until_it_says("started")
            assert second.http("/readyz")[0] == 200
            assert second.http("/livez")[0] == 200
            assert second.said("leading") is None
            assert first.terminate() == 0
            second.wait_until_it_says("caches complete")
            cluster.apply(*lifecycle.everything())
            wait_for("all four Ready", cluster.all_ready)


def test_any_moment_of_death_leads_to_the_same_end(apiserver: Any, tmp_path: Path) -> None:
    """A scripted life with the operator killed again and again ends as the same life without."""
    ends = []
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for disturbed in (False, True):
        folder = tmp_path / str(disturbed)
        folder.mkdir()
        cluster = Cluster(apiserver, folder)
        try:
            ends.append(live_a_life(cluster, random.Random(seed) if disturbed else None))
        finally:
            cluster.close()
    assert ends[0] == ends[1]


def live_a_life(cluster: Cluster, chance: random.Random | None) -> dict[str, Any]:
    """Create, change and remove; with ``chance``, kill -9 the operator within each step."""
    operator = cluster.operator
    operator.start()
    first, second = lifecycle.certificate("vc01"), lifecycle.certificate("vc02")
    seed, *resources = lifecycle.everything()[:4]
    steps: list[Any] = [
        lambda: cluster.apply(seed, *resources),
        lambda: cluster.apply(lifecycle.client_certificate("vc01", first)),
        lambda: cluster.apply(lifecycle.instance("second"), lifecycle.client_certificate("vc02", second, "second")),
        lambda: cluster.kubectl("patch", "ki", "vc", "--type=merge", '--patch={"spec":{"serving":"Fenced"}}'),
        lambda: cluster.kubectl("patch", "ki", "vc", "--type=merge", '--patch={"spec":{"serving":"Enabled"}}'),
        lambda: cluster.kubectl("delete", "kcc", "vc02"),
    ]
    for step in steps:
        step()
        if chance is None:
            continue
        for _ in range(2):
            operator.wait_until_it_says("leading")
            pause = chance.uniform(0.0, 2.0)
            end = time.monotonic() + pause
            while time.monotonic() < end:
                cluster.kubelet.step()
            operator.kill()
            cluster.give_lease_back()
            operator.start()

    def done() -> bool:
        second_empty = cluster.allowlist("second").get("entries") == []
        return cluster.all_ready() and second_empty

    wait_for("the end of the life", done, seconds=240)
    quiet(cluster)
    operator.terminate()
    return cluster.end_state()


def quiet(cluster: Cluster) -> list[str]:
    """Wait until the operator has written nothing for three seconds; its writes so far."""
    before: list[str] = []
    since = time.monotonic()

    def probe() -> bool:
        nonlocal before, since
        writes = cluster.writes()
        if writes != before:
            before, since = writes, time.monotonic()
        return time.monotonic() - since > 3.0

    wait_for("the operator is quiet", probe)
    return before


def wait_for_seconds(seconds: float) -> None:
    """A steady state has no event to wait for: its length is the test."""
    time.sleep(seconds)

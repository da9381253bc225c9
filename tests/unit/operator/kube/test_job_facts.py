"""What a Job and what is left of its pods say: an answer, that it never started, or nothing certain."""

from __future__ import annotations

from typing import Any

import pytest

from kmip_operator.kube.workloads import job_facts

WAITING = {"name": "custody", "restartCount": 0, "started": False, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
ENDED = {"name": "custody", "restartCount": 0, "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
REFUSAL = '{"action":"Probe","error":{"kind":"CredentialRefused","message":"the PIN is wrong."}}'


def job(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "probe-1", "uid": "job-uid", "creationTimestamp": "2026-11-01T10:00:00Z"},
        "status": {
            "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-11-01T10:02:00Z"}],
            **status,
        },
    }


def pod(node: str, phase: str, *containers: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"ownerReferences": [{"uid": "job-uid", "controller": True}]},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "containerStatuses": list(containers)},
    }


@pytest.mark.parametrize("pods", [[pod("", "Pending")], [pod("node", "Failed", WAITING)]])
def test_a_pod_that_proves_that_nothing_ran(pods: list[dict[str, Any]]) -> None:
    assert job_facts(job(failed=1), pods).pod_problem.startswith("JobNotStarted: ")


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod("node", "Pending", WAITING)],
        [pod("node", "Failed")],
        [pod("node", "Failed", ENDED)],
        [pod("node", "Failed", {**WAITING, "restartCount": 1})],
        [pod("node", "Failed", {**WAITING, "containerID": "containerd://1"})],
        [pod("node", "Failed", {**WAITING, "lastState": ENDED["state"]})],
        [pod("node", "Failed", {**WAITING, "state": {"waiting": {"reason": "ContainerCreating"}}})],
        [pod("", "Pending"), pod("node", "Failed", ENDED)],
    ],
)
def test_pods_that_are_gone_or_may_have_run_prove_nothing(pods: list[dict[str, Any]]) -> None:
    found = job_facts(job(failed=1), pods)
    assert found.result is None
    assert found.pod_problem
    assert not found.pod_problem.startswith("JobNotStarted")


def test_a_pod_that_is_gone_besides_one_that_never_ran_proves_nothing() -> None:
    assert not job_facts(job(failed=2), [pod("", "Pending")]).pod_problem.startswith("JobNotStarted")


def test_a_job_that_has_not_finished_is_not_said_to_have_never_started() -> None:
    assert not job_facts(job(conditions=[]), [pod("node", "Pending", WAITING)]).pod_problem.startswith("JobNotStarted")


def test_an_answer_is_an_answer() -> None:
    ended = {"name": "custody", "state": {"terminated": {"exitCode": 1, "message": REFUSAL}}}
    found = job_facts(job(failed=1), [pod("node", "Failed", ended)])
    assert found.result is not None
    assert found.pod_problem == ""

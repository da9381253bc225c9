"""The API alone: real, several at once, gone afterwards."""

import json

import pytest

from kind.native.apiserver import running_apiserver
from kind.native.processes import marked

pytestmark = pytest.mark.apiserver

POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "guard"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}
            ]
        },
        "validations": [{"expression": "!has(oldObject.metadata.labels)", "message": "it is guarded"}],
    },
}
BINDING = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "guard"},
    "spec": {"policyName": "guard", "validationActions": ["Deny"]},
}


def test_two_servers_know_nothing_of_each_other_and_leave_nothing() -> None:
    with running_apiserver() as first, running_apiserver() as second:
        first.kubectl("create", "configmap", "only-here")
        assert second.run_kubectl("get", "configmap", "only-here").returncode != 0
        writes = [json.loads(line) for line in first.audit_log.read_text().splitlines()]
        mine = [each for each in writes if each["objectRef"].get("name") == "only-here"]
        assert [(each["verb"], each["user"]["username"]) for each in mine] == [("create", "kubernetes-admin")]
        folders = [first.state.folder, second.state.folder]
    assert not any(folder.exists() or marked(str(folder)) for folder in folders)


def test_access_rules_and_admission_policies_apply() -> None:
    with running_apiserver() as server:
        user = str(server.user_kubeconfig("someone", "some-group"))
        refused = server.run_kubectl("--kubeconfig", user, "get", "configmaps")
        assert "Forbidden" in refused.stderr
        server.kubectl("create", "configmap", "kept")
        server.kubectl("label", "configmap", "kept", "guarded=yes")
        for each in (POLICY, BINDING):
            server.kubectl("apply", "-f", "-", stdin=json.dumps(each))
        # A policy counts from the moment the server has compiled it, which is not the moment of its answer.
        for _ in range(100):
            done = server.run_kubectl("delete", "configmap", "kept", "--dry-run=server")
            if done.returncode != 0:
                break
        assert "it is guarded" in done.stderr
        with pytest.raises(RuntimeError, match="it is guarded"):
            server.kubectl("delete", "configmap", "kept")

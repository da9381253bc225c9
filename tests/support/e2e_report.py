"""What to print when an end-to-end test fails: objects, events and logs of the namespaces it used."""

from __future__ import annotations

from collections.abc import Iterator

from support.e2e_cluster import OPERATOR_PODS, SYSTEM

from demo.kubernetes import CommandError, Kubernetes

_LINES = "25"


def report(kubernetes: Kubernetes, namespaces: list[str]) -> str:
    """The report as text."""
    return "\n".join(_parts(kubernetes, namespaces))


def _parts(kubernetes: Kubernetes, namespaces: list[str]) -> Iterator[str]:
    def ask(*arguments: str) -> str:
        try:
            return f"$ kubectl {' '.join(arguments)}\n{kubernetes.kubectl(*arguments)}"
        except CommandError as error:
            return f"$ kubectl {' '.join(arguments)}\n{error}"

    for namespace in namespaces:
        yield ask("-n", namespace, "get", "kmip,pods,jobs,pvc,services", "-o", "wide")
        yield ask("-n", namespace, "get", "events", "--sort-by=.lastTimestamp")
        columns = "custom-columns=KIND:.kind,NAME:.metadata.name,CONDITIONS:.status.conditions[*].message"
        yield ask("-n", namespace, "get", "keymanagers,rootkeys,kmipinstances,clientcertificates", "-o", columns)
        for pod in kubernetes.kubectl("-n", namespace, "get", "pods", "-o", "name").split():
            yield ask("-n", namespace, "logs", pod, "--all-containers", "--prefix", f"--tail={_LINES}")
    yield ask("-n", SYSTEM, "logs", "-l", OPERATOR_PODS, "--prefix", f"--tail={_LINES}")
    yield ask("-n", SYSTEM, "get", "pods", "-o", "wide")

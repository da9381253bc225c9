"""The cluster of the end-to-end tests: started, filled and installed once, taken down at the end.

KMIP_E2E_KEEP=1 leaves it up with what failed tests left in it; KMIP_E2E_AS_IS=1 takes one that is up with the images and the
operator that are in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.e2e_audit import AuditLog
from support.e2e_cluster import SYSTEM, Cluster
from support.e2e_discard import discard
from support.e2e_operator import OperatorLog
from support.e2e_report import report

from demo import cluster as clusters
from demo import job
from demo.clients import Endpoint
from demo.cluster import ClusterKind
from demo.kubernetes import Kubernetes
from demo.steps import step
from kind.native.state import State

NAME = os.environ.get("KMIP_E2E_CLUSTER", "kmip-e2e")
KEEP = os.environ.get("KMIP_E2E_KEEP") == "1"
AS_IS = os.environ.get("KMIP_E2E_AS_IS") == "1"
_LAST = "test_e2e_afterwards"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at everything the other tests left behind comes last."""
    items.sort(key=lambda item: item.path.stem == _LAST)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster with the operator of the working tree in it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    loud = capture.global_and_fixture_disabled if capture is not None else contextlib.nullcontext
    try:
        with loud():
            print()
            kubernetes = clusters.existing_native(NAME) if AS_IS else _prepared(tmp_path_factory.mktemp("images"))
        work = tmp_path_factory.mktemp("clients")
        yield Cluster(kubernetes.kubeconfig, kubernetes.bin_dir, State.of(NAME), work)
    finally:
        if not KEEP:
            with loud():
                clusters.stop(ClusterKind.NATIVE, NAME)


def _prepared(images: Path) -> Kubernetes:
    with step(f"a Kubernetes cluster ({NAME})"):
        kubernetes = clusters.start(ClusterKind.NATIVE, NAME)
    with step("images onto the nodes"):
        clusters.load_images(ClusterKind.NATIVE, NAME, images)
    with step("helm upgrade --install kmip-operator"):
        job.install(kubernetes)
        # Images of one tag are not pulled anew: pods of an earlier run would go on with the old ones.
        kubernetes.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/kmip-operator")
        kubernetes.kubectl("-n", SYSTEM, "rollout", "status", "deployment/kmip-operator")
    return kubernetes


@pytest.fixture(scope="session")
def audit(cluster: Cluster) -> AuditLog:
    return AuditLog(cluster.state.logs / "audit.log")


@pytest.fixture(scope="session")
def operator_log(cluster: Cluster) -> OperatorLog:
    return OperatorLog(cluster.state)


@pytest.fixture(autouse=True)
def _keep_operator_log(operator_log: OperatorLog) -> Iterator[None]:
    """Pods that a test replaces take their logs with them."""
    yield
    operator_log.collect()


@dataclass(frozen=True)
class MainJob:
    """What the demonstration's own steps made: the endpoints of both examples, and where the certificates are."""

    vsphere: Endpoint
    regions: list[Endpoint]
    work: Path
    times: tuple[float, float]


@pytest.fixture(scope="session")
def main_job(cluster: Cluster) -> MainJob:
    """The demonstration, on this cluster."""
    endpoint = job.vsphere(cluster, cluster.work)
    job.use(cluster, endpoint, cluster.work)
    times = job.rotate(cluster, endpoint, cluster.work)
    return MainJob(endpoint, job.regions(cluster, cluster.work), cluster.work, times)


def _new_namespace(cluster: Cluster, name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    namespace = f"e2e-{plain[:30].strip('-')}-{secrets.token_hex(2)}"
    cluster.namespace(namespace)
    return namespace


@pytest.fixture(scope="module")
def module_namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test file's own."""
    namespace = _new_namespace(cluster, request.path.stem.removeprefix("test_e2e_"))
    yield namespace
    if not KEEP:
        discard(cluster, namespace)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    namespace = _new_namespace(cluster, request.node.name.removeprefix("test_"))
    yield namespace
    if not KEEP:
        discard(cluster, namespace)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Say what the cluster looked like when a test failed."""
    result: pytest.TestReport = yield  # type: ignore[assignment]
    arguments = getattr(item, "funcargs", {})
    cluster = arguments.get("cluster")
    if result.failed and isinstance(cluster, Cluster):
        namespaces = [value for name, value in arguments.items() if name.endswith("namespace")]
        namespaces += ["vsphere", "regions"] if "main_job" in arguments else []
        result.sections.append(("the cluster", report(cluster, namespaces)))
    return result  # type: ignore[return-value]

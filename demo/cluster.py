"""Which cluster the demonstration runs on: a native one, kind with Docker, or the one KUBECONFIG names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from demo.kubernetes import ROOT, Kubernetes, run
from demo.steps import note

IMAGES = ("operator", "kmipd", "custody", "custody-softhsm", "postgresql")
CLUSTER_NAME = "kmip-demo"


class ClusterKind(StrEnum):
    """Where the cluster comes from."""

    AUTO = "auto"
    NATIVE = "native"
    KIND = "kind"
    CURRENT = "current"


def choose(kind: ClusterKind) -> ClusterKind:
    """``AUTO`` is kind where Docker answers and kind is installed, else native."""
    if kind is not ClusterKind.AUTO:
        return kind
    if shutil.which("kind") and shutil.which("docker"):
        answers = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
        if answers:
            return ClusterKind.KIND
    return ClusterKind.NATIVE


def _stream(*command: str | Path) -> None:
    """Run a command whose own progress a person should see."""
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT)


def start(kind: ClusterKind) -> Kubernetes:
    """Bring the cluster up (building what it needs first) and return how to reach it."""
    if kind is ClusterKind.CURRENT:
        if "KUBECONFIG" not in os.environ:
            note("KUBECONFIG is not set: kubectl's default is used")
        return Kubernetes(None, None)
    if kind is ClusterKind.KIND:
        names = run(["kind", "get", "clusters"]).split()
        if CLUSTER_NAME not in names:
            _stream("kind", "create", "cluster", "--name", CLUSTER_NAME, "--config", ROOT / "kind" / "kind.yaml")
        kubeconfig = ROOT / ".demo" / "kubeconfig"
        kubeconfig.parent.mkdir(exist_ok=True)
        kubeconfig.write_text(run(["kind", "get", "kubeconfig", "--name", CLUSTER_NAME]))
        return Kubernetes(kubeconfig, None)
    _stream(sys.executable, ROOT / "kind" / "native", "build")
    _stream(sys.executable, ROOT / "kind" / "native", "up", "--name", CLUSTER_NAME)
    return existing_native()


def existing_native() -> Kubernetes:
    """The native cluster that is up."""
    kubeconfig = run([sys.executable, "kind/native", "kubeconfig", "--name", CLUSTER_NAME]).strip()
    return Kubernetes(Path(kubeconfig), Path(run([sys.executable, "kind/native", "bin"]).strip()))


def load_images(kind: ClusterKind) -> None:
    """Build the images and put them on every node."""
    if kind is ClusterKind.CURRENT:
        note("the cluster must be able to pull the images named in the examples")
        return
    if kind is ClusterKind.KIND:
        for image in IMAGES:
            name = f"localhost/kmip-operator/{image}:dev"
            _stream("docker", "build", "--quiet", "--target", image, "--tag", name, ".")
            _stream("kind", "load", "docker-image", name, "--name", CLUSTER_NAME)
        return
    out = ROOT / ".demo" / "images"
    _stream(sys.executable, ROOT / "kind" / "images", "build", *IMAGES, "--out", out)
    archives = [out / f"{image}.tar" for image in IMAGES]
    _stream(sys.executable, ROOT / "kind" / "native", "load", "--name", CLUSTER_NAME, *archives)


def stop(kind: ClusterKind) -> None:
    """Remove the cluster and everything on it."""
    if kind is ClusterKind.KIND:
        _stream("kind", "delete", "cluster", "--name", CLUSTER_NAME)
    elif kind is ClusterKind.NATIVE:
        _stream(sys.executable, ROOT / "kind" / "native", "down", "--name", CLUSTER_NAME)
    shutil.rmtree(ROOT / ".demo", ignore_errors=True)

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


def start(kind: ClusterKind, name: str = CLUSTER_NAME) -> Kubernetes:
    """Bring the cluster ``name`` up (building what it needs first) and return how to reach it."""
    if kind is ClusterKind.CURRENT:
        if "KUBECONFIG" not in os.environ:
            note("KUBECONFIG is not set: kubectl's default is used")
        return Kubernetes(None, None)
    if kind is ClusterKind.KIND:
        names = run(["kind", "get", "clusters"]).split()
        if name not in names:
            _stream("kind", "create", "cluster", "--name", name, "--config", ROOT / "kind" / "kind.yaml")
        kubeconfig = ROOT / ".demo" / "kubeconfig"
        kubeconfig.parent.mkdir(exist_ok=True)
        kubeconfig.write_text(run(["kind", "get", "kubeconfig", "--name", name]))
        return Kubernetes(kubeconfig, None)
    _stream(sys.executable, ROOT / "kind" / "native", "build")
    _stream(sys.executable, ROOT / "kind" / "native", "up", "--name", name)
    return existing_native(name)


def existing_native(name: str = CLUSTER_NAME) -> Kubernetes:
    """The native cluster ``name``, which is up."""
    kubeconfig = run([sys.executable, "kind/native", "kubeconfig", "--name", name]).strip()
    return Kubernetes(Path(kubeconfig), Path(run([sys.executable, "kind/native", "bin"]).strip()))


def load_images(kind: ClusterKind, name: str = CLUSTER_NAME, out: Path = ROOT / ".demo" / "images") -> None:
    """Build the images (into ``out`` where no container engine is) and put them on every node."""
    if kind is ClusterKind.CURRENT:
        note("the cluster must be able to pull the images named in the examples")
        return
    if kind is ClusterKind.KIND:
        for image in IMAGES:
            tag = f"localhost/kmip-operator/{image}:dev"
            _stream("docker", "build", "--quiet", "--target", image, "--tag", tag, ".")
            _stream("kind", "load", "docker-image", tag, "--name", name)
        return
    _stream(sys.executable, ROOT / "kind" / "images", "build", *IMAGES, "--out", out)
    archives = [out / f"{image}.tar" for image in IMAGES]
    _stream(sys.executable, ROOT / "kind" / "native", "load", "--name", name, *archives)


def stop(kind: ClusterKind, name: str = CLUSTER_NAME) -> None:
    """Remove the cluster ``name`` and everything on it."""
    if kind is ClusterKind.KIND:
        _stream("kind", "delete", "cluster", "--name", name)
    elif kind is ClusterKind.NATIVE:
        _stream(sys.executable, ROOT / "kind" / "native", "down", "--name", name)

"""What is built, from which pinned modules, and where it is kept.

The versions stand in `build/*/go.mod`, their checksums in `build/*/go.sum`. A tool's identity is the hash of its
folder and flags, so a new pin builds anew what it changes and nothing else.
"""

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).resolve().parent / "build"
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class PinError(Exception):
    """A pin that contradicts another."""


@dataclass(frozen=True)
class Tool:
    """One folder of `build/`: `outputs` maps each binary's name to the Go package (or C file) it is made from."""

    folder: str
    outputs: tuple[tuple[str, str], ...]
    cgo: bool = False
    tags: str = ""
    linker: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        """The folder with the pins."""
        return BUILD / self.folder


def pinned_version(folder: str, module: str) -> str:
    """The version of `module` in `build/FOLDER/go.mod`.

    Raises:
        PinError: The module is not required there.
    """
    for line in (BUILD / folder / "go.mod").read_text().splitlines():
        words = line.removeprefix("require ").split()
        if len(words) >= 2 and words[0] == module and words[1].startswith("v"):
            return words[1]
    message = f"{module} is not required in build/{folder}/go.mod"
    raise PinError(message)


KUBERNETES_VERSION = pinned_version("kubernetes", "k8s.io/kubernetes")


def _kubernetes_linker() -> tuple[str, ...]:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
        "gitCommit": "module",
    }
    return tuple(f"-X={package}.{key}={value}" for package in _VERSION_PACKAGES for key, value in values.items())


def _version(variable: str, folder: str, module: str) -> tuple[str, ...]:
    return (f"-X={variable}={pinned_version(folder, module)}",)


_CONTAINERD = "github.com/containerd/containerd/v2"
_HELM = "helm.sh/helm/v4"


def _same(prefix: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, prefix + name) for name in names)


# In the order they are built: what the API-server-only mode needs comes first.
TOOLS = (
    Tool("etcd", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    Tool(
        "kubernetes",
        _same(
            "k8s.io/kubernetes/cmd/",
            "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
        ),
        linker=_kubernetes_linker(),
    ),
    Tool(
        "containerd",
        _same(f"{_CONTAINERD}/cmd/", "containerd", "containerd-shim-runc-v2", "ctr"),
        linker=_version(f"{_CONTAINERD}/version.Version", "containerd", _CONTAINERD),
    ),
    Tool("runc", (("runc", "github.com/opencontainers/runc"),), cgo=True, tags="seccomp"),
    Tool("coredns", (("coredns", "."),)),
    Tool(
        "helm",
        (("helm", f"{_HELM}/cmd/helm"),),
        linker=_version(f"{_HELM}/internal/version.version", "helm", _HELM),
    ),
    Tool("probe", (("probe", "."),)),
    Tool("pause", (("pause", "pause.c"),), cgo=True),
)  # fmt: skip
API_TOOLS = ("etcd", "kubernetes")
# Built when named alone: no part of a cluster, so a change here leaves the folder of a cluster's binaries as it is.
OPTIONAL_TOOLS = (Tool("vault", (("vault", "github.com/hashicorp/vault"),)),)


def cache_root() -> Path:
    """Where built things live: `$KMIP_CACHE`, else `$XDG_CACHE_HOME`, else `~/.cache`; then `kmip-operator`."""
    chosen = os.environ.get("KMIP_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen else Path.home() / ".cache") / "kmip-operator"


def tool_hash(tool: Tool) -> str:
    """Identity of a tool: its files, flags and the machine's architecture (hex, 16 digits)."""
    digest = hashlib.sha256(repr((tool, platform.machine())).encode())
    for path in sorted(tool.source.iterdir()):
        if path.suffix in {".go", ".c", ".mod", ".sum"}:
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def tool_folder(tool: Tool) -> Path:
    """Where a tool's binaries are kept."""
    return cache_root() / "tools" / f"{tool.folder}-{tool_hash(tool)}"


def bin_folder() -> Path:
    """The folder of all binaries under their plain names, named by the hash of every pin."""
    digest = hashlib.sha256("\0".join(tool_hash(tool) for tool in TOOLS).encode())
    return cache_root() / "bin" / digest.hexdigest()[:16]


def images_folder() -> Path:
    """The folder of the image archives made from these binaries."""
    return cache_root() / "images" / bin_folder().name

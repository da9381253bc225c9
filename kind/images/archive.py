"""Docker archives: layers, a configuration and a manifest in one tar that docker, podman and containerd import."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from kind.images.layertar import EPOCH, Blob, entry
from kind.images.model import USER, Image

# Names of this machine's architectures (uname -m) in image configurations (GOARCH).
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Built:
    """An image with its finished layers and its configuration, whose SHA-256 is the image's id."""

    image: Image
    layers: tuple[Blob, ...]
    config: bytes

    @property
    def id(self) -> str:
        """The image's id in hexadecimal."""
        return sha256(self.config).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all layers, uncompressed."""
        return sum(layer.size for layer in self.layers)


def configuration(image: Image, layers: Sequence[Blob], version: str, machine: str) -> bytes:
    """Return an image configuration (OCI image specification 1.1, config.md) as JSON."""
    created = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "architecture": ARCHITECTURES[machine],
        "os": "linux",
        "created": created,
        "config": {
            "User": USER,
            "Env": [f"{name}={value}" for name, value in sorted(image.environment().items())],
            "Entrypoint": list(image.entrypoint),
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": image.title,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.version": version,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in layers]},
        "history": [{"created": created, "created_by": f"layer {name}"} for name in image.layers],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def manifest(images: Sequence[Built], tag: str) -> bytes:
    """Return the archive's list of images."""
    return json.dumps(
        [
            {
                "Config": f"{built.id}.json",
                "RepoTags": [built.image.reference(tag)],
                "Layers": [f"{layer.sha256}.tar" for layer in built.layers],
            }
            for built in images
        ],
        separators=(",", ":"),
    ).encode()


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the list of images of an archive."""
    with tarfile.open(path, "r:") as tar:
        member = tar.extractfile("manifest.json")
        if member is None:
            raise ValueError(f"{path}: no manifest.json")
        document: list[dict[str, Any]] = json.load(member)
        return document


def _is_current(path: Path, wanted: bytes) -> bool:
    try:
        with tarfile.open(path, "r:") as tar:
            first = tar.next()
            member = tar.extractfile(first) if first is not None and first.name == "manifest.json" else None
            return member is not None and member.read() == wanted
    except (OSError, tarfile.TarError):
        return False


def write_archive(path: Path, images: Sequence[Built], tag: str) -> bool:
    """Write images into one archive, layers they share once. The same images give the same bytes.

    Returns:
        Whether anything was written: an archive that already holds exactly these is left alone.
    """
    listing = manifest(images, tag)
    if _is_current(path, listing):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            # The manifest comes first: it tells at once whether the archive is current.
            tar.addfile(entry("manifest.json", tarfile.REGTYPE, 0o644, len(listing)), io.BytesIO(listing))
            for name, config in sorted({f"{built.id}.json": built.config for built in images}.items()):
                tar.addfile(entry(name, tarfile.REGTYPE, 0o644, len(config)), io.BytesIO(config))
            for name, layer in {f"{layer.sha256}.tar": layer for built in images for layer in built.layers}.items():
                with layer.path.open("rb") as content:
                    tar.addfile(entry(name, tarfile.REGTYPE, 0o644, layer.size), content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True

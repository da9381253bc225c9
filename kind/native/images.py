"""Image archives made without any image tool: one static binary in one layer, and their import into nodes."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from kind.native.pins import images_folder, pinned_version

PAUSE = "localhost/kmip-native/pause:1"
COREDNS = f"localhost/kmip-native/coredns:{pinned_version('coredns', 'github.com/coredns/coredns')}"
PROBE = "localhost/kmip-native/probe:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Image reference and binary, of all images this package brings.
OWN_IMAGES = ((PAUSE, "pause"), (COREDNS, "coredns"), (PROBE, "probe"))


def architecture() -> str:
    """This machine's architecture in the container world's spelling."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def ensure_images(binaries: Path) -> dict[str, Path]:
    """Make the archives that are missing; image reference → archive."""
    folder = images_folder()
    folder.mkdir(parents=True, exist_ok=True)
    archives = {}
    for reference, name in OWN_IMAGES:
        archive = folder / f"{name}.tar"
        if not archive.exists():
            scratch = archive.with_suffix(".partial")
            scratch.write_bytes(docker_archive(reference, name, (binaries / name).read_bytes()))
            scratch.replace(archive)
        archives[reference] = archive
    return archives


def docker_archive(reference: str, name: str, binary: bytes) -> bytes:
    """A docker-archive of one executable `/NAME`, which is its entry point; equal input gives equal bytes."""
    layer = _tar([(name, binary, 0o755)])
    config = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [f"/{name}"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created_by": "kind/native"}],
        },
        sort_keys=True,
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    return _tar([(config_name, config, 0o644), ("layer.tar", layer, 0o644), ("manifest.json", manifest, 0o644)])


def _tar(files: list[tuple[str, bytes, int]]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return output.getvalue()

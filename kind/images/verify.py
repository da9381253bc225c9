"""Verification of built images: their files are inspected, then their programs run as a strict pod would run them."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kind.images import inspection, sandbox
from kind.images.archive import Built
from kind.images.builder import Builder
from kind.images.errors import ImageError
from kind.images.probes import FIXED_UID, PROBES, SHELL_LESS, SIZE_LIMIT, TIMEOUT, Probe
from kind.images.progress import note, step
from kind.images.run import need

# Uids that exist on no sensible host, as OpenShift and the like assign them.
_UID_FIRST = 1_000_000_000
_UID_COUNT = 100_000_000


def inspect(root: Path, built: Built) -> Iterator[str]:
    """Yield what is wrong with an unpacked image's files."""
    name = built.image.name
    yield from inspection.bad_modes(root)
    yield from inspection.dangling(root)
    yield from inspection.missing_libraries(root)
    if name in SHELL_LESS:
        yield from (f"{path} is a shell" for path in inspection.shells(root))
    if built.size > SIZE_LIMIT.get(name, sys.maxsize):
        yield f"{built.size} bytes, more than {SIZE_LIMIT[name]}"
    if not (root / built.image.entrypoint[0].lstrip("/")).exists():
        yield f"the entry point {built.image.entrypoint[0]} is not there"


def execute(root: Path, built: Built, probe: Probe, uid: int) -> tuple[bool, str]:
    """Run a probe in an unpacked image; tell whether it did what was expected, and what it wrote."""
    environment = built.image.environment() | dict(probe.env)
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", sys.executable]
    argv += [str(Path(sandbox.__file__)), str(root), str(uid), json.dumps(environment), *probe.argv]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return False, f"not finished after {TIMEOUT} s"
    output = (done.stdout + done.stderr).strip()
    return done.returncode == 0 and probe.expect in done.stdout, output


def _verify_one(builder: Builder, built: Built) -> list[str]:
    name = built.image.name
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        root = Path(folder, "root")
        root.mkdir()
        # The folder above is private to root; the uid inside starts at the image's root and does not pass it.
        builder.unpack(built.image.layers, root)
        root.chmod(0o755)
        failures += [f"{name}: {finding}" for finding in inspect(root, built)]
        for probe in PROBES[name]:
            uid = FIXED_UID.get(name, _UID_FIRST + secrets.randbelow(_UID_COUNT))
            passed, output = execute(root, built, probe, uid)
            last = output.splitlines()[-1] if output else ""
            note(f"  {name}: {probe.name} (uid {uid}): {'ok' if passed else 'FAILED'}  {last}")
            if not passed:
                failures.append(f"{name}: {probe.name}:\n{output}")
    return failures


def verify(builder: Builder, names: Sequence[str]) -> bool:
    """Verify images, building them first where needed; report to standard error.

    Returns:
        Whether everything was found in order.

    Raises:
        ImageError: not run as root, which namespaces and mounts need here.
    """
    if os.geteuid() != 0:
        raise ImageError("verification needs root: it mounts the image read-only and changes the uid")
    need({"readelf": "binutils", "unshare": "util-linux", "mount": "mount"})
    failures: list[str] = []
    for name in names:
        built = builder.image(name)
        with step(f"verify {name} ({built.size / 1_000_000:.1f} MB)"):
            failures += _verify_one(builder, built)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return not failures

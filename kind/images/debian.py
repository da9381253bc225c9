"""Debian packages: fetched and verified by mmdebstrap, their chosen files laid out as a folder."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote

from kind.images.errors import ImageError
from kind.images.model import DebianLayer
from kind.images.paths import Selection
from kind.images.run import run

NEEDS = {"mmdebstrap": "mmdebstrap", "dpkg-deb": "dpkg"}


def fetch(packages: Collection[str], suite: str, sources: list[str], target: Path) -> None:
    """Download packages into a folder, as apt verified them.

    Raises:
        ImageError: a package is unknown, a signature does not hold, or the mirror does not answer.
    """
    argv = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}"]
    # apt leaves what it verified here; the extracted tree itself is thrown away (/dev/null).
    argv += [f"--extract-hook=copy-out /var/cache/apt/archives {target}", suite, "/dev/null", *sources]
    run(argv)
    wanted = set(packages)
    for name, deb in index(target / "archives").items():
        # What was only fetched because something depends on it is in no image.
        if name in wanted:
            deb.rename(target / deb.name)
    shutil.rmtree(target / "archives")


def index(pool: Path) -> dict[str, Path]:
    """Map package names to their files in a pool."""
    return {deb.name.split("_", 1)[0]: deb for deb in sorted(pool.glob("*.deb"))}


def fingerprint(pool: Path, packages: Collection[str]) -> list[str]:
    """List the files, whose names hold the versions, of some packages: with them every layer made from them is decided."""
    return sorted(unquote(deb.name) for name, deb in index(pool).items() if name in packages)


def _extract(stream: BinaryIO, select: Selection, tree: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            name = member.name.removeprefix("./").strip("/")
            # Empty folders are not carried along: those an image needs are in its recipe.
            if not name or member.isdir() or not select.allows(name):
                continue
            member.name = name
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            # Only the x bits count later; setuid and setgid must not reach an image.
            member.mode = 0o755 if member.mode & 0o111 else 0o644
            tar.extract(member, tree, set_attrs=True, filter="fully_trusted")


def lay_out(layer: DebianLayer, pool: Path, tree: Path) -> None:
    """Fill a folder with a layer's files.

    Each package's control data goes to ``var/lib/dpkg/status.d``, where scanners look for what an image without dpkg holds.

    Raises:
        ImageError: the pool lacks one of the packages.
    """
    available = index(pool)
    status = tree / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package in layer.packages:
        deb = available.get(package)
        if deb is None:
            raise ImageError(f"Debian {package}: not among the packages fetched; was it renamed?")
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as unpack:
            _extract(cast(BinaryIO, unpack.stdout), layer.select, tree)
        if unpack.returncode != 0:
            raise ImageError(f"dpkg-deb could not unpack {deb.name}")
        (status / package).write_text(run(["dpkg-deb", "--field", str(deb)]), encoding="utf-8")
    for name, text in layer.files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, target in layer.links.items():
        path = tree / name.replace("MULTIARCH", f"{platform.machine()}-linux-gnu")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for name in layer.folders:
        (tree / name).mkdir(parents=True, exist_ok=True)
    if layer.authorities:
        _write_authorities(tree)


def _write_authorities(tree: Path) -> None:
    source = tree / "usr/share/ca-certificates/mozilla"
    certificates = [file.read_text(encoding="ascii").strip() for file in sorted(source.glob("*.crt"))]
    if not certificates:
        raise ImageError("ca-certificates holds no authorities where they are expected")
    target = tree / "etc/ssl/certs/ca-certificates.crt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(certificates) + "\n", encoding="ascii")
    shutil.rmtree(source.parent)
